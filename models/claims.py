"""What the ledger says to the wish to process a visit."""

from __future__ import annotations

__all__ = ["Claim"]

from dataclasses import dataclass

from models.outcomes import VisitOutcome


@dataclass(frozen=True)
class Claim:
    """An answer of the ledger.

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
