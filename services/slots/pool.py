"""The slots of a service: who gets one, how long it may be used, what a dead
one means.
"""

from __future__ import annotations

__all__ = ["SlotPool"]

import logging
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from models.errors import Interrupted, ProcessingError, ServiceBusy, TemporarilyUnavailable
from models.outcomes import Result
from services.slots.attendance import Attendance, ImageFeed, SlotDied
from services.slots.memory_limit import measure
from services.slots.process import SlotProcess, SlotUnavailable, TemplateProcess, describe_exit
from services.slots.protocol import (
    ApdbAnswer,
    CheckApdb,
    Finished,
    ForkSlot,
    MessagesMade,
    ProcessVisit,
    Stage,
)
from services.slots.state import PoolConfig, PoolSnapshot, Slot, SlotState
from services.slots.supervisor import TemplateSupervisor

_log = logging.getLogger(__name__)

#: Longest pause between two attempts to start a slot, seconds.
_LONGEST_PAUSE = 30.0
#: Seconds that an idle slot may take to leave.
_LEAVING_TIME = 5.0
#: Part of the grace period after which a stopping service kills slots, so that
#: the answers still go out within it.
_SHUTDOWN_PART = 0.8


class SlotPool:
    """Hands out slots and looks after them.

    Parameters
    ----------
    config : `PoolConfig`
    template : `services.slots.supervisor.TemplateSupervisor`
        Where slots come from. The pool closes it.
    """

    def __init__(self, *, config: PoolConfig, template: TemplateSupervisor) -> None:
        self._config = config
        self._template = template
        self._slots = [Slot(number) for number in range(config.count)]
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()
        self._closing = threading.Event()
        self._leaving: dict[SlotProcess, float] = {}
        self._deployment_id: str | None = None
        self._deaths = 0

    @property
    def config(self) -> PoolConfig:
        """The limits."""
        return self._config

    def adopt(self, template: TemplateProcess) -> None:
        """Use a template process that runs already and belongs to somebody
        else; to be called before `start`.
        """
        self._template.adopt(template)

    def start(self) -> None:
        """Begin to start the slots; return at once."""
        for slot in self._slots:
            self._bring_up(slot)
        threading.Thread(target=self._keep, name="slot-keeper", daemon=True).start()

    def deployment_id(self, timeout: float) -> str:
        """Return the deployment id, which the first slot brings.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if there is none after `timeout` seconds.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._deployment_id or self._closing.is_set(), timeout)
            if self._deployment_id is None:
                raise TemporarilyUnavailable(f"no slot is ready yet{self._troubles()}; try again later")
            return self._deployment_id

    def wait_free(self, timeout: float) -> bool:
        """Wait until a slot is free, or `timeout` seconds have passed; return
        whether one is.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._count(SlotState.FREE) or self._closing.is_set(), timeout)
            return bool(self._count(SlotState.FREE))

    def run(
        self, request: ProcessVisit, images: ImageFeed, on_messages: Callable[[MessagesMade], object]
    ) -> Finished:
        """Process a visit in a slot, waiting for one if need be.

        Parameters
        ----------
        request : `services.slots.protocol.ProcessVisit`
        images : `services.slots.attendance.ImageFeed`
            What the listener sees.
        on_messages : callable
            Called with messages that are to leave before the visit's end;
            must not block.

        Returns
        -------
        finished : `services.slots.protocol.Finished`
            The slot's answer, with the time that the visit was queued.

        Raises
        ------
        models.errors.ServiceBusy
            Raised if no slot becomes free in time.
        models.errors.Interrupted
            Raised if the visit was stopped, or its slot died, and nothing
            outside has changed.
        models.errors.NotRetriable
            Raised if the slot died and something may have changed.
        """
        begin = time.monotonic()
        for last in (False, True):
            slot, process = self._acquire(request)
            queued = time.monotonic() - begin
            attendance = Attendance(
                process=process,
                request=request,
                images=images,
                on_messages=on_messages,
                time_limit=self._config.visit_timeout,
                grace_period=self._config.grace_period,
            )
            slot.attendance = attendance
            if self._closing.is_set():
                self._stop_for_shutdown(attendance)
            try:
                finished = attendance.follow()
                break
            except SlotDied:
                error = self._judge_death(slot, process, request, attendance)
                # A slot that ends just as it gets the visit costs the visit
                # nothing, once.
                if last or attendance.began or attendance.stopped_because:
                    raise error from None
        self._release(slot, process, attendance, request.visit.detector)
        outcome = finished.outcome
        update: dict[str, object] = {"timings": outcome.timings.model_copy(update={"queued": queued})}
        if outcome.result is Result.INTERRUPTED and attendance.stopped_because:
            update["detail"] = f"the visit was stopped: {attendance.stopped_because}"
        return replace(finished, outcome=outcome.model_copy(update=update))

    def snapshot(self, *, with_memory: bool = False) -> PoolSnapshot:
        """Return what the pool looks like now.

        Parameters
        ----------
        with_memory : `bool`
            Also measure the processes, which takes some ms each.
        """
        with self._changed:
            slots = list(self._slots)
            waiting, deaths, deployment_id = len(self._queue), self._deaths, self._deployment_id
        template = self._template.ready
        return PoolSnapshot(
            slots=tuple(slot.view(with_memory=with_memory) for slot in slots),
            waiting=waiting,
            deaths=deaths,
            closing=self._closing.is_set(),
            deployment_id=deployment_id,
            queue_length=self._config.queue_length,
            template=measure(template.pid) if with_memory and template is not None else None,
        )

    def begin_shutdown(self) -> None:
        """Tell every visit to stop, and accept no other."""
        with self._changed:
            self._closing.set()
            self._changed.notify_all()
            running = [slot.attendance for slot in self._slots if slot.attendance is not None]
        for attendance in running:
            self._stop_for_shutdown(attendance)

    def close(self) -> None:
        """End all slots, and the template process if it is the pool's own."""
        self.begin_shutdown()
        with self._changed:
            processes = [*(s.process for s in self._slots if s.process is not None), *self._leaving]
            for slot in self._slots:
                slot.process = None
            self._leaving.clear()
        for process in processes:
            process.dismiss()
        deadline = time.monotonic() + _LEAVING_TIME
        for process in processes:
            process.wait(max(0.0, deadline - time.monotonic()))
            process.end()
        self._template.close()

    # -- visits

    def _acquire(self, request: ProcessVisit) -> tuple[Slot, SlotProcess]:
        ticket = object()
        deadline = time.monotonic() + self._config.queue_timeout
        with self._changed:
            if len(self._queue) >= self._config.queue_length + self._count(SlotState.FREE):
                raise ServiceBusy(
                    f"all {self._config.count} slots are busy and {len(self._queue)} visits wait already"
                )
            self._queue.append(ticket)
            try:
                while True:
                    if self._closing.is_set():
                        raise Interrupted("the service is shutting down")
                    slot = self._choose(request.visit.detector) if self._queue[0] is ticket else None
                    if slot is not None and slot.process is not None:
                        slot.state = SlotState.BUSY
                        slot.visit = str(request.visit)
                        return slot, slot.process
                    remaining = deadline - time.monotonic()
                    if remaining <= 0:
                        raise ServiceBusy(
                            f"no slot became free within {self._config.queue_timeout:g} s{self._troubles()}"
                        )
                    self._changed.wait(remaining)
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()

    def _choose(self, detector: int) -> Slot | None:
        """Return the free slot that suits a detector best: the one that had it
        last, else a new one, else the one that was not used for longest.
        """
        free = [s for s in self._slots if s.state is SlotState.FREE]
        for slot in free:
            if slot.process is not None and not slot.process.alive:
                self._replace(slot, "its process ended while it was idle")
        free = [s for s in free if s.state is SlotState.FREE]
        return min(
            free,
            key=lambda s: (s.last_detector != detector, s.last_detector is not None, s.last_used),
            default=None,
        )

    def _release(self, slot: Slot, process: SlotProcess, attendance: Attendance, detector: int) -> None:
        with self._changed:
            self._note_visit(slot)
            slot.visits_of_process += 1
            renew = 0 < self._config.renew_after <= slot.visits_of_process
            if attendance.stopped_because or renew or not process.alive:
                # After an interruption, whatever held the thread then may be
                # left half done; a new slot costs next to nothing.
                self._replace(slot)
            else:
                slot.state = SlotState.FREE
                slot.last_detector = detector
            self._changed.notify_all()

    def _note_visit(self, slot: Slot) -> None:
        slot.attendance = None
        slot.visit = ""
        slot.visits += 1
        slot.last_used = time.monotonic()
        slot.since = time.time()

    def _judge_death(
        self, slot: Slot, process: SlotProcess, request: ProcessVisit, attendance: Attendance
    ) -> ProcessingError:
        """Decide what a slot's death means for its visit, and replace it."""
        code = self._template.how_exited(process.pid, timeout=2.0)
        process.end()
        what = f"the slot of {request.visit} {describe_exit(code)} at stage {attendance.stage}"
        if attendance.stopped_because:
            what += f", told to stop because {attendance.stopped_because}"
        elif code == -signal.SIGKILL:
            what += " (by hand, or by the system for lack of memory)"
        _log.error("%s", what)
        with self._changed:
            self._deaths += 1
            self._note_visit(slot)
            slot.process = None
            slot.state = SlotState.STARTING
        contains: bool | None = None
        if attendance.stage is Stage.EXECUTING and attendance.exposures:
            contains = self._ask_fresh_slot(slot, attendance.exposures, request.visit.detector)
        else:
            self._bring_up(slot)
        return attendance.meaning_of_death(what, apdb_contains=contains)

    def _ask_fresh_slot(self, slot: Slot, exposures: tuple[int, ...], detector: int) -> bool | None:
        """Put a new process in the slot and ask it first what the APDB holds."""
        answer: ApdbAnswer | None = None
        process: SlotProcess | None = None
        try:
            process = self._template.start_slot(self._order(slot), self._config.check_timeout)
            process.send(CheckApdb(visit_ids=exposures, detector=detector))
            if process.connection.poll(self._config.check_timeout):
                answer = process.connection.recv()
        except (EOFError, OSError, SlotUnavailable) as error:
            _log.error("Cannot ask a new slot what the APDB holds of %s: %s", exposures, error)
        if answer is None:
            if process is not None:
                process.end()
            self._bring_up(slot)
            return None
        assert process is not None
        self._install(slot, process)
        return answer.contains

    def _stop_for_shutdown(self, attendance: Attendance) -> None:
        attendance.stop("the service is shutting down", self._config.grace_period * _SHUTDOWN_PART)

    # -- processes

    def _order(self, slot: Slot) -> ForkSlot:
        return ForkSlot(number=slot.number, memory_limit=self._config.memory_limit, nice=self._config.nice)

    def _replace(self, slot: Slot, detail: str = "") -> None:
        """Let a slot's process go and start another."""
        if slot.process is not None:
            slot.process.dismiss()
            self._leaving[slot.process] = time.monotonic() + _LEAVING_TIME
        slot.process = None
        slot.state = SlotState.STARTING
        slot.detail = detail
        self._bring_up(slot)

    def _bring_up(self, slot: Slot) -> None:
        if not self._closing.is_set():
            threading.Thread(
                target=self._start_process, args=(slot,), name=f"slot-{slot.number}-start", daemon=True
            ).start()

    def _start_process(self, slot: Slot) -> None:
        pause = 1.0
        while not self._closing.is_set():
            try:
                process = self._template.start_slot(self._order(slot), self._config.start_timeout)
            except SlotUnavailable as error:
                _log.error("Slot %d: %s. Trying again in %.0f s.", slot.number, error, pause)
                slot.detail = str(error)
                self._closing.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                self._install(slot, process)
                return

    def _install(self, slot: Slot, process: SlotProcess) -> None:
        with self._changed:
            if self._closing.is_set():
                process.end()
                return
            slot.process = process
            slot.state = SlotState.FREE
            slot.detail = ""
            slot.since = time.time()
            slot.visits_of_process = 0
            slot.last_detector = None
            self._deployment_id = process.deployment_id
            self._changed.notify_all()

    def _keep(self) -> None:
        """Notice slots that die while idle, and see off those that leave."""
        while not self._closing.wait(0.2):
            with self._changed:
                for slot in self._slots:
                    if slot.state is SlotState.FREE and slot.process and not slot.process.alive:
                        _log.error("Slot %d ended while it was idle.", slot.number)
                        self._replace(slot, "its process ended while it was idle")
                for process, deadline in list(self._leaving.items()):
                    if not process.alive or time.monotonic() > deadline:
                        del self._leaving[process]
                        process.end()

    def _count(self, state: SlotState) -> int:
        return sum(slot.state is state for slot in self._slots)

    def _troubles(self) -> str:
        """Say what keeps slots from being there."""
        details = sorted({slot.detail for slot in self._slots if slot.detail})
        return f" ({'; '.join(details)})" if details else ""
