"""What the stream's driver needs of others."""

from __future__ import annotations

__all__ = ["VisitStream", "Visits"]

from collections.abc import Mapping
from typing import Protocol

from models.stream_claims import ClaimedEntry
from models.visits import FannedOutVisit
from services.admission import Answer


class VisitStream(Protocol):
    """One worker's view of a stream; see `repos.visit_stream.RedisVisitStream`.

    Every method raises `models.errors.TemporarilyUnavailable` if the stream
    cannot be reached, and `models.errors.InvalidConfiguration` if it never
    will be.
    """

    def open(self) -> None:
        """Make what is not there yet."""

    def read(self, wait: float) -> ClaimedEntry | None:
        """Claim the next new entry; wait so many seconds for it."""

    def take_over(self) -> ClaimedEntry | None:
        """Claim an entry whose worker has given no sign of life."""

    def recover(self, known: Mapping[str, int]) -> ClaimedEntry | None:
        """Return an entry that is ours but never came; `known` has the
        deliveries of those that did.
        """

    def refresh(self, entry_id: str) -> bool:
        """Give a sign of life for an entry; return whether it is ours still."""

    def put_back(self, entry_id: str, *, deliveries: int, again_in: float) -> None:
        """Leave an entry to whoever looks for one after so many seconds."""

    def acknowledge(self, entry_id: str) -> None:
        """Be done with an entry."""

    def leave(self) -> bool:
        """Forget this worker unless entries of it are pending; return whether
        it is forgotten.
        """


class Visits(Protocol):
    """Processes visits; see `services.admission.VisitAdmission`."""

    def handle(self, visit: FannedOutVisit) -> Answer:
        """Process a visit.

        Raises
        ------
        models.errors.Rejected, models.errors.TemporarilyUnavailable
            Raised if it is not accepted.
        """

    def write_off(self, visit: FannedOutVisit, why: str) -> Answer:
        """Record that a visit failed, without processing it.

        Raises
        ------
        models.errors.AlreadyInProgress
            Raised if it is being processed now.
        models.errors.TemporarilyUnavailable
            Raised if it cannot be recorded now.
        """
