"""Wiring of the outbox: what waits in the ledger, and the clusters it goes to."""

from __future__ import annotations

__all__ = ["OutboxCollector", "build_outbox"]

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from app.kafka_access import alerts_access, writer_access
from config.settings import ServiceSettings
from models.events import ALERT, BUTLER_WRITER
from repos.outbox_kafka import KafkaSender
from services.outbox import MessageStore, OutboxDrain, Sender


def build_outbox(settings: ServiceSettings, store: MessageStore) -> OutboxDrain:
    """Return what sends the outbox's messages; nothing is connected yet.

    Parameters
    ----------
    settings : `config.settings.ServiceSettings`
    store : `services.outbox.MessageStore`
        Where the messages wait.
    """
    clusters = {BUTLER_WRITER: writer_access(settings), ALERT: alerts_access(settings)}
    senders: dict[str, Sender] = {
        kind: KafkaSender(access) for kind, access in clusters.items() if access is not None
    }
    return OutboxDrain(store=store, senders=senders)


class OutboxCollector(Collector):
    """Counts what is in the outbox, when someone asks.

    Parameters
    ----------
    drain : `services.outbox.OutboxDrain`
    """

    def __init__(self, drain: OutboxDrain) -> None:
        self._drain = drain

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return the figures."""
        gauge = GaugeMetricFamily(
            "prompt_processing_outbox_messages",
            "Messages in the outbox: waiting for a broker, or refused by it and set aside.",
            labels=["state", "kind"],
        )
        for state, by_kind in self._drain.counts().items():
            for kind in sorted({ALERT, BUTLER_WRITER, *by_kind}):
                gauge.add_metric([state, kind], by_kind.get(kind, 0))
        yield gauge
