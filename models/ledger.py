"""What the visit ledger says: answers to claims, and its records."""

from __future__ import annotations

__all__ = ["RUNNING", "Claim", "VisitRecord"]

from dataclasses import dataclass
from datetime import datetime

from models.outcomes import Result, VisitOutcome
from models.visits import FannedOutVisit

#: State of a visit that is being processed; the others are those of `Result`.
RUNNING = "running"


@dataclass(frozen=True)
class Claim:
    """What the ledger says to the wish to process a visit.

    Attributes
    ----------
    granted : `bool`
        Whether the visit may be processed now. If not, and there is no
        `outcome`, somebody else processes it.
    attempt : `int`
        1 for the first time.
    outcome : `models.outcomes.VisitOutcome` or `None`
        The final result of an earlier attempt, which stands.
    """

    granted: bool
    attempt: int = 1
    outcome: VisitOutcome | None = None


@dataclass(frozen=True)
class VisitRecord:
    """A visit of a deployment, as the ledger has it; times are UTC, aware.

    Attributes
    ----------
    visit : `models.visits.FannedOutVisit`
        The message.
    deployment_id : `str`
    day_obs : `int`
        Day of its last attempt, YYYYMMDD.
    state : `str`
        `RUNNING`, or a value of `models.outcomes.Result`.
    attempts : `int`
        How often it was begun.
    owner : `str`
        Process that began it last, or recorded its result.
    created, started : `datetime.datetime`
        Begin of the first and of the last attempt.
    finished : `datetime.datetime` or `None`
        End of the last attempt.
    outcome : `models.outcomes.VisitOutcome` or `None`
        Result of the last attempt.
    """

    visit: FannedOutVisit
    deployment_id: str
    day_obs: int
    state: str
    attempts: int
    owner: str
    created: datetime
    started: datetime
    finished: datetime | None
    outcome: VisitOutcome | None

    @property
    def in_error(self) -> bool:
        """Whether somebody may have to look at it."""
        return self.state not in (RUNNING, Result.PROCESSED)
