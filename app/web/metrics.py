"""Counting visits for Prometheus, and remembering what went wrong lately."""

from __future__ import annotations

__all__ = ["ServiceMetrics", "Trouble"]

import re
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.web.problems import problem_for_error
from models.errors import PromptProcessingError
from models.outcomes import Result, VisitOutcome
from models.visits import FannedOutVisit
from services.slots.state import PoolSnapshot, SlotState

#: How many troubles are remembered.
_REMEMBERED = 30
#: Upper bounds in seconds of the time from image to alert; the field asks for
#: less than 60 s after the shutter closes.
_BUCKETS = (0.5, 1, 2, 3, 5, 10, 20, 30, 45, 60, 90, 120)


@dataclass(frozen=True)
class Trouble:
    """Something that the operator should see.

    Attributes
    ----------
    when : `float`
        UTC unix time.
    """

    when: float
    visit: str
    kind: str
    detail: str


class ServiceMetrics:
    """Metrics of the service; a `services.admission.VisitObserver`.

    Names without the prefix ``prompt_processing_`` are those that monitoring in
    the field reads.

    Parameters
    ----------
    instrument : `str`
    snapshot : callable
        Returns the present state of the slots.
    clock : callable, optional
        Returns UTC unix time.
    """

    def __init__(
        self,
        *,
        instrument: str,
        snapshot: Callable[[], PoolSnapshot],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.registry = CollectorRegistry()
        self.troubles: deque[Trouble] = deque(maxlen=_REMEMBERED)
        self._clock = clock
        prefix = re.sub(r"[^a-z0-9_]", "_", instrument.lower())
        # Gauges, although some only grow: a Counter's name would end in
        # "_total", which monitoring in the field does not look for.
        self._messages = Gauge(f"{prefix}_next_visit_messages", "Visits received.", registry=self.registry)
        self._in_process = Gauge(
            f"{prefix}_prompt_processing_in_process_requests",
            "Visits received and not answered yet.",
            registry=self.registry,
        )
        self._seconds = Summary(
            "request_processing_seconds", "Time that accepted visits took.", registry=self.registry
        )
        self._results = Counter(
            "prompt_processing_visits", "Visits by result.", ["result"], registry=self.registry
        )
        self._alerts = Counter("prompt_processing_alerts", "Alerts sent.", registry=self.registry)
        self._outputs = Counter("prompt_processing_outputs", "Datasets exported.", registry=self.registry)
        self._image_to_alert = Histogram(
            "prompt_processing_image_to_alert_seconds",
            "From the image at its final name to the alert.",
            buckets=_BUCKETS,
            registry=self.registry,
        )
        for result in Result:
            self._results.labels(result.value)
        self.registry.register(_SlotCollector(prefix, snapshot))

    def received(self, visit: FannedOutVisit) -> None:
        """Count a visit that came in."""
        self._messages.inc()
        self._in_process.inc()

    def accepted(self, visit: FannedOutVisit) -> None:
        """Nothing is counted before a visit's end."""

    def finished(self, visit: FannedOutVisit, outcome: VisitOutcome, seconds: float) -> None:
        """Count an accepted visit's end."""
        self._seconds.observe(seconds)
        self._results.labels(outcome.result.value).inc()
        self._alerts.inc(outcome.alerts)
        self._outputs.inc(outcome.outputs)
        if outcome.timings.image_to_alert is not None:
            self._image_to_alert.observe(outcome.timings.image_to_alert)
        if outcome.result is not Result.PROCESSED:
            self._remember(str(visit), outcome.result.value, outcome.detail)

    def refused(self, visit: FannedOutVisit, error: PromptProcessingError) -> None:
        """Count a visit that was not accepted."""
        self.rejected(problem_for_error(error).title, str(error), str(visit))

    def answered(self, visit: FannedOutVisit) -> None:
        """Count down a visit that has its answer, whichever."""
        self._in_process.dec()

    def rejected(self, kind: str, detail: str, visit: str = "") -> None:
        """Count a request that was not served.

        Parameters
        ----------
        kind : `str`
            Short name of the problem.
        detail, visit : `str`
            For people.
        """
        self._results.labels(kind).inc()
        self._remember(visit, kind, detail)

    def _remember(self, visit: str, kind: str, detail: str) -> None:
        self.troubles.appendleft(Trouble(when=self._clock(), visit=visit, kind=kind, detail=detail[:500]))


class _SlotCollector(Collector):
    """Reads the slots when somebody asks."""

    def __init__(self, prefix: str, snapshot: Callable[[], PoolSnapshot]) -> None:
        self._prefix = prefix
        self._snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics of this moment."""
        pool = self._snapshot()
        yield GaugeMetricFamily(
            f"{self._prefix}_prompt_processing_instances_running",
            "Slots that process visits or could.",
            value=pool.usable,
        )
        yield GaugeMetricFamily(
            f"{self._prefix}_prompt_processing_instances_processing",
            "Slots that process a visit.",
            value=pool.busy,
        )
        states = GaugeMetricFamily("prompt_processing_slots", "Slots by state.", labels=["state"])
        for state in SlotState:
            states.add_metric([state.value], sum(s.state is state for s in pool.slots))
        yield states
        yield GaugeMetricFamily(
            "prompt_processing_visits_waiting", "Visits that wait for a slot.", value=pool.waiting
        )
        yield GaugeMetricFamily(
            "prompt_processing_slot_deaths", "Slots that ended in mid-visit.", value=pool.deaths
        )

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the names are not checked before the start."""
        return []
