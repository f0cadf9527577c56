"""Counting what the fan-out does, for Prometheus."""

from __future__ import annotations

__all__ = ["FanOutMetrics"]

import re
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary

from models.fan_out import Answer, SkipReason
from models.visits import SummitVisit

#: Upper bounds in seconds of the time from a nextVisit's arrival to its last
#: request.
_BUCKETS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 20, 60)


class FanOutMetrics:
    """A `services.fan_out.FanOutObserver`.

    Names without the prefix ``prompt_processing_`` are those that monitoring in
    the field reads.

    Parameters
    ----------
    instruments : iterable of `str`
    """

    def __init__(self, *, instruments: Iterable[str]) -> None:
        self.registry = CollectorRegistry()
        self._messages: dict[str, Gauge] = {}
        self._in_process: dict[str, Gauge] = {}
        for name in instruments:
            prefix = re.sub(r"[^a-z0-9_]", "_", name.lower())
            # Gauges, although some only grow: a Counter's name would end in
            # "_total", which monitoring in the field does not look for.
            self._messages[name] = Gauge(
                f"{prefix}_next_visit_messages", "NextVisits fanned out.", registry=self.registry
            )
            self._in_process[name] = Gauge(
                f"{prefix}_prompt_processing_in_process_requests",
                "Copies sent, or to be sent, and not answered yet.",
                registry=self.registry,
            )
        self._seconds = Summary(
            "request_processing_seconds", "Time until a copy was answered.", registry=self.registry
        )
        self._skipped = Counter(
            "prompt_processing_skipped_next_visits",
            "NextVisits not fanned out, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self._answers = Counter(
            "prompt_processing_fan_out_answers",
            "Last answers to copies, by status; broken: no answer; lost: never accepted.",
            ["instrument", "status"],
            registry=self.registry,
        )
        self._refused = Counter(
            "prompt_processing_fan_out_refused",
            "Connections that did not come about, and streams that could not be written.",
            ["instrument"],
            registry=self.registry,
        )
        self._retried = Counter(
            "prompt_processing_fan_out_retries",
            "Copies sent once more after a 503.",
            ["instrument"],
            registry=self.registry,
        )
        self._sent = Histogram(
            "prompt_processing_fan_out_seconds",
            "From a nextVisit's arrival until all its copies were sent.",
            ["instrument"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        for reason in SkipReason:
            self._skipped.labels(reason.value)

    def announced(self, visit: SummitVisit, copies: int) -> None:
        """Count a nextVisit."""
        self._messages[visit.instrument].inc()

    def skipped(self, reason: SkipReason) -> None:
        """Count a nextVisit that is not fanned out."""
        self._skipped.labels(reason.value).inc()

    def sent(self, instrument: str, seconds: float) -> None:
        """Note how long it took."""
        self._sent.labels(instrument).observe(seconds)

    def begun(self, instrument: str) -> None:
        """Count a copy as under way."""
        self._in_process[instrument].inc()

    def ended(self, instrument: str, seconds: float) -> None:
        """Count a copy as done."""
        self._in_process[instrument].dec()
        self._seconds.observe(seconds)

    def refused(self, instrument: str) -> None:
        """Count a copy that nobody accepted."""
        self._refused.labels(instrument).inc()

    def retried(self, instrument: str) -> None:
        """Count a second try."""
        self._retried.labels(instrument).inc()

    def answered(self, instrument: str, answer: Answer | None) -> None:
        """Count a last answer."""
        status = "lost" if answer is None else "broken" if answer.status is None else str(answer.status)
        self._answers.labels(instrument, status).inc()
