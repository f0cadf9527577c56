"""The monitor for a DAQ in its own process."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.streaming.embedded_daq_monitor import EmbeddedDaqMonitor
from models.streaming.monitoring import AgentReport, AgentStatus, ExecutionStatus
from repos.streaming.database import create_streaming_engine
from repos.streaming.monitor_store import MonitorStore
from simulator.daq.monitor import NewExecution

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> MonitorStore:
    return MonitorStore.on(create_streaming_engine(f"sqlite:///{tmp_path}/monitor.db"))


@pytest.fixture
def monitor(store: MonitorStore) -> EmbeddedDaqMonitor:
    return EmbeddedDaqMonitor(store)


def test_an_execution_from_begin_to_end(store: MonitorStore, monitor: EmbeddedDaqMonitor) -> None:
    assert (monitor.next_agent_id(), monitor.next_execution_number("w"), monitor.next_run_number()) == (
        1,
        1,
        100010,
    )
    definition = {"definition": "text", "parameter_values": {"a": 1}, "created_by": "alice"}
    key = monitor.define_workflow("w", "1.0", **definition)
    assert monitor.define_workflow("w", "1.0", **{**definition, "definition": "other"}) == key
    monitor.ensure_namespace("n", "alice")
    monitor.ensure_namespace("n", "bob")
    execution = NewExecution("w-alice-0001", key, "n", "alice", NOW, {"stf_count": 3})
    monitor.begin_execution(execution)
    # The answer to the first may have been lost.
    monitor.begin_execution(execution)
    row = store.executions.get("w-alice-0001")
    assert row is not None
    assert (row["status"], row["start_time"], row["parameter_values"]) == ("running", NOW, {"stf_count": 3})
    monitor.begin_run(100010, "w-alice-0001", at=NOW)
    monitor.begin_run(100010, "w-alice-0001", at=NOW)
    (state,) = store.run_states.find()
    assert (state["phase"], state["state"], state["substate"]) == ("initializing", "imminent", "preparing")
    assert state["metadata"]["execution_id"] == "w-alice-0001"
    assert not monitor.is_over("w-alice-0001")
    assert not monitor.is_over("unknown")
    monitor.end_execution("w-alice-0001", ExecutionStatus.FAILED, end_time=NOW)
    assert monitor.is_over("w-alice-0001")
    monitor.end_execution("w-alice-0001", ExecutionStatus.COMPLETED, end_time=NOW)
    row = store.executions.get("w-alice-0001")
    assert row is not None and row["status"] == "failed"
    monitor.end_run(100010, at=NOW)
    (state,) = store.run_states.find()
    assert (state["phase"], state["state"], state["substate"]) == ("completed", "ended", None)


def test_who_serves_a_namespace(monitor: EmbeddedDaqMonitor) -> None:
    def report(name: str, kind: str, *, status: AgentStatus = AgentStatus.OK, namespace: str = "n") -> None:
        monitor.report(AgentReport(instance_name=name, agent_type=kind, status=status, namespace=namespace))

    report("me", "DAQ_Simulator")
    report("data", "DATA")
    report("elsewhere", "DAQ_Simulator", namespace="other")
    report("gone", "DAQ_Simulator", status=AgentStatus.EXITED)
    assert not monitor.is_served("n", besides="me")
    assert monitor.is_served("n", besides="")
    report("another", "DAQ_Simulator")
    assert monitor.is_served("n", besides="me")


def test_an_agent_is_told_of_before_its_first_sign_of_life_is_kept(store: MonitorStore) -> None:
    """Else nobody would know that it died with its process."""
    told: list[tuple[str, int]] = []
    monitor = EmbeddedDaqMonitor(
        store, before_agent=lambda name: told.append((name, len(store.agents.alive("epic"))))
    )
    for _ in range(2):
        monitor.report(AgentReport(instance_name="daq-1", agent_type="DAQ_Simulator", namespace="epic"))
    assert told == [("daq-1", 0)]
    assert [row["instance_name"] for row in store.agents.alive("epic")] == ["daq-1"]
