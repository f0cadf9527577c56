"""The monitor's figures for Prometheus."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from app.streaming.monitor_metrics import MonitorMetrics
from models.errors import TemporarilyUnavailable
from models.streaming.bus import ReceivedMessage
from models.streaming.messages import RUN_TOPIC
from models.streaming.monitoring import FileUpdate, StfStatus
from repos.streaming.database import create_streaming_engine
from repos.streaming.monitor_store import MonitorStore
from services.streaming.message_recorder import MessageRecorder

PREFIX = "prompt_processing_streaming_"


@pytest.fixture
def store(tmp_path: Path) -> MonitorStore:
    return MonitorStore.on(create_streaming_engine(f"sqlite:///{tmp_path}/monitor.db"))


class Scrape:
    """What Prometheus reads."""

    def __init__(self, metrics: MonitorMetrics) -> None:
        self.samples = [
            sample
            for family in text_string_to_metric_families(generate_latest(metrics.registry).decode())
            for sample in family.samples
        ]

    def __call__(self, name: str, **labels: str) -> float | None:
        found = [
            sample.value
            for sample in self.samples
            if sample.name == PREFIX + name and labels.items() <= sample.labels.items()
        ]
        assert len(found) <= 1, found
        return found[0] if found else None


def metrics_of(store: MonitorStore, connected: bool | None = None, **options: Any) -> MonitorMetrics:
    return MonitorMetrics(store, bus_connected=lambda: connected, **options)


def heartbeat(store: MonitorStore, name: str, **values: Any) -> None:
    store.agents.heartbeat(
        {"instance_name": name, "agent_type": "DATA", "namespace": "epic", "mq_connected": True, **values}
    )


class TestAgents:
    def test_lives_and_ages(self, store: MonitorStore) -> None:
        heartbeat(store, "a", current_stf_count=3, total_stf_processed=40)
        heartbeat(store, "b", status="EXITED")
        now = datetime.now(UTC)
        scrape = Scrape(metrics_of(store))
        assert scrape("agents", agent_type="DATA", namespace="epic", life="alive") == 1
        assert scrape("agents", life="ended") == 1
        assert scrape("agents", life="silent") == 0
        assert scrape("agent_files_in_hand", agent="a") == 3
        assert scrape("agent_files_done", agent="a", agent_type="DATA", namespace="epic") == 40
        assert scrape("agent_ok", agent="a") == 1
        assert scrape("agent_heartbeat_age_seconds", agent="b") is None

        later = Scrape(metrics_of(store, now=lambda: now + timedelta(minutes=10)))
        assert later("agents", life="silent") == 1
        age = later("agent_heartbeat_age_seconds", agent="a")
        assert age is not None and age >= 600

    def test_who_has_been_gone_for_a_day_is_left_out(self, store: MonitorStore) -> None:
        heartbeat(store, "a")
        tomorrow = datetime.now(UTC) + timedelta(hours=25)
        assert Scrape(metrics_of(store, now=lambda: tomorrow))("agents", life="silent") is None

    def test_an_agent_that_is_unwell_and_hears_nothing(self, store: MonitorStore) -> None:
        heartbeat(store, "a", status="WARNING", mq_connected=False)
        heartbeat(store, "of-the-field", mq_connected=None)
        scrape = Scrape(metrics_of(store))
        assert scrape("agent_ok", agent="a") == 0
        assert scrape("agent_bus_connected", agent="a") == 0
        assert scrape("agent_bus_connected", agent="of-the-field") is None

    def test_queues_that_agents_tell(self, store: MonitorStore) -> None:
        heartbeat(store, "a", metadata={"inbox_waiting": 7, "outbox_refused": 1})
        heartbeat(store, "b", metadata={"inbox_waiting": "many"})
        heartbeat(store, "c", metadata=["no mapping"])
        scrape = Scrape(metrics_of(store))
        assert scrape("agent_messages", agent="a", queue="inbox", state="waiting") == 7
        assert scrape("agent_messages", agent="a", queue="outbox", state="refused") == 1
        assert scrape("agent_messages", agent="b") is None
        assert scrape("agent_messages", agent="c") is None


class TestRows:
    def test_files_and_executions_by_status(self, store: MonitorStore) -> None:
        run = store.runs.open(7, start_time=datetime.now(UTC))["run_id"]
        rows = store.files.register([{"run": run, "stf_filename": f"{n}.stf"} for n in range(3)])
        store.files.update([FileUpdate(file_id=rows[0]["file_id"], status=StfStatus.PROCESSED)])
        for number, status in enumerate(["running", "failed", "made up", "by strangers"]):
            store.executions.add(
                {"execution_id": f"x{number}", "status": status, "start_time": datetime.now(UTC)}
            )
        scrape = Scrape(metrics_of(store))
        assert scrape("stf_files", status="registered") == 2
        assert scrape("stf_files", status="processed") == 1
        assert scrape("stf_files", status="failed") == 0
        assert scrape("executions", status="running") == 1
        assert scrape("executions", status="completed") == 0
        assert scrape("executions", status="other") == 2

    def test_the_database_is_away(self, store: MonitorStore, monkeypatch: pytest.MonkeyPatch) -> None:
        metrics = metrics_of(store, connected=False)
        assert Scrape(metrics)("database_up") == 1

        def away(*_: Any, **__: Any) -> Any:
            raise TemporarilyUnavailable("the database is away")

        monkeypatch.setattr(store.agents, "heard_since", away)
        scrape = Scrape(metrics)
        assert scrape("database_up") == 0
        assert scrape("bus_connected") == 0
        assert scrape("stf_files", status="registered") is None


class TestMessages:
    def test_messages_are_recorded_and_counted(self, store: MonitorStore) -> None:
        metrics = metrics_of(store, connected=True)
        recorder = MessageRecorder(metrics)
        texts = [
            '{"msg_type": "stf_gen"}',
            '{"msg_type": "made up"}',
            "no JSON",
            '{"agent_name": "a", "status": "OK"}',
        ]
        for number, text in enumerate(texts):
            recorder.receive(ReceivedMessage(destination=RUN_TOPIC, message_id=f"m{number}", text=text))
        scrape = Scrape(metrics)
        assert scrape("messages_total", message_type="stf_gen") == 1
        assert scrape("messages_total", message_type="end_run") == 0
        assert scrape("messages_total", message_type="other") == 1
        assert scrape("messages_total", message_type="unreadable") == 1
        assert scrape("bus_heartbeats_total") == 1
        assert scrape("bus_connected") == 1
        assert store.messages.listed().total == 3

    def test_what_is_not_kept_is_not_counted(
        self, store: MonitorStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        metrics = metrics_of(store)

        def away(*_: Any, **__: Any) -> Any:
            raise TemporarilyUnavailable("the database is away")

        monkeypatch.setattr(store.messages, "record", away)
        message = ReceivedMessage(destination=RUN_TOPIC, message_id="m", text='{"msg_type": "stf_gen"}')
        with pytest.raises(TemporarilyUnavailable):
            MessageRecorder(metrics).receive(message)
        assert Scrape(metrics)("messages_total", message_type="stf_gen") == 0
        assert Scrape(metrics)("bus_connected") is None
