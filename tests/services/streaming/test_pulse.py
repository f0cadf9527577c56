"""Signs of life of an agent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import cast

import pytest

from models.errors import TemporarilyUnavailable
from models.streaming.monitoring import AgentReport, AgentState
from services.streaming import pulse as module
from services.streaming.monitor import Monitor
from services.streaming.pulse import Pulse


class Ear:
    """A monitor that listens, unless it is away."""

    def __init__(self) -> None:
        self.reports: list[AgentReport] = []
        self.subscriptions: list[str] = []
        self.asked = 0
        self.away = False

    def report(self, report: AgentReport) -> None:
        self.asked += 1
        if self.away:
            raise TemporarilyUnavailable("the monitor is away")
        self.reports.append(report)

    def add_subscriber(self, name: str, description: str) -> None:
        self.subscriptions.append(name)

    def wait_for(self, number: int) -> None:
        deadline = time.monotonic() + 60.0
        while len(self.reports) < number:
            assert time.monotonic() < deadline, f"{len(self.reports)} reports only"
            time.sleep(0.005)


class Scene:
    def __init__(self) -> None:
        self.ear = Ear()
        self.state = AgentReport(instance_name="data-agent-al-7", agent_type="DATA")
        self.pulse = Pulse(
            name="data-agent-al-7",
            role="DATA",
            subscription="data-agent-al-7-/topic/epictopic",
            monitor=cast("Monitor", self.ear),
            describe=self._describe,
            interval=1000.0,
        )
        self._looks = 0

    def _describe(self) -> AgentReport:
        self._looks += 1
        return self.state

    def look_on(self) -> None:
        """Wait until the pulse has looked at the agent some more times."""
        looks = self._looks + 5
        deadline = time.monotonic() + 60.0
        while self._looks < looks:
            assert time.monotonic() < deadline, "it does not look"
            time.sleep(0.005)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    for name in ("_LOOK", "_FIRST_LOOK", "_AGAIN"):
        monkeypatch.setattr(module, name, 0.01)
    scene = Scene()
    yield scene
    scene.pulse.end()
    scene.pulse.join(60.0)


def test_what_does_not_change_is_told_once(scene: Scene) -> None:
    scene.pulse.start()
    scene.ear.wait_for(1)
    scene.look_on()
    assert len(scene.ear.reports) == 1
    assert scene.ear.subscriptions == ["data-agent-al-7-/topic/epictopic"]
    scene.state = scene.state.model_copy(update={"operational_state": AgentState.PROCESSING})
    scene.ear.wait_for(2)
    scene.pulse.end()
    scene.ear.wait_for(3)
    assert scene.ear.reports[-1].operational_state is AgentState.EXITED


def test_counts_are_told_now_and_then(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_WORK", 1000.0)
    scene.pulse.start()
    scene.ear.wait_for(1)
    scene.state = scene.state.model_copy(update={"total_stf_processed": 1})
    scene.look_on()
    assert len(scene.ear.reports) == 1, "files come by the second"
    monkeypatch.setattr(module, "_AT_WORK", 0.0)
    scene.ear.wait_for(2)
    assert scene.ear.reports[-1].total_stf_processed == 1
    scene.look_on()
    assert len(scene.ear.reports) == 2


def test_a_monitor_that_comes_back_is_told_again(scene: Scene) -> None:
    scene.ear.away = True
    scene.pulse.start()
    deadline = time.monotonic() + 60.0
    while scene.ear.asked < 3:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    scene.ear.away = False
    scene.ear.wait_for(1)
