"""The data acquisition's client at the REST resources."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from models.streaming.monitoring import AgentReport, ExecutionStatus
from simulator.daq.monitor import NewExecution
from simulator.io.daq_monitor import RestDaqMonitor
from tests.repos.streaming.monitors import TOKEN, our_monitor, served

NOW = datetime(2026, 5, 4, 3, 2, 1, 5, tzinfo=UTC)


@pytest.mark.parametrize("end", [ExecutionStatus.COMPLETED, ExecutionStatus.TERMINATED])
def test_an_execution_from_begin_to_end(tmp_path: Path, end: ExecutionStatus) -> None:
    app, store = our_monitor(tmp_path)
    with served(app) as url, RestDaqMonitor(url, token=TOKEN) as monitor:
        assert monitor.next_agent_id() == 1
        assert monitor.next_execution_number("w") == 1
        assert monitor.next_run_number() == 100010
        definition = {"definition": "text", "parameter_values": {}, "created_by": "alice"}
        key = monitor.define_workflow("w", "1.0", **definition)
        assert monitor.define_workflow("w", "1.0", **definition) == key
        monitor.ensure_namespace("n", "alice")
        execution = NewExecution("w-alice-0001", key, "n", "alice", NOW, {"stf_count": 3})
        monitor.begin_execution(execution)
        monitor.begin_execution(execution)
        monitor.begin_run(100010, "w-alice-0001", at=NOW)
        monitor.begin_run(100010, "w-alice-0001", at=NOW)
        monitor.report(AgentReport(instance_name="me", agent_type="DAQ_Simulator", namespace="n"))
        assert not monitor.is_served("n", besides="me")
        assert monitor.is_served("n", besides="another")
        monitor.end_execution("w-alice-0001", end, end_time=NOW)
    row = store.executions.get("w-alice-0001")
    assert row is not None
    assert (row["status"], row["start_time"], row["end_time"]) == (str(end), NOW, NOW)
    assert store.run_states.get(100010) is not None
