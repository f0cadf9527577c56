"""What the admission of visits needs of others."""

from __future__ import annotations

__all__ = ["MetricsSink", "Selector", "Slots", "VisitLedger", "VisitObserver"]

from collections.abc import Callable, Sequence
from typing import Protocol

from models.errors import PromptProcessingError
from models.events import OutboxMessage
from models.ledger import Claim
from models.metrics import MeasuredBundle
from models.outcomes import VisitOutcome
from models.pipelines import SelectedPipelines
from models.visits import FannedOutVisit
from services.slots.attendance import ImageFeed
from services.slots.protocol import Finished, MessagesMade, ProcessVisit


class VisitLedger(Protocol):
    """Remembers what became of each visit of a deployment."""

    def claim(self, visit: FannedOutVisit, deployment_id: str, day_obs: int) -> Claim:
        """Ask to process a visit; atomic.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the ledger cannot be reached.
        """

    def refresh(self, visit: FannedOutVisit, deployment_id: str) -> bool:
        """Extend the lease of a claim; return whether it still stands.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the ledger cannot be reached.
        """

    def send(
        self,
        visit: FannedOutVisit,
        deployment_id: str,
        day_obs: int,
        messages: Sequence[OutboxMessage],
        lost: VisitOutcome,
    ) -> bool:
        """Put messages of a running visit into the outbox, and note what its
        result is if no other is recorded. Return whether that was done: not
        if the visit is somebody else's by now.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the ledger cannot be reached.
        """

    def finish(
        self,
        visit: FannedOutVisit,
        deployment_id: str,
        day_obs: int,
        outcome: VisitOutcome,
        outbox: Sequence[OutboxMessage],
    ) -> None:
        """Record a result and its messages in one transaction, whether or not
        the claim could be recorded.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the ledger cannot be reached.
        """


class Selector(Protocol):
    """Chooses the pipelines of a visit."""

    def select(self, visit: FannedOutVisit) -> SelectedPipelines:
        """Return the pipelines.

        Raises
        ------
        models.errors.NoPipelineApplies
            Raised if there is nothing to run.
        """


class Slots(Protocol):
    """Processes visits; see `services.slots.pool.SlotPool`."""

    def deployment_id(self, timeout: float) -> str:
        """Return the deployment id.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if no slot has been ready by then.
        """

    def run(
        self, request: ProcessVisit, images: ImageFeed, on_messages: Callable[[MessagesMade], object]
    ) -> Finished:
        """Process a visit; messages that leave before its end are handed out.

        Raises
        ------
        models.errors.ProcessingError
            Raised if the slots cannot give an answer of their own.
        """


class VisitObserver(Protocol):
    """Counts visits."""

    def received(self, visit: FannedOutVisit) -> None:
        """A visit has come in."""

    def accepted(self, visit: FannedOutVisit) -> None:
        """A visit is being processed from now on."""

    def finished(self, visit: FannedOutVisit, outcome: VisitOutcome, seconds: float) -> None:
        """An accepted visit is over."""

    def refused(self, visit: FannedOutVisit, error: PromptProcessingError) -> None:
        """A visit was not accepted."""

    def answered(self, visit: FannedOutVisit) -> None:
        """A visit has its answer, whatever that is."""


class MetricsSink(Protocol):
    """Takes what was measured of visits that are over."""

    def offer(self, bundles: Sequence[MeasuredBundle]) -> None:
        """Have metrics uploaded; does not wait, and does not fail."""
