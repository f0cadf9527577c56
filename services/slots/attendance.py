"""One visit on one slot, followed from outside: messages, time limit, death."""

from __future__ import annotations

__all__ = ["Attendance", "ImageFeed", "SlotDied"]

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import wait

from models.errors import Interrupted, NotRetriable, ProcessingError
from models.raws import FoundImage
from services.slots.process import SlotProcess
from services.slots.protocol import (
    Finished,
    ImageArrived,
    MessagesMade,
    ProcessVisit,
    Stage,
    StageReached,
)

_log = logging.getLogger(__name__)

#: Seconds that the system may need to end a process that was sent SIGKILL.
_KILL_TIME = 5.0


class ImageFeed:
    """Images on their way from the listener to the slot of a visit.

    All are kept, for the slot that the visit gets later, and for another one
    should that be needed. `deliver` never blocks, so one stuck slot cannot
    hold up the listener.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._images: list[FoundImage] = []
        self._taken = 0
        self._wake: Callable[[], None] | None = None

    def deliver(self, image: FoundImage) -> None:
        """Hand over an image; from any thread."""
        with self._lock:
            self._images.append(image)
            if self._wake is not None:
                self._wake()

    def connect(self, wake: Callable[[], None] | None) -> None:
        """Begin anew: set what is called when there are images, from the
        first one on.
        """
        with self._lock:
            self._taken = 0
            self._wake = wake
            if wake is not None and self._images:
                wake()

    def take(self) -> list[FoundImage]:
        """Return the images that have come since the last call."""
        with self._lock:
            images = self._images[self._taken :]
            self._taken = len(self._images)
            return images


class SlotDied(Exception):
    """The slot ended before its visit did."""


class Attendance:
    """Follows one visit on one slot.

    Parameters
    ----------
    process : `services.slots.process.SlotProcess`
    request : `services.slots.protocol.ProcessVisit`
    images : `ImageFeed`
    on_messages : callable
        Called with messages that are to leave before the visit's end; must
        not block, for it is here that the time limit is watched.
    time_limit : `float`
        Seconds after which the visit is told to stop.
    grace_period : `float`
        Seconds that it then has until the slot is killed.

    Attributes
    ----------
    stage : `services.slots.protocol.Stage`
        The last that was reported.
    exposures : `tuple` [`int`, ...]
        The last that were reported.
    began : `bool`
        Whether the slot has reported anything.
    sent : `int`
        Messages that are to leave before the visit's end.
    stopped_because : `str`
        Why the visit was told to stop; empty if it was not.
    killed : `bool`
        Whether the slot was killed because it did not stop.
    """

    def __init__(
        self,
        *,
        process: SlotProcess,
        request: ProcessVisit,
        images: ImageFeed,
        on_messages: Callable[[MessagesMade], object],
        time_limit: float,
        grace_period: float,
    ) -> None:
        self._process = process
        self._request = request
        self._images = images
        self._on_messages = on_messages
        self._time_limit = time_limit
        self._grace_period = grace_period
        self._lock = threading.Lock()
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._order: tuple[str, float] | None = None
        self.stage = Stage.PREPARING
        self.began = False
        self.sent = 0
        self.since = time.time()
        self.exposures: tuple[int, ...] = ()
        self.stopped_because = ""
        self.killed = False

    def stop(self, because: str, grace_period: float) -> None:
        """Tell the visit to stop; from any thread.

        Parameters
        ----------
        because : `str`
            For the answer.
        grace_period : `float`
            Seconds until the slot is killed.
        """
        self._order = (because, grace_period)
        self._wake()

    def _wake(self) -> None:
        with self._lock:
            if self._wakeup >= 0:
                os.eventfd_write(self._wakeup, 1)

    def follow(self) -> Finished:
        """Have the visit processed.

        Raises
        ------
        SlotDied
            Raised if the slot ends before it has answered.
        """
        try:
            self._images.connect(self._wake)
            self._process.send(self._request)
            return self._loop()
        except (EOFError, OSError) as error:
            raise SlotDied from error
        finally:
            self._images.connect(None)
            with self._lock:
                os.close(self._wakeup)
                self._wakeup = -1

    def meaning_of_death(self, what: str, *, apdb_contains: bool | None) -> ProcessingError:
        """Return what the slot's death means for the visit.

        Parameters
        ----------
        what : `str`
            What happened, for people.
        apdb_contains : `bool` or `None`
            Whether the APDB holds the visit, if that was asked and is known.
        """
        if self.stage.harmless:
            return Interrupted(f"{what}; nothing had been changed")
        if self.sent:
            return NotRetriable(f"{what}; {self.sent} alerts of the visit were sent already")
        if apdb_contains is False:
            return Interrupted(f"{what}; the APDB holds nothing of the visit")
        if apdb_contains:
            return NotRetriable(f"{what}; the APDB holds the visit already")
        return NotRetriable(f"{what}; whether APDB or alerts have changed cannot be determined")

    def _loop(self) -> Finished:
        connection, pidfd = self._process.connection, self._process.pidfd
        deadline = time.monotonic() + self._time_limit
        while True:
            ready = wait([connection, pidfd, self._wakeup], max(0.0, deadline - time.monotonic()))
            if connection in ready:
                # Before the process's end is looked at: the answer may have
                # been its last deed.
                finished = self._receive()
                if finished is not None:
                    return finished
            elif pidfd in ready:
                raise SlotDied
            if self._wakeup in ready:
                self._attend_wakeup()
            if self._order is not None:
                because, grace = self._order
                self._order = None
                if not self.stopped_because:
                    deadline = self._tell_to_stop(because, grace)
            if time.monotonic() >= deadline:
                deadline = self._enforce()

    def _receive(self) -> Finished | None:
        message = self._process.connection.recv()
        match message:
            case Finished():
                return message
            case StageReached(stage=stage, exposures=exposures):
                self.stage, self.since, self.began = stage, time.time(), True
                self.exposures = exposures or self.exposures
            case MessagesMade(messages=messages):
                self.sent += len(messages)
                self._on_messages(message)
            case _:
                _log.warning("Slot process %d said what was not asked: %r", self._process.pid, message)
        return None

    def _attend_wakeup(self) -> None:
        os.eventfd_read(self._wakeup)
        for image in self._images.take():
            self._process.send(ImageArrived(image=image))

    def _tell_to_stop(self, because: str, grace_period: float) -> float:
        _log.warning("Visit %s is told to stop: %s.", self._request.visit, because)
        self.stopped_because = because
        self._process.signal(signal.SIGTERM)
        return time.monotonic() + grace_period

    def _enforce(self) -> float:
        """Take the next harder measure; return when the one after is due."""
        if not self.stopped_because:
            return self._tell_to_stop(f"it took longer than {self._time_limit:g} s", self._grace_period)
        if not self.killed:
            _log.error("Visit %s did not stop; its slot is killed.", self._request.visit)
            self.killed = True
            self._process.signal(signal.SIGKILL)
            return time.monotonic() + _KILL_TIME
        raise SlotDied("the slot could not even be killed")
