"""Where a demo's night takes place: on one machine's files, or on servers."""

from __future__ import annotations

__all__ = ["Installation", "NightResult"]

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from app.progress import Report
from simulator.observing import Progress, VisitReport
from simulator.plan import Plan


@dataclass(frozen=True)
class NightResult:
    """What a night left behind, seen from outside.

    Attributes
    ----------
    reports : sequence of `simulator.observing.VisitReport`
    alert_files : sequence of path-like
        Avro files with all alerts that were received.
    image_to_alert : `list` [`float`] or `None`
        Seconds from raw to alert of each visit and detector, measured where
        alerts are received; None if the service's own word is all there is.
    faults : sequence of `str`
        What went wrong beyond the visits themselves.
    """

    reports: Sequence[VisitReport]
    alert_files: Sequence[str | Path]
    image_to_alert: list[float] | None = None
    faults: Sequence[str] = ()


class Installation(Protocol):
    """A complete system, ready to be started."""

    @property
    def url(self) -> str:
        """Where the service listens."""

    @property
    def outputs(self) -> str:
        """Where outputs go, for people."""

    @property
    def alerts(self) -> str:
        """Where alerts go, for people."""

    def prepare(self, report: Report) -> None:
        """Make repositories and databases."""

    def start(self) -> None:
        """Start all programs and wait until visits can be taken."""

    def observe(self, plan: Plan, progress: Progress) -> NightResult:
        """Observe a plan, and gather what comes of it."""

    def wait(self) -> None:
        """Wait until the service ends by itself."""

    def stop(self) -> None:
        """Stop everything; safe at any time."""
