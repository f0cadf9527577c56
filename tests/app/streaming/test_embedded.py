"""The whole workflow in one process."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from app.streaming.embedded import EmbeddedTestbed
from app.streaming.embedded_daq_monitor import EmbeddedDaqMonitor
from app.streaming.embedded_past import Traces
from app.streaming.embedded_run import run_embedded
from app.streaming.following import follow
from app.streaming.run_summary import RunSummary, Standing
from config.streaming.settings import load_streaming_settings
from models.errors import InvalidConfiguration, TemporarilyUnavailable
from models.streaming.daq import DaqParameters, DaqWorkflow
from models.streaming.monitoring import AgentReport
from models.streaming.tasks import RunTask, TaskPhase
from repos.streaming.database import create_streaming_engine
from repos.streaming.monitor_rows import Page
from repos.streaming.monitor_runs import RunStore
from repos.streaming.monitor_store import MonitorStore
from repos.streaming.task_store import TaskStore
from simulator.daq.monitor import NewExecution
from simulator.daq.registration import Registrar

QUICK = {"stf_count": 3, "physics_period_count": 1, "realtime": False}


class Scene:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.output = io.StringIO()

    def run(
        self,
        *,
        env: dict[str, str] | None = None,
        stops: Callable[[], int] = lambda: 0,
        timeout: float = 200.0,
        **parameters: Any,
    ) -> tuple[Standing, RunSummary]:
        settings = load_streaming_settings({"PP_TESTBED_DIRECTORY": str(self.directory), **(env or {})})
        workflow = DaqWorkflow(
            namespace="epic",
            name="prompt_processing",
            parameters=DaqParameters(**{**QUICK, "container": self.directory / "stf", **parameters}),
        )
        testbed = EmbeddedTestbed(settings=settings, workflow=workflow)
        try:
            testbed.start()
            console = Console(file=self.output)
            standing = follow(testbed, console=console, stop_asked=stops, timeout=timeout)
            standing = testbed.finish(standing)
        finally:
            testbed.close()
        return standing, RunSummary.of(standing, stopped=bool(stops()))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_a_run_is_processed_to_its_end(scene: Scene) -> None:
    standing, summary = scene.run(stf_count=2, physics_period_count=2)
    assert summary.faults == ()
    assert (summary.stf_files, summary.registered, summary.processed) == (4, 4, 4)
    assert (summary.dataset_status, summary.dataset_files, summary.execution_status) == (
        "closed",
        4,
        "completed",
    )
    assert summary.messages == {
        "run_imminent": 1,
        "start_run": 1,
        "stf_gen": 4,
        "pause_run": 1,
        "resume_run": 1,
        "end_run": 1,
        "stf_ready": 1,
    }
    assert [name.partition("-agent-")[0] for name in summary.agents] == [
        "daq_simulator",
        "data",
        "processing",
    ]
    assert standing.task_state == "done"
    assert scene.output.getvalue() == "STFs generated: 4\nSTFs registered: 4\nSTFs processed: 4\n"
    assert len([*scene.directory.glob("stf/*/*.stf")]) == 4


def test_another_run_in_the_same_place(scene: Scene) -> None:
    first, _ = scene.run()
    second, summary = scene.run()
    assert summary.faults == ()
    assert first.run_number is not None
    assert second.run_number == first.run_number + 1
    assert second.execution_id != first.execution_id


def test_a_new_monitor_gives_no_number_that_a_run_here_had(scene: Scene) -> None:
    first, _ = scene.run()
    second, summary = scene.run(env={"PP_MONITOR_DATABASE": f"sqlite:///{scene.directory}/other.db"})
    assert summary.faults == ()
    assert first.run_number is not None
    assert second.run_number == first.run_number + 1


def test_an_execution_whose_process_died_has_failed(scene: Scene) -> None:
    settings = load_streaming_settings({"PP_TESTBED_DIRECTORY": str(scene.directory)})
    store = MonitorStore.on(create_streaming_engine(settings.monitor_database_url))
    daq = EmbeddedDaqMonitor(store)
    key = daq.define_workflow("w", "1", definition="", parameter_values={}, created_by="alice")
    for number in (0, 1):
        daq.begin_execution(NewExecution(f"w-alice-000{number}", key, "epic", "alice", datetime.now(UTC), {}))
        daq.report(
            AgentReport(
                instance_name=f"data-agent-alice-{number}", agent_type="DATA", namespace="epic", pid=7
            )
        )
    Traces(scene.directory).note(namespace="epic", agents=["data-agent-alice-0"], execution_id="w-alice-0000")
    _, summary = scene.run()
    assert summary.faults == ()
    statuses = {row["execution_id"]: row["status"] for row in store.executions.listed().items}
    assert statuses.pop(summary.execution_id) == "completed"
    # The other is of agents over a broker, which have the same monitor.
    assert statuses == {"w-alice-0000": "failed", "w-alice-0001": "running"}
    assert any("w-alice-0000" in row["message"] for row in store.logs.listed().items)
    assert [row["instance_name"] for row in store.agents.alive("epic")] == ["data-agent-alice-1"]
    (died,) = store.agents.listed(instance_name="data-agent-alice-0").items
    assert (died["status"], died["pid"], died["agent_type"]) == ("EXITED", 7, "DATA")
    assert Traces(scene.directory).execution_id is None


def test_what_is_left_is_whole_whenever_the_process_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traces = Traces(tmp_path)
    traces.note(namespace="epic", execution_id="w-1")
    write = Path.write_text

    def die_between(path: Path, text: str) -> int:
        write(path, text[:5])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", die_between)
    with pytest.raises(KeyboardInterrupt):
        traces.note(execution_id="w-2")
    assert Traces(tmp_path).execution_id == "w-1"


def test_a_task_that_ends_while_it_is_looked_at(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = scene.directory / "gate"
    look, task_of = RunStore.listed, TaskStore.task

    def follows() -> bool:
        return threading.current_thread() is threading.main_thread()

    def listed(self: RunStore, **wanted: Any) -> Page:
        page = look(self, **wanted)
        if follows() and any(row["end_time"] for row in page.items):
            # All are registered and none is processed; now they will be.
            gate.touch()
        return page

    def task(self: TaskStore, run_id: str) -> RunTask | None:
        opened = gate.exists()
        found = task_of(self, run_id)
        while follows() and opened and (found is None or found.phase is not TaskPhase.COMPLETE):
            time.sleep(0.01)
            found = task_of(self, run_id)
        return found

    monkeypatch.setattr(RunStore, "listed", listed)
    monkeypatch.setattr(TaskStore, "task", task)
    payload = f"sh -c 'until test -e {gate}; do sleep 0.05; done'"
    _, summary = scene.run(env={"PP_PAYLOAD": payload})
    assert (summary.processed, summary.faults) == (3, ())


def test_payloads_that_fail_are_faults(scene: Scene) -> None:
    env = {"PP_PAYLOAD": "sh -c 'case $SWF_STF_NAME in *2.stf) exit 3;; esac'", "PP_PAYLOAD_ATTEMPTS": "2"}
    standing, summary = scene.run(env=env)
    assert (standing.processed, standing.failed) == (2, 1)
    assert any("2 of 3 STF files were processed, 1 failed" in fault for fault in summary.faults)


def test_when_all_payloads_fail_the_execution_has_failed(scene: Scene) -> None:
    standing, summary = scene.run(env={"PP_PAYLOAD": "false", "PP_PAYLOAD_ATTEMPTS": "1"})
    assert (standing.failed, standing.execution_status) == (3, "failed")
    assert any("is failed, not completed" in fault for fault in summary.faults)


def test_a_stop_ends_the_run_and_what_there_is_is_processed(scene: Scene) -> None:
    standing, summary = scene.run(
        stops=lambda: int(any(scene.directory.rglob("swf.*.stf"))),
        realtime=True,
        no_beam_not_ready_delay=0,
        beam_not_ready_delay=0,
        beam_ready_delay=0,
        broadcast_delay=0,
        beam_not_ready_end_delay=0,
        stf_interval=0,
        stf_count=0,
        physics_period_duration=3600,
    )
    assert standing.execution_status == "terminated"
    assert summary.faults == ()
    assert 0 < standing.generated == standing.processed
    assert standing.dataset_open is False
    assert summary.messages["end_run"] == 1


def test_a_stop_that_comes_before_the_run_holds_for_it(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    register = Registrar.register

    def slowly(*arguments: Any, **named: Any) -> Any:
        time.sleep(0.5)
        return register(*arguments, **named)

    monkeypatch.setattr(Registrar, "register", slowly)
    _, summary = scene.run(stops=lambda: 1, realtime=True, stf_interval=3600)
    assert summary.execution_status == "terminated"
    assert summary.faults == ()


def test_a_run_that_cannot_begin_is_not_waited_for(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(self: EmbeddedDaqMonitor) -> int:
        raise TemporarilyUnavailable("no numbers today")

    monkeypatch.setattr(EmbeddedDaqMonitor, "next_run_number", away)
    with pytest.raises(TemporarilyUnavailable, match="no numbers today"):
        scene.run()


def test_a_run_without_files_ends(scene: Scene) -> None:
    standing, summary = scene.run(stf_count=0, physics_period_duration=0)
    assert summary.faults == ()
    assert (standing.generated, standing.task_id, standing.dataset_open) == (0, None, False)


def test_a_catalogue_that_is_away_is_told_of_before_anything_begins(scene: Scene) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # And does not listen.
        url = f"postgresql://x@127.0.0.1:{nobody.getsockname()[1]}/none"
        with pytest.raises(TemporarilyUnavailable, match="refused"):
            scene.run(env={"PP_CATALOGUE_DATABASE": url})
    assert not [*scene.directory.glob("stf/*")]


def test_a_payload_that_does_not_exist_is_named_before_anything_begins(scene: Scene) -> None:
    with pytest.raises(InvalidConfiguration, match="no-such-program"):
        scene.run(env={"PP_PAYLOAD": "no-such-program"})


def test_a_disk_that_is_full_at_the_end_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise TemporarilyUnavailable("the disk is full")

    monkeypatch.setattr(EmbeddedTestbed, "finish", full)
    real = Traces.settle
    settled: list[int] = []

    def settle(traces: Traces, store: MonitorStore) -> None:
        settled.append(1)
        if len(settled) > 1:
            full()
        real(traces, store)

    monkeypatch.setattr(Traces, "settle", settle)
    summary = run_embedded(
        "prompt_processing",
        settings=load_streaming_settings({"PP_TESTBED_DIRECTORY": str(tmp_path)}),
        parameters={"realtime": False, "stf_count": 1},
        console=Console(file=io.StringIO()),
        stops=lambda: 0,
        timeout=200.0,
    )
    assert (summary.processed, summary.execution_status) == (1, "completed")
    assert summary.faults == ("the disk is full",)
    # For the next one.
    assert Traces(tmp_path / "embedded").execution_id == summary.execution_id
