"""What the parent, the template process and the slots say to each other.

Everything is a pickled frozen dataclass over `multiprocessing.connection` on a
Unix socket that only the service's own user can reach.

The parent asks the template for slots and for the fate of dead ones; with a
slot it speaks over the connection on which the slot was asked for. A slot's
life: `ForkSlot` -> `SlotReady` (or `SlotBroken`), then any number of
`ProcessVisit` -> `StageReached` and `MessagesMade` ... `Finished` and
`CheckApdb` -> `ApdbAnswer`, then `Stop`. `ImageArrived` may follow a `ProcessVisit` at any
time until its `Finished`.
"""

from __future__ import annotations

__all__ = [
    "ApdbAnswer",
    "CheckApdb",
    "Exited",
    "Finished",
    "ForkSlot",
    "HowExited",
    "ImageArrived",
    "MessagesMade",
    "OpenControl",
    "ProcessVisit",
    "SlotApplication",
    "SlotBlueprint",
    "SlotBroken",
    "SlotChannel",
    "SlotReady",
    "Stage",
    "StageReached",
    "Stop",
    "TemplateReady",
]

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from models.events import OutboxMessage
from models.metrics import MeasuredBundle
from models.outcomes import VisitOutcome
from models.pipelines import SelectedPipelines
from models.raws import FoundImage
from models.visits import FannedOutVisit


class Stage(StrEnum):
    """How far a visit has come; it decides what a slot's death means."""

    PREPARING = "preparing"
    """Preload and preprocessing."""
    WAITING = "waiting"
    """Everything is ready but the images."""
    INGESTING = "ingesting"
    EXECUTING = "executing"
    """The main pipeline has begun: the APDB may have changed."""
    PUBLISHING = "publishing"
    """Alerts are being sent, or have been."""
    EXPORTING = "exporting"

    @property
    def harmless(self) -> bool:
        """Whether nothing outside can have changed before or in this stage."""
        return self in (Stage.PREPARING, Stage.WAITING, Stage.INGESTING)


@dataclass(frozen=True)
class ForkSlot:
    """Parent to template, first on a connection: become a slot on it.

    Attributes
    ----------
    number : `int`
        The slot's place in the pool, from 0.
    memory_limit : `int` or `None`
        Bytes that the slot may allocate beyond what it has at its birth.
    nice : `int`
        Added to the slot's nice value.
    idle_interval : `float`
        Seconds between two calls of `SlotApplication.idle`.
    """

    number: int
    memory_limit: int | None = None
    nice: int = 0
    idle_interval: float = 5.0


@dataclass(frozen=True)
class OpenControl:
    """Parent to template, first on a connection: questions will come here."""


@dataclass(frozen=True)
class TemplateReady:
    """Template to parent on the control connection: slots can be had now."""

    pid: int
    deployment_id: str


@dataclass(frozen=True)
class HowExited:
    """Parent to template: how did this slot end? Answered once it has."""

    pid: int


@dataclass(frozen=True)
class Exited:
    """Template to parent: the slot's exit code, negative for a signal, `None`
    if the template never had such a slot.
    """

    pid: int
    code: int | None


@dataclass(frozen=True)
class ProcessVisit:
    """Parent to slot: process this visit.

    Attributes
    ----------
    visit : `models.visits.FannedOutVisit`
    pipelines : `models.pipelines.SelectedPipelines`
    output_date : `str`
        TAI date YYYY-MM-DD, 12 h before processing began; it names the output
        collections.
    attempt : `int`
        1 for the first time that this visit is processed here.
    """

    visit: FannedOutVisit
    pipelines: SelectedPipelines
    output_date: str
    attempt: int = 1


@dataclass(frozen=True)
class ImageArrived:
    """Parent to slot: the image listener saw this image of the visit."""

    image: FoundImage


@dataclass(frozen=True)
class CheckApdb:
    """Parent to slot: does the APDB hold anything of these visits?"""

    visit_ids: tuple[int, ...]
    detector: int


@dataclass(frozen=True)
class Stop:
    """Parent to slot: leave."""


@dataclass(frozen=True)
class SlotReady:
    """Slot to parent: warm, and waiting for work."""

    pid: int
    deployment_id: str


@dataclass(frozen=True)
class SlotBroken:
    """Slot to parent: could not be set up; the process ends after this."""

    pid: int
    detail: str


@dataclass(frozen=True)
class StageReached:
    """Slot to parent: the visit has come this far.

    Attributes
    ----------
    stage : `Stage`
    exposures : `tuple` [`int`, ...]
        Exposures (and so visits) about to be processed; from `Stage.EXECUTING`
        on.
    """

    stage: Stage
    exposures: tuple[int, ...] = ()


@dataclass(frozen=True)
class MessagesMade:
    """Slot to parent: these are to leave now; the visit goes on.

    Attributes
    ----------
    messages : `tuple` [`models.events.OutboxMessage`, ...]
        At least one.
    made_unix : `float`
        When they were made, UTC unix seconds.
    """

    messages: tuple[OutboxMessage, ...]
    made_unix: float


@dataclass(frozen=True)
class Finished:
    """Slot to parent: the visit is over.

    Attributes
    ----------
    outcome : `models.outcomes.VisitOutcome`
    outbox : `tuple` [`models.events.OutboxMessage`, ...]
        Messages to be stored in the transaction that records the outcome.
    measurements : `tuple` [`models.metrics.MeasuredBundle`, ...]
        Metrics to be uploaded after that.
    """

    outcome: VisitOutcome
    outbox: tuple[OutboxMessage, ...] = ()
    measurements: tuple[MeasuredBundle, ...] = ()


@dataclass(frozen=True)
class ApdbAnswer:
    """Slot to parent: answer to `CheckApdb`; `None` if it cannot be told."""

    contains: bool | None


class SlotChannel(Protocol):
    """A running visit's view of the parent."""

    def report(self, stage: Stage, exposures: tuple[int, ...] = ()) -> None:
        """Tell the parent how far the visit has come, before going on."""

    def send(self, messages: Sequence[OutboxMessage]) -> None:
        """Have messages sent while the visit goes on. There is no way back:
        `Stage.PUBLISHING` must have been reported.
        """

    def images(self, timeout: float) -> list[FoundImage]:
        """Return what has arrived since the last call; if nothing has, wait
        for at most `timeout` seconds.
        """

    @property
    def interrupted(self) -> bool:
        """Whether the visit has been told to stop."""

    def shielded(self) -> AbstractContextManager[None]:
        """Hold off interruption while the context lasts, for steps that must
        not be left half done. It is not made up for afterwards.
        """


class SlotApplication(Protocol):
    """What a slot runs; built in the slot, after the fork."""

    deployment_id: str

    def warm_up(self) -> None:
        """Open what must not be opened before the fork."""

    def process(self, request: ProcessVisit, channel: SlotChannel) -> Finished:
        """Process a visit. Failures are in the result, not raised."""

    def apdb_contains(self, visit_ids: Sequence[int], detector: int) -> bool | None:
        """Tell whether the APDB holds anything of these visits; `None` if it
        cannot be determined.
        """

    def idle(self) -> None:
        """Keep warm; called now and then between visits."""

    def close(self) -> None:
        """Let go of everything, before the process ends."""


@dataclass(frozen=True)
class SlotBlueprint:
    """What a template process holds ready for its slots.

    Attributes
    ----------
    deployment_id : `str`
        Computed once, before any slot is forked.
    create : callable
        Builds the application; called in each new slot.
    """

    deployment_id: str
    create: Callable[[], SlotApplication]
