"""The streaming workflow in figures, for Prometheus."""

from __future__ import annotations

__all__ = ["MonitorMetrics"]

import time
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from models.errors import TemporarilyUnavailable
from models.streaming.messages import COMMANDS, EVENTS
from models.streaming.monitoring import (
    AgentLife,
    AgentStatus,
    BusHeartbeat,
    ExecutionStatus,
    RecordedMessage,
    StfStatus,
    agent_life,
)
from repos.streaming.monitor_store import MonitorStore
from services.streaming.message_recorder import MessageSink

_PREFIX = "prompt_processing_streaming"
#: Agents that have not been heard of for so long are history.
_HISTORY = timedelta(hours=24)
#: Counts of rows are asked for again after so many times what it took to
#: count them: who looks often does not keep the database busy.
_REST = 20.0
_KINDS = frozenset({*EVENTS, *COMMANDS})
_OF_AGENT = ["agent", "agent_type", "namespace"]
#: What agents tell of their queues, and the labels it gets.
_QUEUES = {
    f"{queue}_{state}": [queue, state] for queue in ("inbox", "outbox") for state in ("waiting", "refused")
}


class MonitorMetrics:
    """Figures of a monitor; a `services.streaming.message_recorder.MessageSink`
    that counts what it hands on.

    Parameters
    ----------
    store : `repos.streaming.monitor_store.MonitorStore`
    bus_connected : callable
        Says whether the bus is heard; None without one.
    now : callable, optional
        Returns the present time, aware.

    Attributes
    ----------
    registry : `prometheus_client.CollectorRegistry`
        What is to be served.
    """

    def __init__(
        self,
        store: MonitorStore,
        *,
        bus_connected: Callable[[], bool | None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.registry = CollectorRegistry()
        self._sink: MessageSink = store.messages
        self._messages = Counter(
            f"{_PREFIX}_messages",
            "Messages of the bus that were recorded, by type.",
            ["message_type"],
            registry=self.registry,
        )
        self._heartbeats = Counter(
            f"{_PREFIX}_bus_heartbeats", "Signs of life that came over the bus.", registry=self.registry
        )
        for kind in sorted(_KINDS):
            self._messages.labels(kind)
        self.registry.register(_StoreCollector(store, bus_connected, now))

    def record(self, messages: Sequence[RecordedMessage], heartbeats: Sequence[BusHeartbeat] = ()) -> None:
        """Keep messages and what they tell, and count them.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database is away; nothing is kept.
        """
        self._sink.record(messages, heartbeats)
        self._heartbeats.inc(len(heartbeats))
        for message in messages:
            # Whoever talks on the bus may make types up; Prometheus keeps each.
            kind = message.message_type if message.message_type in _KINDS else "other"
            self._messages.labels(kind if message.is_successful else "unreadable").inc()


class _StoreCollector(Collector):
    """Reads the monitor's database when somebody asks."""

    def __init__(
        self, store: MonitorStore, bus_connected: Callable[[], bool | None], now: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._bus_connected = bus_connected
        self._now = now
        self._counts: tuple[Mapping[str, int], Mapping[str, int]] = {}, {}
        self._count_again = float("-inf")

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics of this moment; without the database, those that
        do not need it.
        """
        if (connected := self._bus_connected()) is not None:
            yield GaugeMetricFamily(
                f"{_PREFIX}_bus_connected", "1 while the bus is heard.", value=int(connected)
            )
        try:
            metrics = [*self._rows(), *self._agents()]
        except TemporarilyUnavailable:
            metrics = []
        yield GaugeMetricFamily(
            f"{_PREFIX}_database_up", "1 while the monitor's database answers.", value=int(bool(metrics))
        )
        yield from metrics

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the names are not checked before the start."""
        return []

    def _rows(self) -> Iterable[Metric]:
        if time.monotonic() >= self._count_again:
            begun = time.monotonic()
            self._counts = self._store.files.tally("status"), self._store.executions.tally("status")
            self._count_again = time.monotonic() + _REST * (time.monotonic() - begun)
        files, executions = self._counts
        metric = GaugeMetricFamily(f"{_PREFIX}_stf_files", "STF files by status.", labels=["status"])
        for status in sorted({*StfStatus, *files}):
            metric.add_metric([status], files.get(status, 0))
        yield metric
        metric = GaugeMetricFamily(
            f"{_PREFIX}_executions", "Executions of workflows by status.", labels=["status"]
        )
        others = sum(count for status, count in executions.items() if status not in [*ExecutionStatus])
        for known in ExecutionStatus:
            metric.add_metric([known.value], executions.get(known.value, 0))
        metric.add_metric(["other"], others)
        yield metric

    def _agents(self) -> Iterable[Metric]:
        now = self._now()
        rows = self._store.agents.heard_since(now - _HISTORY)
        lives = {row["instance_name"]: agent_life(row, now) for row in rows}
        states: Tally[tuple[str, str, AgentLife]] = Tally()
        for row in rows:
            states[row["agent_type"], row["namespace"] or "", lives[row["instance_name"]]] += 1
        agents = GaugeMetricFamily(
            f"{_PREFIX}_agents",
            "Agents of the last 24 hours, by whether they are alive, silent or ended.",
            labels=["agent_type", "namespace", "life"],
        )
        for kind, namespace in sorted({(kind, namespace) for kind, namespace, _ in states}):
            for life in AgentLife:
                agents.add_metric([kind, namespace, life.value], states[kind, namespace, life])
        yield agents
        # Of who has ended there is nothing to watch.
        there = [row for row in rows if lives[row["instance_name"]] is not AgentLife.ENDED]
        yield from (
            _by_agent(name, text, there, value)
            for name, text, value in (
                (
                    "agent_heartbeat_age_seconds",
                    "Time since an agent was heard of.",
                    lambda row: max(0.0, (now - row["last_heartbeat"]).total_seconds()),
                ),
                (
                    "agent_ok",
                    "1 if an agent says that it is well.",
                    lambda row: int(row["status"] == AgentStatus.OK),
                ),
                (
                    "agent_bus_connected",
                    "1 if an agent hears the bus.",
                    lambda row: None if row["mq_connected"] is None else int(row["mq_connected"]),
                ),
                ("agent_files_in_hand", "STF files that an agent has in hand.", _column("current_stf_count")),
                (
                    "agent_files_done",
                    "STF files that an agent has done with since it started.",
                    _column("total_stf_processed"),
                ),
            )
        )
        yield _queues(there)


def _column(name: str) -> Callable[[Mapping[str, Any]], float | None]:
    return lambda row: row[name]


def _by_agent(
    name: str,
    text: str,
    rows: Iterable[Mapping[str, Any]],
    value: Callable[[Mapping[str, Any]], float | None],
) -> Metric:
    metric = GaugeMetricFamily(f"{_PREFIX}_{name}", text, labels=_OF_AGENT)
    for row in rows:
        if (number := value(row)) is not None:
            metric.add_metric(_labels(row), number)
    return metric


def _queues(rows: Iterable[Mapping[str, Any]]) -> Metric:
    metric = GaugeMetricFamily(
        f"{_PREFIX}_agent_messages",
        "Messages in an agent's inbox and outbox that wait, or are set aside.",
        labels=[*_OF_AGENT, "queue", "state"],
    )
    for row in rows:
        told = row["metadata"] if isinstance(row["metadata"], Mapping) else {}
        for name, labels in _QUEUES.items():
            # Agents of others may mean something else by these names.
            if isinstance(told.get(name), int | float):
                metric.add_metric([*_labels(row), *labels], float(told[name]))
    return metric


def _labels(row: Mapping[str, Any]) -> list[str]:
    return [row["instance_name"], row["agent_type"], row["namespace"] or ""]
