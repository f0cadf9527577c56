"""What `testbed status` gathers, of the monitor's database and over HTTP."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from app.streaming.embedded_daq_monitor import EmbeddedDaqMonitor
from app.streaming.embedded_past import Traces
from app.streaming.testbed_status import gather_status, print_status
from config.streaming.settings import StreamingSettings, load_streaming_settings
from models.errors import TemporarilyUnavailable
from models.streaming.monitoring import AgentReport, FileUpdate, NewStfFile, StfStatus
from repos.streaming.database import create_streaming_engine
from repos.streaming.embedded_monitor import EmbeddedMonitor
from repos.streaming.monitor_client import MonitorClient
from repos.streaming.monitor_http import MonitorHttp
from repos.streaming.monitor_overview import HttpOverview, StoreOverview
from repos.streaming.monitor_store import MonitorStore
from simulator.daq.monitor import NewExecution

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path) -> StreamingSettings:
    return load_streaming_settings({"PP_TESTBED_DIRECTORY": str(tmp_path)})


@pytest.fixture
def store(settings: StreamingSettings) -> MonitorStore:
    """A monitor with one execution, and one that has no run yet."""
    store = MonitorStore.on(create_streaming_engine(settings.monitor_database_url))
    daq, monitor = EmbeddedDaqMonitor(store), EmbeddedMonitor(store)
    key = daq.define_workflow("w", "1", definition="", parameter_values={}, created_by="alice")
    for number, namespace in ((1, "epic"), (2, "other")):
        daq.begin_execution(NewExecution(f"w-alice-000{number}", key, namespace, "alice", NOW, {}))
    daq.begin_run(7, "w-alice-0001", at=NOW)
    monitor.open_run(7, start_time=NOW)
    files = monitor.register_files(7, [NewStfFile(stf_filename=f"{n}.stf") for n in range(3)])
    metadata = {"panda_task_id": "12"}
    monitor.update_files(
        7, [FileUpdate(file_id=files[0].file_id, status=StfStatus.PROCESSED, metadata=metadata)]
    )
    monitor.report(AgentReport(instance_name="data-agent-alice-1", agent_type="DATA", namespace="epic"))
    return store


def test_executions_runs_files_tasks_and_agents(store: MonitorStore) -> None:
    facts = gather_status(EmbeddedMonitor(store), StoreOverview(store), namespace="epic", limit=5)
    (execution,) = facts["executions"]
    assert execution["execution_id"] == "w-alice-0001"
    assert (execution["run_number"], execution["phase"]) == (7, "initializing")
    assert (execution["files"], execution["tasks"]) == ({"processed": 1, "registered": 2}, ["12"])
    assert [agent["instance_name"] for agent in facts["agents"]] == ["data-agent-alice-1"]
    everything = gather_status(EmbeddedMonitor(store), StoreOverview(store), namespace=None, limit=5)
    assert {row["execution_id"]: row["run_number"] for row in everything["executions"]} == {
        "w-alice-0001": 7,
        "w-alice-0002": None,
    }


def test_it_is_printed_for_people_and_programs(settings: StreamingSettings, store: MonitorStore) -> None:
    assert store.runs.by_number(7) is not None
    here = Traces(settings.in_one_process.testbed_directory)
    here.note(namespace="epic", agents=["data-agent-alice-1"], execution_id="w-alice-0001")
    output = io.StringIO()
    console = Console(file=output, width=120)
    print_status(settings, namespace=None, limit=5, json_wanted=False, console=console)
    assert "├── Run 7: initializing; files: 1 processed, 2 registered\n" in output.getvalue().replace(
        "│   ", ""
    )
    assert "data-agent-alice-1: OK, READY" in output.getvalue()
    assert "w-alice-0001, data-agent-alice-1: died with the process" in output.getvalue()
    # Its data taking was over, its processing not.
    here.note(execution_id="w-alice-0003")
    output.truncate(output.seek(0))
    print_status(settings, namespace=None, limit=5, json_wanted=False, console=console)
    assert "\ndata-agent-alice-1: died with the process" in output.getvalue()
    here.note(agents=["data-agent-alice-2"])
    output.truncate(output.seek(0))
    print_status(settings, namespace=None, limit=5, json_wanted=False, console=console)
    assert "died" not in output.getvalue()
    output.truncate(output.seek(0))
    print_status(settings, namespace=None, limit=1, json_wanted=True, console=console)
    assert len(json.loads(output.getvalue())["executions"]) == 1


def test_nothing_has_run(settings: StreamingSettings) -> None:
    with pytest.raises(TemporarilyUnavailable, match="nothing has run in"):
        print_status(settings, namespace=None, limit=5, json_wanted=False, console=Console())


def test_over_http_from_a_monitor_without_filters() -> None:
    rows: dict[str, list[dict[str, object]]] = {
        "systemagents/": [
            {"instance_name": "a", "namespace": "epic"},
            {"instance_name": "b", "namespace": "other"},
        ],
        "workflow-executions/": [
            {"execution_id": "w-1", "start_time": "2026-01-01T00:00:00Z"},
            {"execution_id": "w-2", "start_time": "2026-01-02T00:00:00Z"},
        ],
        "run-states/": [
            {"run_number": 3, "metadata": None},
            {"run_number": 4, "metadata": {"execution_id": "w-1"}},
        ],
        "runs/": [{"run_id": 9, "run_number": 3}, {"run_id": 8, "run_number": 4}],
    }

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=rows[request.url.path.removeprefix("/api/")])

    http = MonitorHttp("http://monitor", transport=httpx.MockTransport(answer))
    overview = HttpOverview(http)
    assert [row["instance_name"] for row in overview.agents("epic")] == ["a"]
    assert [row["execution_id"] for row in overview.executions(limit=1)] == ["w-2"]
    assert (overview.run_number("w-1"), overview.run_number("w-2")) == (4, None)
    run = overview.run(4)
    assert run is not None
    assert run["run_id"] == 8
    assert overview.run(5) is None
    MonitorClient(http).close()


def test_a_monitor_that_gives_no_list_counts_as_away() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json={"detail": "x"}))
    with pytest.raises(TemporarilyUnavailable, match="gave no list"):
        HttpOverview(MonitorHttp("http://monitor", transport=transport)).agents()


def test_a_monitor_that_is_away_is_named(tmp_path: Path) -> None:
    env = {"PP_TESTBED_DIRECTORY": str(tmp_path), "SWF_MONITOR_URL": "http://127.0.0.1:9"}
    with pytest.raises(TemporarilyUnavailable, match=r"http://127\.0\.0\.1:9.*prompt-processing monitor"):
        print_status(
            load_streaming_settings(env), namespace=None, limit=5, json_wanted=False, console=Console()
        )


def test_a_database_that_is_named_and_is_not_there(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/none.db"
    named = load_streaming_settings({"PP_MONITOR_DATABASE": url})
    with pytest.raises(TemporarilyUnavailable, match="PP_MONITOR_DATABASE: nothing has made"):
        print_status(named, namespace=None, limit=5, json_wanted=False, console=Console())
