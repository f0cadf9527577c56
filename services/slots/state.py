"""What a pool of slots is allowed, and what it looks like at a moment."""

from __future__ import annotations

__all__ = ["PoolConfig", "PoolSnapshot", "Slot", "SlotState", "SlotView"]

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from services.slots.attendance import Attendance
from services.slots.memory_limit import MemoryUse, measure
from services.slots.process import SlotProcess


@dataclass(frozen=True)
class PoolConfig:
    """Limits of a pool; times in seconds.

    Attributes
    ----------
    count : `int`
        Slots.
    visit_timeout : `float`
        A visit's time in a slot.
    grace_period : `float`
        From the request to stop until the slot is killed.
    queue_timeout : `float`
        How long a visit may wait for a slot.
    queue_length : `int`
        How many may wait.
    renew_after : `int`
        Visits after which a slot is replaced; 0 for never.
    memory_limit : `int` or `None`
        Bytes that a slot may allocate beyond its imports.
    nice : `int`
        Added to the slots' nice value, so that they do not slow down the
        parent's answers.
    start_timeout : `float`
        How long a slot may take to get ready.
    check_timeout : `float`
        How long the question to the APDB after a slot's death may take.
    """

    count: int
    visit_timeout: float = 900.0
    grace_period: float = 30.0
    queue_timeout: float = 60.0
    queue_length: int = 64
    renew_after: int = 0
    memory_limit: int | None = None
    nice: int = 5
    start_timeout: float = 120.0
    check_timeout: float = 30.0


class SlotState(StrEnum):
    """What a slot is doing."""

    STARTING = "starting"
    FREE = "free"
    BUSY = "busy"
    STOPPING = "stopping"


@dataclass(frozen=True)
class SlotView:
    """A slot as the status page shows it.

    Attributes
    ----------
    since : `float`
        UTC unix time of the last change of stage.
    visits : `int`
        Visits that the slot has had, its predecessors included.
    detail : `str`
        Why it is not there, if so.
    """

    number: int
    state: SlotState
    pid: int | None = None
    visit: str = ""
    stage: str = ""
    since: float | None = None
    visits: int = 0
    last_detector: int | None = None
    memory: MemoryUse | None = None
    detail: str = ""


@dataclass(frozen=True)
class PoolSnapshot:
    """A pool at one moment.

    Attributes
    ----------
    waiting, queue_length : `int`
        Visits that wait for a slot, and how many may.
    deaths : `int`
        Slots that ended in the middle of a visit, since the start.
    template : `MemoryUse` or `None`
        Memory of the template process.
    """

    slots: tuple[SlotView, ...]
    waiting: int
    deaths: int
    closing: bool
    deployment_id: str | None
    queue_length: int = 0
    template: MemoryUse | None = None

    def with_memory(
        self, memory: Mapping[int | None, MemoryUse | None], template: MemoryUse | None
    ) -> PoolSnapshot:
        """Return a copy with memory that was measured before, by pid."""
        slots = tuple(replace(s, memory=memory.get(s.pid)) for s in self.slots)
        return replace(self, slots=slots, template=template)

    @property
    def full(self) -> bool:
        """Whether no visit more may wait."""
        return self.waiting >= self.queue_length + sum(s.state is SlotState.FREE for s in self.slots)

    @property
    def usable(self) -> int:
        """Slots that work or could."""
        return sum(s.state in (SlotState.FREE, SlotState.BUSY) for s in self.slots)

    @property
    def busy(self) -> int:
        """Slots that process a visit."""
        return sum(s.state in (SlotState.BUSY, SlotState.STOPPING) for s in self.slots)


class Slot:
    """A place in the pool, whatever process fills it now."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.state = SlotState.STARTING
        self.process: SlotProcess | None = None
        self.attendance: Attendance | None = None
        self.visit = ""
        self.visits = 0
        self.visits_of_process = 0
        self.last_detector: int | None = None
        self.last_used = 0.0
        self.since = time.time()
        self.detail = ""

    def view(self, *, with_memory: bool) -> SlotView:
        """Return what there is to show, memory only if asked for."""
        attendance, process = self.attendance, self.process
        pid = process.pid if process is not None else None
        return SlotView(
            number=self.number,
            state=SlotState.STOPPING if attendance and attendance.stopped_because else self.state,
            pid=pid,
            visit=self.visit,
            stage=attendance.stage if attendance else "",
            since=attendance.since if attendance else self.since,
            visits=self.visits,
            last_detector=self.last_detector,
            memory=measure(pid) if with_memory and pid is not None else None,
            detail=self.detail,
        )
