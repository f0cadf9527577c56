"""What a demo shows while it observes."""

from __future__ import annotations

__all__ = ["NightProgress"]

import threading

from app.progress import Report
from models.visits import SummitVisit
from simulator.observing import VisitReport
from simulator.plan import Plan


class NightProgress:
    """Shows rendering, exposures and answers as bars; see
    `simulator.observing.Progress`.

    Parameters
    ----------
    report : callable
        Takes what is being done, how much of it is done and how much there
        is.
    plan : `simulator.plan.Plan`
    """

    def __init__(self, report: Report, plan: Plan) -> None:
        self._report = report
        self._exposures = sum(len(planned.snaps) for planned in plan.visits)
        self._copies = sum(len(planned.detectors) for planned in plan.visits)
        self._announced = 0
        self._closed = 0
        self._answered = 0
        self._visits = len(plan.visits)
        self._lock = threading.Lock()

    def staged(self, done: int, total: int) -> None:
        """Frames are rendered."""
        self._report("render frames", done, total)

    def announced(self, visit: SummitVisit, detectors: tuple[int, ...]) -> None:
        """A visit was announced."""
        with self._lock:
            self._announced += 1
            self._report("announce visits", self._announced, self._visits)

    def shutter(self, visit: SummitVisit, snap: int, *, is_open: bool) -> None:
        """The shutter moved."""
        with self._lock:
            if not is_open:
                self._closed += 1
            self._report("expose", self._closed, self._exposures)

    def answered(self, report: VisitReport) -> None:
        """A detector's visit is over."""
        with self._lock:
            self._answered += 1
            self._report("process detectors", self._answered, self._copies)
