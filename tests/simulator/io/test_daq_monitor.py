"""What the data acquisition asks the monitor, and how it takes the answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from flask import Flask

from app.streaming.rest.blueprint import create_rest_blueprint
from models.errors import InvalidMessage, TemporarilyUnavailable
from models.streaming.monitoring import AgentReport, AgentState, AgentStatus, ExecutionStatus
from repos.streaming.database import create_streaming_engine
from repos.streaming.monitor_store import MonitorStore
from simulator.daq.monitor import NewExecution
from simulator.io.daq_monitor import RestDaqMonitor

NOW = datetime(2026, 3, 14, 9, 26, 58, 589793, tzinfo=UTC)
Handler = Callable[[httpx.Request], httpx.Response]


def execution(name: str = "prompt_processing-alice-0001", definition: int = 1) -> NewExecution:
    return NewExecution(
        execution_id=name,
        workflow_definition=definition,
        namespace="test-user",
        executed_by="alice",
        start_time=NOW,
        parameter_values={"stf_count": 3},
    )


def report(name: str, **fields: Any) -> AgentReport:
    given = {"agent_type": "DAQ_Simulator", "namespace": "test-user", **fields}
    return AgentReport(instance_name=name, **given)


class Ours:
    """This project's monitor, in this process."""

    def __init__(self, database: Path) -> None:
        self.store = MonitorStore.on(create_streaming_engine(f"sqlite:///{database}", setting="TEST"))
        app = Flask("monitor")
        app.register_blueprint(create_rest_blueprint(self.store, zone=ZoneInfo("UTC"), token="secret"))
        client = httpx.Client(transport=httpx.WSGITransport(app), base_url="http://monitor")
        self.monitor = RestDaqMonitor("http://monitor/", token="secret", attempts=2, delay=0.0, client=client)


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[Ours]:
    world = Ours(tmp_path / "monitor.sqlite3")
    with world.monitor:
        yield world


def test_a_run_at_our_monitor(ours: Ours) -> None:
    monitor = ours.monitor
    assert monitor.next_agent_id() + 1 == monitor.next_agent_id()
    assert monitor.next_execution_number("prompt_processing") == 1
    assert monitor.next_run_number() == 100010
    key = monitor.define_workflow(
        "prompt_processing", "1.0", definition="code", parameter_values={}, created_by="alice"
    )
    again = monitor.define_workflow(
        "prompt_processing", "1.0", definition="other", parameter_values={}, created_by="bob"
    )
    assert again == key
    for _ in range(2):
        # Asked again after an answer that was lost.
        monitor.ensure_namespace("test-user", "alice")
        monitor.begin_execution(execution(definition=key))
        monitor.begin_run(100010, "prompt_processing-alice-0001", at=NOW)
    row = ours.store.executions.get("prompt_processing-alice-0001")
    assert row is not None
    assert (row["status"], row["start_time"], row["namespace"]) == ("running", NOW, "test-user")
    state = ours.store.run_states.get(100010)
    assert state is not None
    assert (state["phase"], state["state"], state["substate"]) == ("initializing", "imminent", "preparing")
    monitor.end_execution("prompt_processing-alice-0001", ExecutionStatus.TERMINATED, end_time=NOW)
    row = ours.store.executions.get("prompt_processing-alice-0001")
    assert row is not None
    assert (row["status"], row["end_time"]) == ("terminated", NOW)
    monitor.end_run(100010, at=NOW)
    state = ours.store.run_states.get(100010)
    assert state is not None
    assert (state["phase"], state["state"], state["substate"]) == ("completed", "ended", None)
    # One that nobody registered is over as it is.
    monitor.end_run(100011, at=NOW)
    assert ours.store.run_states.get(100011) is None


@pytest.mark.parametrize(
    "status", [status for status in ExecutionStatus if status not in ("pending", "running")]
)
def test_whether_an_execution_is_over(ours: Ours, status: ExecutionStatus) -> None:
    monitor = ours.monitor
    key = monitor.define_workflow("w", "1.0", definition="", parameter_values={}, created_by="alice")
    monitor.begin_execution(execution(definition=key))
    assert not monitor.is_over("prompt_processing-alice-0001")
    monitor.end_execution("prompt_processing-alice-0001", status, end_time=NOW)
    assert monitor.is_over("prompt_processing-alice-0001")


def test_it_is_not_known_whether_an_execution_that_is_not_there_is_over(ours: Ours) -> None:
    with pytest.raises(TemporarilyUnavailable):
        ours.monitor.is_over("prompt_processing-alice-0001")


def test_an_execution_that_failed_stays_failed(ours: Ours) -> None:
    monitor = ours.monitor
    key = monitor.define_workflow("w", "1.0", definition="", parameter_values={}, created_by="alice")
    monitor.begin_execution(execution(definition=key))
    for status in (ExecutionStatus.FAILED, ExecutionStatus.COMPLETED):
        monitor.end_execution("prompt_processing-alice-0001", status, end_time=NOW)
    row = ours.store.executions.get("prompt_processing-alice-0001")
    assert row is not None
    assert row["status"] == "failed"


def test_an_execution_of_somebody_else_is_not_taken_over(ours: Ours) -> None:
    monitor = ours.monitor
    key = monitor.define_workflow("w", "1.0", definition="", parameter_values={}, created_by="alice")
    other = NewExecution(**{**vars(execution(definition=key)), "start_time": NOW.replace(year=2025)})
    monitor.begin_execution(other)
    with pytest.raises(InvalidMessage, match="prompt_processing-alice-0001"):
        monitor.begin_execution(execution(definition=key))


def test_who_serves_a_namespace(ours: Ours) -> None:
    monitor = ours.monitor
    assert not monitor.is_served("test-user", besides="me")
    monitor.report(report("me"))
    monitor.report(report("other-kind", agent_type="DATA"))
    monitor.report(report("other-namespace", namespace="bob"))
    monitor.report(report("gone", status=AgentStatus.EXITED, operational_state=AgentState.EXITED))
    assert not monitor.is_served("test-user", besides="me")
    assert monitor.is_served("test-user", besides="somebody")
    assert monitor.is_served("bob", besides="me")


def test_without_the_token_nothing_is_taken(ours: Ours) -> None:
    ours.monitor._headers.clear()
    # Once the token is right, the same succeeds.
    with pytest.raises(TemporarilyUnavailable, match=r"state/next-run-number/ refuses .*SWF_API_TOKEN"):
        ours.monitor.next_run_number()


class Theirs:
    """A monitor that answers as it is told; the requests are kept."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.requests: list[httpx.Request] = []
        self._answers = list(answers)
        client = httpx.Client(transport=httpx.MockTransport(self._answer))
        self.monitor = RestDaqMonitor("http://monitor/swf", attempts=3, delay=0.0, client=client)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def asked(self) -> list[str]:
        return [f"{request.method} {request.url.raw_path.decode()}" for request in self.requests]


def test_the_paths_are_the_fields() -> None:
    theirs = Theirs(
        httpx.Response(200, json={"sequence": 12, "status": "success"}),
        httpx.Response(200, json=[{"id": 3, "workflow_name": "w", "version": "0.9"}]),
        httpx.Response(201, json={"workflow_name": "w"}),
        httpx.Response(200, json=[{"id": 7, "workflow_name": "w", "version": "1.0"}]),
        httpx.Response(200, json={"name": "n"}),
        httpx.Response(201, json={}),
        httpx.Response(200, json={"run_number": 100011, "status": "success"}),
        httpx.Response(201, json={}),
        httpx.Response(200, json={"status": "running"}),
        httpx.Response(200, json={}),
    )
    monitor = theirs.monitor
    assert monitor.next_execution_number("w") == 12
    # A filter that the monitor does not know returns all.
    assert monitor.define_workflow("w", "1.0", definition="d", parameter_values={"a": 1}, created_by="u") == 7
    monitor.ensure_namespace("n", "u")
    monitor.begin_execution(execution("w-u-0012", 7))
    assert monitor.next_run_number() == 100011
    monitor.begin_run(100011, "w-u-0012", at=NOW)
    monitor.end_execution("w-u-0012", ExecutionStatus.COMPLETED, end_time=NOW)
    assert theirs.asked == [
        "POST /swf/api/state/next-workflow-execution-id/",
        "GET /swf/api/workflow-definitions/?workflow_name=w&version=1.0",
        "POST /swf/api/workflow-definitions/",
        "GET /swf/api/workflow-definitions/?workflow_name=w&version=1.0",
        "POST /swf/api/namespaces/ensure/",
        "POST /swf/api/workflow-executions/",
        "POST /swf/api/state/next-run-number/",
        "POST /swf/api/run-states/",
        "GET /swf/api/workflow-executions/w-u-0012/",
        "PATCH /swf/api/workflow-executions/w-u-0012/",
    ]
    bodies = [json.loads(request.content) for request in theirs.requests if request.content]
    assert bodies[0] == {"workflow_name": "w"}
    created = bodies[1].pop("created_at")
    assert datetime.fromisoformat(created).tzinfo is not None
    assert bodies[1] == {
        "workflow_name": "w",
        "version": "1.0",
        "workflow_type": "simulation",
        "definition": "d",
        "parameter_values": {"a": 1},
        "created_by": "u",
    }
    assert bodies[3]["status"] == "running"
    assert bodies[5] == {
        "run_number": 100011,
        "phase": "initializing",
        "state": "imminent",
        "substate": "preparing",
        "target_worker_count": 0,
        "active_worker_count": 0,
        "stf_samples_received": 0,
        "slices_created": 0,
        "slices_queued": 0,
        "slices_processing": 0,
        "slices_completed": 0,
        "slices_failed": 0,
        "state_changed_at": "2026-03-14T09:26:58.589793+00:00",
        "metadata": {"execution_id": "w-u-0012", "stf_sampling_rate": None, "slices_per_sample": None},
    }
    assert bodies[6] == {"status": "completed", "end_time": "2026-03-14T09:26:58.589793+00:00"}


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.Response(500, json={"error": "locked", "status": "error"}),
        httpx.Response(503),
        httpx.Response(200, text="<html>"),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("late"),
    ],
)
def test_what_passes_is_waited_for(trouble: httpx.Response | Exception) -> None:
    good = httpx.Response(200, json={"agent_id": 5})
    assert Theirs(trouble, trouble, good).monitor.next_agent_id() == 5
    theirs = Theirs(trouble, trouble, trouble)
    with pytest.raises(TemporarilyUnavailable, match="http://monitor/swf/api/state/next-agent-id/"):
        theirs.monitor.next_agent_id()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidMessage),
        (405, InvalidMessage),
        # Somebody can set the token right, so ends of executions wait for that.
        (401, TemporarilyUnavailable),
        (403, TemporarilyUnavailable),
    ],
)
def test_what_is_refused_is_not_asked_again(status: int, kind: type[Exception]) -> None:
    theirs = Theirs(httpx.Response(status, json={"detail": "no"}))
    with pytest.raises(kind, match=str(status)):
        theirs.monitor.next_agent_id()
    assert len(theirs.requests) == 1


@pytest.mark.parametrize("body", [{}, [], None, {"agent_id": "x"}])
def test_a_number_that_is_none(body: object) -> None:
    with pytest.raises(TemporarilyUnavailable, match="agent_id"):
        Theirs(httpx.Response(200, json=body)).monitor.next_agent_id()


def test_a_definition_that_is_refused() -> None:
    theirs = Theirs(
        httpx.Response(200, json=[]), httpx.Response(400, text="too long"), httpx.Response(200, json=[])
    )
    with pytest.raises(InvalidMessage, match="too long"):
        theirs.monitor.define_workflow("w", "1", definition="", parameter_values={}, created_by="u")


def test_a_sign_of_life_is_sent_once() -> None:
    theirs = Theirs(httpx.Response(503))
    with pytest.raises(TemporarilyUnavailable):
        theirs.monitor.report(report("me"))
    assert theirs.asked == ["POST /swf/api/systemagents/heartbeat/"]
