"""What the status page says, worked out before any HTML."""

from __future__ import annotations

__all__ = ["StatusPage", "status_page"]

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from app.web.metrics import Trouble
from app.web.schemas import VisitReport
from app.web.service import PromptService
from models.errors import PromptProcessingError
from models.ledger import RUNNING
from models.outcomes import Result
from services.slots.state import PoolSnapshot

#: How many visits and troubles the page lists.
_VISITS = 100
_TROUBLES = 12


@dataclass(frozen=True)
class StatusPage:
    """Everything that the template shows.

    Attributes
    ----------
    word : `str`
        The state in one word, to be read from across the room.
    mood : `str`
        ``good``, ``warn`` or ``bad``; the colour.
    alerts : `int`
        Of the visits that are listed.
    """

    word: str
    mood: str
    reason: str
    instrument: str
    day_obs: int
    now: str
    version: str
    pool: PoolSnapshot
    counts: dict[str, int]
    alerts: int
    visits: list[VisitReport]
    troubles: list[Trouble]
    degraded: list[str]

    @property
    def alerts_name(self) -> str:
        """What the number of alerts is: of the whole night only if all its
        visits are listed.
        """
        whole = sum(self.counts.values()) <= len(self.visits)
        return "alerts" if whole else f"alerts, last {len(self.visits)} visits"

    @staticmethod
    def clock(unix: float | None) -> str:
        """Return the UTC time of day."""
        return "" if unix is None else f"{datetime.fromtimestamp(unix, UTC):%H:%M:%S}"

    @staticmethod
    def ago(unix: float | None) -> str:
        """Return how long ago, in seconds or minutes."""
        if unix is None:
            return ""
        seconds = max(0.0, time.time() - unix)
        return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"

    @staticmethod
    def megabytes(size: int | None) -> str:
        """Return a size in MB."""
        return "" if size is None else f"{size / 1e6:.0f} MB"


def status_page(service: PromptService) -> StatusPage:
    """Look at the service and decide what its operator must know first."""
    pool = service.measured_snapshot()
    day = service.day_obs()
    degraded = service.degraded()
    visits: list[VisitReport] = []
    counts: Mapping[str, int] = {}
    try:
        visits = [VisitReport.of(record) for record in service.history.visits(day, _VISITS)]
        counts = service.history.counts(day)
    except PromptProcessingError as error:
        degraded.append(f"ledger: {error}")
    word, mood, reason = _state(pool, counts, degraded)
    return StatusPage(
        word=word,
        mood=mood,
        reason=reason,
        instrument=service.instrument,
        day_obs=day,
        now=f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
        version=service.version,
        pool=pool,
        counts={state: counts.get(state, 0) for state in (RUNNING, *(r.value for r in Result))},
        alerts=sum(v.alerts for v in visits),
        visits=visits,
        troubles=list(service.metrics.troubles)[:_TROUBLES],
        degraded=degraded,
    )


def _state(pool: PoolSnapshot, counts: Mapping[str, int], degraded: list[str]) -> tuple[str, str, str]:
    if pool.closing:
        return "STOPPING", "warn", "the service is shutting down"
    if not pool.usable:
        return "NOT READY", "bad", "; ".join(degraded) or "slots are starting"
    if pool.full:
        return "FULL", "bad", f"{pool.waiting} visits wait for a slot"
    if degraded:
        return "DEGRADED", "warn", "; ".join(degraded)
    if counts.get(Result.NOT_RETRIABLE):
        return "ATTENTION", "warn", f"not to be retried: {counts[Result.NOT_RETRIABLE]}"
    if pool.busy:
        return "OBSERVING", "good", f"{pool.busy} of {len(pool.slots)} slots busy"
    return "READY", "good", f"{pool.usable} of {len(pool.slots)} slots free"
