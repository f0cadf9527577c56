"""A bus and a monitor that do nothing but take notes."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from models.errors import TemporarilyUnavailable
from models.streaming.bus import ReceivedMessage
from models.streaming.monitoring import AgentReport, ExecutionStatus
from simulator.daq.monitor import NewExecution


class FakeBus:
    """Has sent what it is given, unless it is away."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self.connected = True
        self.receive: Callable[[ReceivedMessage], None] | None = None
        self.calls: list[str] = []
        self._changed = threading.Condition()

    def subscribe(self, destination: str, receive: Callable[[ReceivedMessage], None]) -> None:
        self.calls.append(f"subscribe {destination}")
        self.receive = receive

    def send(self, destination: str, text: str, *, confirmed: Callable[[], None] = lambda: None) -> None:
        with self._changed:
            self.sent.append((destination, text))
            self._changed.notify_all()
        if self.connected:
            confirmed()

    def flush(self, timeout: float) -> int:
        return 0 if self.connected else len(self.sent)

    def start(self) -> None:
        self.calls.append("start")

    def stop(self) -> None:
        self.calls.append("stop")

    def bodies(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The messages so far, of a type or all."""
        bodies = [json.loads(text) for _, text in list(self.sent)]
        return [body for body in bodies if kind is None or body["msg_type"] == kind]

    def wait_for(self, kind: str | None, count: int = 1) -> None:
        """Wait until messages of a type, or of any, were sent."""
        with self._changed:
            there = self._changed.wait_for(lambda: len(self.bodies(kind)) >= count, 120)
        assert there, f"no {kind} among {[body['msg_type'] for body in self.bodies()]}"


class FakeMonitor:
    """Gives numbers and takes notes, unless it is away."""

    def __init__(self) -> None:
        self.away: set[str] = set()
        self.calls: list[str] = []
        self.reports: list[AgentReport] = []
        self.executions: dict[str, NewExecution] = {}
        self.endings: dict[str, tuple[ExecutionStatus, datetime]] = {}
        self.ended_runs: list[int] = []
        self.served: set[str] = set()
        self.over: set[str] = set()
        self.changed = threading.Condition()
        self._numbers = {"agent": itertools.count(41), "execution": itertools.count(1)}
        self._runs = itertools.count(100010)

    def _call(self, name: str) -> None:
        if name in self.away or "all" in self.away:
            raise TemporarilyUnavailable(f"the monitor is away ({name})")
        self.calls.append(name)

    def next_agent_id(self) -> int:
        self._call("next_agent_id")
        return next(self._numbers["agent"])

    def next_execution_number(self, workflow_name: str) -> int:
        self._call("next_execution_number")
        return next(self._numbers["execution"])

    def next_run_number(self) -> int:
        self._call("next_run_number")
        return next(self._runs)

    def define_workflow(
        self, name: str, version: str, *, definition: str, parameter_values: dict[str, Any], created_by: str
    ) -> int:
        self._call("define_workflow")
        assert "RunProcess" in definition
        return 7

    def ensure_namespace(self, name: str, owner: str) -> None:
        self._call("ensure_namespace")

    def begin_execution(self, execution: NewExecution) -> None:
        self._call("begin_execution")
        self.executions[execution.execution_id] = execution

    def is_over(self, execution_id: str) -> bool:
        self._call("is_over")
        return execution_id in self.over

    def begin_run(self, run_number: int, execution_id: str, *, at: datetime) -> None:
        self._call("begin_run")

    def end_execution(self, execution_id: str, status: ExecutionStatus, *, end_time: datetime) -> None:
        self._call("end_execution")
        with self.changed:
            self.endings[execution_id] = (status, end_time)
            self.changed.notify_all()

    def end_run(self, run_number: int, *, at: datetime) -> None:
        self._call("end_run")
        with self.changed:
            self.ended_runs.append(run_number)
            self.changed.notify_all()

    def report(self, report: AgentReport) -> None:
        self._call("report")
        with self.changed:
            self.reports.append(report)
            self.changed.notify_all()

    def is_served(self, namespace: str, *, besides: str) -> bool:
        self._call("is_served")
        return namespace in self.served

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until something was noted."""
        with self.changed:
            assert self.changed.wait_for(condition, 120)


@pytest.fixture
def bus() -> FakeBus:
    return FakeBus()


@pytest.fixture
def monitor() -> FakeMonitor:
    return FakeMonitor()
