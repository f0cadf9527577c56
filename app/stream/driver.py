"""Takes visits from a stream, one at a time, and sees each to its end.

What became of an entry is in the stream alone: acknowledged, or pending with
the number of its deliveries. So any worker can go on where any other died.
"""

from __future__ import annotations

__all__ = ["DriverConfig", "StreamDriver"]

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from app.stream.keeper import ClaimKeeper
from app.stream.parts import Visits, VisitStream
from models.errors import (
    AlreadyInProgress,
    InvalidMessage,
    ProcessingError,
    Rejected,
    TemporarilyUnavailable,
)
from models.outcomes import Result
from models.stream_claims import ClaimedEntry
from models.stream_entries import from_stream_entry
from models.visits import FannedOutVisit

_log = logging.getLogger(__name__)

#: Deliveries after which an entry without a result is given up.
_DELIVERIES = 2
#: Longest wait for an entry, seconds; in between the worker looks whether it
#: is to stop.
_LONGEST_WAIT = 1.0
#: Parts of the time after which an entry may be taken over: the pause between
#: two signs of life, between two looks for such entries, and before a visit
#: that another processes is looked at again.
_REFRESH_PART, _LOOK_PART, _AGAIN_PART = 1 / 3, 1 / 10, 1 / 3


@dataclass(frozen=True)
class DriverConfig:
    """Times in seconds.

    Attributes
    ----------
    claim_idle : `float`
        Without a sign of life, after which an entry may be taken over.
    retry_delay : `float`
        Between two tries of a stream that cannot be reached.
    listen_timeout : `float`
        Without an entry, after which the worker ends.
    start_timeout : `float`
        For which visits may be impossible to process before the worker gives
        up, so that another can be started.
    max_visits : `int`
        Visits after which the worker ends; 0 for no limit.
    """

    claim_idle: float
    retry_delay: float
    listen_timeout: float
    start_timeout: float = 300.0
    max_visits: int = 0


class StreamDriver:
    """Drives one worker.

    Parameters
    ----------
    config : `DriverConfig`
    stream : `app.stream.parts.VisitStream`
    visits : `app.stream.parts.Visits`
    ready : callable
        Waits at most so many seconds until a visit could be processed, and
        returns whether it could. No entry is taken before.
    malformed : callable, optional
        Told what is wrong with an entry that holds no visit.
    clock : callable, optional
        Returns a time in seconds that only grows.
    """

    def __init__(
        self,
        *,
        config: DriverConfig,
        stream: VisitStream,
        visits: Visits,
        ready: Callable[[float], bool],
        malformed: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._stream = stream
        self._visits = visits
        self._ready = ready
        self._malformed = malformed
        self._clock = clock
        self._keeper = ClaimKeeper(refresh=stream.refresh, interval=config.claim_idle * _REFRESH_PART)
        self._stopping = threading.Event()
        self._left: dict[str, int] = {}  # deliveries by entry
        self._connected = False
        self._look_at = 0.0
        self._processed = 0

    def stop(self) -> None:
        """Take no further entry; from any thread."""
        self._stopping.set()

    def check(self) -> None:
        """Look whether the stream could be used, before anything costly.

        Raises
        ------
        models.errors.InvalidConfiguration
            Raised if it cannot, ever; that it is away now is no reason.
        """
        try:
            self._stream.open()
        except TemporarilyUnavailable as error:
            _log.warning("%s. It will be tried again.", error)

    def run(self) -> None:
        """Process visits until told to stop, or there are no more.

        Raises
        ------
        models.errors.InvalidConfiguration
            Raised if the stream cannot be used.
        models.errors.TemporarilyUnavailable
            Raised if visits could not be processed for too long.
        """
        begin = self._clock()
        while not self._stopping.is_set():
            if self._ready(_LONGEST_WAIT):
                self._listen()
                begin = self._clock()
            elif self._clock() - begin > self._config.start_timeout:
                self._leave()
                raise TemporarilyUnavailable("this worker has no slot to process visits in; see its log")
        self._leave()

    def _listen(self) -> None:
        """Attend to one entry; stop if none comes."""
        begin = self._clock()
        while not self._stopping.is_set():
            try:
                entry = self._next()
            except TemporarilyUnavailable as error:
                self._lost(error)
                # It is not for lack of visits that none came.
                begin = self._clock()
                continue
            if entry is not None:
                self._attend(entry)
                if 0 < self._config.max_visits <= self._processed:
                    _log.info("Ending after %d visits, as WORKER_RESTART_FREQ asks.", self._processed)
                    self.stop()
                return
            if self._clock() - begin > self._config.listen_timeout:
                _log.info("Ending: no visit has come for %g s.", self._config.listen_timeout)
                self.stop()

    def _next(self) -> ClaimedEntry | None:
        if not self._connected:
            self._stream.open()
            self._connected = True
            self._look_at = self._clock()
        if self._look_at <= self._clock():
            # What a lost answer held first: it is nobody else's.
            entry = self._stream.recover(self._left) or self._stream.take_over()
            if entry is not None:
                _log.info("Entry %s: delivery %d.", entry.entry_id, entry.deliveries)
                self._left.pop(entry.entry_id, None)
                return entry
            self._look_at = self._clock() + self._config.claim_idle * _LOOK_PART
        return self._stream.read(min(_LONGEST_WAIT, self._config.claim_idle * _LOOK_PART))

    def _attend(self, entry: ClaimedEntry) -> None:
        if self._stopping.is_set():
            # It came together with the signal: as if it never had.
            self._put_back(entry, deliveries=entry.deliveries - 1, again_in=0.0)
            return
        try:
            visit = from_stream_entry(entry.fields)
        except InvalidMessage as error:
            _log.error("Entry %s is no visit: %s. It holds %r", entry.entry_id, error, entry.fields)
            self._malformed(str(error))
            self._acknowledge(entry)
            return
        with self._keeper.holding(entry.entry_id):
            if self._settle(entry, visit):
                self._acknowledge(entry)

    def _settle(self, entry: ClaimedEntry, visit: FannedOutVisit) -> bool:
        """See a visit to its end; return whether there is a result."""
        if entry.deliveries > _DELIVERIES:
            return self._give_up(entry, visit, "")
        try:
            answer = self._visits.handle(visit)
        except AlreadyInProgress:
            self._look_again(entry)
            return False
        except Rejected:
            return True
        except ProcessingError as error:
            why = str(error)
        else:
            self._processed += not answer.repeated
            if answer.outcome.result is not Result.INTERRUPTED:
                return True
            why = answer.outcome.detail
        if entry.deliveries >= _DELIVERIES:
            return self._give_up(entry, visit, why)
        if self._stopping.is_set():
            # Another worker need not wait until this one counts as dead.
            self._put_back(entry, deliveries=entry.deliveries, again_in=0.0)
        else:
            self._left[entry.entry_id] = entry.deliveries
        return False

    def _give_up(self, entry: ClaimedEntry, visit: FannedOutVisit, why: str) -> bool:
        because = f"it was delivered {_DELIVERIES} times without a result"
        try:
            self._visits.write_off(visit, f"{because}; the last time: {why}" if why else because)
        except AlreadyInProgress:
            self._look_again(entry)
            return False
        except ProcessingError as error:
            _log.error("That %s is given up could not be recorded yet: %s", visit, error)
            self._left[entry.entry_id] = entry.deliveries
            return False
        return True

    def _look_again(self, entry: ClaimedEntry) -> None:
        """Leave an entry whose visit another processes, be it a duplicate or
        one whose worker has died and is still in the ledger. It comes again,
        and that does not count.
        """
        again_in = self._config.claim_idle * _AGAIN_PART
        self._put_back(entry, deliveries=entry.deliveries - 1, again_in=again_in)

    def _put_back(self, entry: ClaimedEntry, *, deliveries: int, again_in: float) -> None:
        self._left[entry.entry_id] = entry.deliveries
        try:
            self._stream.put_back(entry.entry_id, deliveries=deliveries, again_in=again_in)
            self._left[entry.entry_id] = deliveries
        except TemporarilyUnavailable as error:
            # It stays pending, only longer.
            _log.warning("Entry %s could not be put back: %s", entry.entry_id, error)

    def _acknowledge(self, entry: ClaimedEntry) -> None:
        """Acknowledge for as long as it takes; if the worker is stopped before,
        the ledger tells the next one what became of the visit.
        """
        while True:
            try:
                self._stream.acknowledge(entry.entry_id)
            except TemporarilyUnavailable as error:
                self._lost(error)
                if self._stopping.is_set():
                    return
            else:
                return

    def _lost(self, error: TemporarilyUnavailable) -> None:
        _log.error("%s. Trying again in %g s.", error, self._config.retry_delay)
        self._connected = False
        self._stopping.wait(self._config.retry_delay)

    def _leave(self) -> None:
        try:
            if not self._stream.leave():
                _log.info("This worker leaves entries behind for others.")
        except TemporarilyUnavailable as error:
            _log.warning("This worker's consumer stays: %s", error)
