"""Figures of the writer service for Prometheus."""

from __future__ import annotations

__all__ = ["WriterMetrics"]

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_PREFIX = "prompt_processing_writer"


class WriterMetrics:
    """Counts batches; see `services.writer.WriterObserver`.

    Attributes
    ----------
    registry : `prometheus_client.CollectorRegistry`
        What is to be served.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._lag = Gauge(
            f"{_PREFIX}_lag_messages", "Messages that wait in the queue.", registry=self.registry
        )
        self._size = Histogram(
            f"{_PREFIX}_batch_messages",
            "Messages in a batch.",
            buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
            registry=self.registry,
        )
        self._seconds = Histogram(
            f"{_PREFIX}_batch_seconds",
            "Seconds from a batch's arrival to its event.",
            buckets=(0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100),
            registry=self.registry,
        )
        self._datasets = Counter(
            f"{_PREFIX}_datasets", "Datasets in settled batches.", registry=self.registry
        )
        self._set_aside = Counter(
            f"{_PREFIX}_set_aside", "Messages that were set aside.", ["kind"], registry=self.registry
        )
        for kind in ("malformed", "conflict"):
            self._set_aside.labels(kind)
        self._degraded = Gauge(
            f"{_PREFIX}_degraded", "1 while something that the writer needs is away.", registry=self.registry
        )

    def batch(self, *, messages: int, datasets: int, seconds: float) -> None:
        """A batch was settled."""
        self._size.observe(messages)
        self._seconds.observe(seconds)
        self._datasets.inc(datasets)

    def set_aside(self, kind: str) -> None:
        """A message was set aside."""
        self._set_aside.labels(kind).inc()

    def lag(self, messages: int) -> None:
        """So many messages wait."""
        self._lag.set(messages)

    def trouble(self, reason: str | None) -> None:
        """Something that is needed is away, or back."""
        self._degraded.set(0 if reason is None else 1)
