"""The inside of a slot: a warm process that handles one visit at a time."""

from __future__ import annotations

__all__ = ["run_slot"]

import logging
import os
import queue
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from typing import Any

from models.errors import Disposition, Interrupted, InterruptSignal, PromptProcessingError
from models.events import OutboxMessage
from models.outcomes import Result, VisitOutcome
from models.raws import FoundImage
from services.slots.interruption import Interruption, SlotDismissed
from services.slots.memory_limit import give_back_memory
from services.slots.protocol import (
    ApdbAnswer,
    CheckApdb,
    Finished,
    ImageArrived,
    MessagesMade,
    ProcessVisit,
    SlotApplication,
    SlotBlueprint,
    SlotBroken,
    SlotReady,
    Stage,
    StageReached,
    Stop,
)

_log = logging.getLogger(__name__)

#: Exit code of a slot whose parent is gone.
ORPHANED = 70


class _Channel:
    """The `services.slots.protocol.SlotChannel` of one visit."""

    def __init__(
        self, *, connection: Connection, inbox: queue.SimpleQueue[Any], interruption: Interruption
    ) -> None:
        self._connection = connection
        self._inbox = inbox
        self._interruption = interruption
        self.stage = Stage.PREPARING
        self.exposures: tuple[int, ...] = ()

    def report(self, stage: Stage, exposures: tuple[int, ...] = ()) -> None:
        # Noted before it is sent: whatever happens in between, the slot must
        # not believe that it is still at a harmless stage.
        self.stage = stage
        self.exposures = exposures or self.exposures
        if stage in (Stage.PUBLISHING, Stage.EXPORTING):
            # What leaves the house now is better finished than explained.
            self._interruption.hold()
        with self._interruption.shielded():
            self._connection.send(StageReached(stage=stage, exposures=exposures))

    def send(self, messages: Sequence[OutboxMessage]) -> None:
        with self._interruption.shielded():
            self._connection.send(MessagesMade(messages=tuple(messages), made_unix=time.time()))

    def images(self, timeout: float) -> list[FoundImage]:
        found: list[FoundImage] = []
        deadline = time.monotonic() + timeout
        while True:
            wait = 0.0 if found else max(0.0, deadline - time.monotonic())
            try:
                message = self._inbox.get(timeout=wait) if wait else self._inbox.get_nowait()
            except queue.Empty:
                return found
            if isinstance(message, ImageArrived):
                found.append(message.image)

    @property
    def interrupted(self) -> bool:
        return self._interruption.requested

    def shielded(self) -> AbstractContextManager[None]:
        return self._interruption.shielded()


def run_slot(
    *, connection: Connection, blueprint: SlotBlueprint, interruption: Interruption, idle_interval: float
) -> None:
    """Serve visits until told to stop.

    Parameters
    ----------
    connection : `multiprocessing.connection.Connection`
        To the parent. When it closes, the process ends at once: there is
        nobody left who would record what it does.
    blueprint : `services.slots.protocol.SlotBlueprint`
        Builds the application.
    interruption : `services.slots.interruption.Interruption`
        Not installed yet: a signal that comes earlier simply ends the
        process.
    idle_interval : `float`
        Seconds between two calls of the application's ``idle``.
    """
    try:
        application = blueprint.create()
        application.warm_up()
    except Exception as error:
        _log.exception("A slot could not be set up.")
        connection.send(SlotBroken(pid=os.getpid(), detail=f"{type(error).__name__}: {error}"))
        return
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(connection, inbox), name="slot-inbox", daemon=True).start()
    try:
        # Installed within the guard, so that a signal cannot slip between.
        interruption.install()
        connection.send(SlotReady(pid=os.getpid(), deployment_id=blueprint.deployment_id))
        _serve(connection, inbox, application, interruption, idle_interval)
    except SlotDismissed:
        _log.debug("Slot dismissed.")
    finally:
        with interruption.shielded():
            application.close()


def _read(connection: Connection, inbox: queue.SimpleQueue[Any]) -> None:
    """Move messages to the inbox; end the process when the parent is gone."""
    while True:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            os._exit(ORPHANED)
        inbox.put(message)
        if isinstance(message, Stop):
            return


def _serve(
    connection: Connection,
    inbox: queue.SimpleQueue[Any],
    application: SlotApplication,
    interruption: Interruption,
    idle_interval: float,
) -> None:
    while True:
        try:
            with interruption.waiting():
                message = inbox.get(timeout=idle_interval)
        except queue.Empty:
            _idle(application)
            continue
        match message:
            case ProcessVisit():
                connection.send(_process(connection, inbox, application, interruption, message))
                give_back_memory()
            case CheckApdb(visit_ids=visit_ids, detector=detector):
                connection.send(ApdbAnswer(_contains(application, visit_ids, detector)))
            case Stop():
                return
            case _:
                # An image that came when its visit was already over.
                _log.debug("Ignored a late %s.", type(message).__name__)


def _idle(application: SlotApplication) -> None:
    try:
        application.idle()
    except Exception:
        _log.warning("Keeping the slot warm failed; the next visit will try again.", exc_info=True)


def _contains(application: SlotApplication, visit_ids: tuple[int, ...], detector: int) -> bool | None:
    try:
        return application.apdb_contains(visit_ids, detector)
    except Exception:
        _log.exception("Cannot tell whether the APDB holds visits %s, detector %d.", visit_ids, detector)
        return None


def _process(
    connection: Connection,
    inbox: queue.SimpleQueue[Any],
    application: SlotApplication,
    interruption: Interruption,
    request: ProcessVisit,
) -> Finished:
    channel = _Channel(connection=connection, inbox=inbox, interruption=interruption)
    try:
        with interruption.visit():
            return application.process(request, channel)
    except (Exception, InterruptSignal) as error:
        # The application is expected to handle its failures; this is the
        # answer when one gets past it, on the safe side.
        _log.exception("Processing of %s ended unexpectedly.", request.visit)
        untouched = channel.stage.harmless or (
            channel.stage is Stage.EXECUTING
            and _contains(application, channel.exposures, request.visit.detector) is False
        )
        if isinstance(error, InterruptSignal):
            error = Interrupted(f"the visit was {error}")
        return Finished(outcome=_outcome_of(error, untouched=untouched))


def _outcome_of(error: Exception, *, untouched: bool) -> VisitOutcome:
    disposition = getattr(error, "disposition", Disposition.FAILED)
    if not untouched or disposition is Disposition.NOT_OURS:
        disposition = Disposition.FAILED if untouched else Disposition.NOT_RETRIABLE
    detail = str(error) if isinstance(error, PromptProcessingError) else f"{type(error).__name__}: {error}"
    return VisitOutcome(
        result=Result.from_disposition(disposition), title=type(error).__name__, detail=detail
    )
