"""The runner: executions, signs of life, and what becomes of commands."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

import pytest

from benchmarks.streaming_schemas import validate
from models.errors import InvalidConfiguration, TemporarilyUnavailable
from models.streaming.bus import ReceivedMessage
from models.streaming.daq import DaqParameters, DaqWorkflow
from models.streaming.messages import COMMAND_QUEUE, RUN_TOPIC, Message
from models.streaming.monitoring import AgentState, AgentStatus, ExecutionStatus
from simulator.daq.commands import CommandDesk
from simulator.daq.journal import NoJournal
from simulator.daq.keeping import Sender
from simulator.daq.progress import Ending
from simulator.daq.reporting import Reporter
from simulator.daq.runner import DaqRunner
from tests.simulator.daq.conftest import FakeBus, FakeMonitor

#: A run that lasts until it is stopped.
ENDLESS = {"realtime": True, "no_beam_not_ready_delay": 0, "beam_not_ready_delay": 1e6}


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., DaqWorkflow]:
    def load(workflow_name: str, config: str | None, params: Mapping[str, Any]) -> DaqWorkflow:
        if "colour" in params:
            raise InvalidConfiguration("parameters: colour: is not known")
        if workflow_name == "broken":
            raise RuntimeError("a fault of ours")
        parameters = {"realtime": False, "stf_count": 2, "physics_period_count": 1, **params}
        return DaqWorkflow(
            namespace="elsewhere",
            name=workflow_name,
            version="1.0",
            parameters=DaqParameters(container=tmp_path, **parameters),
            parameter_values={"simulation": {"stf_count": 2}},
        )

    return load


@pytest.fixture
def workflow(load: Callable[..., DaqWorkflow]) -> DaqWorkflow:
    return load("prompt_processing", None, {}).model_copy(update={"namespace": "test-user"})


@pytest.fixture
def runner(
    bus: FakeBus, monitor: FakeMonitor, load: Callable[..., DaqWorkflow], monkeypatch: pytest.MonkeyPatch
) -> Iterator[DaqRunner]:
    """A runner that follows commands."""
    monkeypatch.setattr("simulator.daq.commands._DELAY", 0.0)
    runner = DaqRunner(bus=bus, monitor=monitor, namespace="test-user", user="alice", load=load)
    runner.start()
    monitor.wait_until(lambda: bool(monitor.reports))
    yield runner
    runner.close()


def command(kind: str, message_id: str | None = None, **fields: Any) -> ReceivedMessage:
    body = {"msg_type": kind, "namespace": "test-user", "timestamp": "2026-03-14T09:26:58.589793", **fields}
    return ReceivedMessage(COMMAND_QUEUE, json.dumps(body), message_id)


def run_workflow(**fields: Any) -> ReceivedMessage:
    return command("run_workflow", **{"workflow_name": "prompt_processing", "config": None, **fields})


def told(bus: FakeBus) -> str:
    """The error that was broadcast; there is one."""
    (failure,) = bus.bodies("run_workflow_failed")
    validate(failure)
    return str(failure["error"])


def test_a_run_from_its_registration_to_its_end(
    bus: FakeBus, monitor: FakeMonitor, workflow: DaqWorkflow, tmp_path: Path
) -> None:
    seen: list[Message] = []
    runner = DaqRunner(
        bus=bus,
        monitor=monitor,
        namespace="test-user",
        user="alice",
        agent_type="prompt_processing",
        on_message=seen.append,
    )
    runner.start()
    result = runner.run_once(workflow)
    runner.close()
    assert [call for call in monitor.calls if call not in {"report", "next_agent_id"}] == [
        *("next_execution_number", "define_workflow", "ensure_namespace", "begin_execution"),
        *("next_run_number", "begin_run", "end_execution"),
    ]
    execution = monitor.executions["prompt_processing-alice-0001"]
    assert execution.workflow_definition == 7
    assert execution.parameter_values == {"simulation": {"stf_count": 2}}
    assert execution.start_time.tzinfo is not None
    status, end_time = monitor.endings["prompt_processing-alice-0001"]
    assert status is ExecutionStatus.COMPLETED
    assert end_time == result.end_time
    assert end_time >= execution.start_time
    assert {destination for destination, _ in bus.sent} == {RUN_TOPIC}
    assert [message.to_body() for message in seen] == bus.bodies()
    for body in bus.bodies():
        validate(body)
        assert body["execution_id"] == "prompt_processing-alice-0001"
        assert body["run_id"] == "100010"
        assert body["sender"].startswith("prompt_processing-agent-alice-4")
    assert (result.ending, result.stf_count, result.error) == (Ending.COMPLETE, 2, None)
    assert result.messages == {"run_imminent": 1, "start_run": 1, "stf_gen": 2, "end_run": 1}
    assert result.folder == tmp_path / "swf.100010.run"
    assert bus.calls == ["start", "stop"]


def test_signs_of_life_say_what_is_done(bus: FakeBus, monitor: FakeMonitor, runner: DaqRunner) -> None:
    def states() -> list[AgentState]:
        return [report.operational_state for report in monitor.reports]

    monitor.wait_until(lambda: AgentState.READY in states())
    runner._desk.receive(run_workflow(params=ENDLESS))
    monitor.wait_until(lambda: states()[-1] is AgentState.PROCESSING)
    assert "100010" in monitor.reports[-1].description
    runner.stop_run()
    monitor.wait_until(lambda: states()[-1] is AgentState.READY)
    bus.connected = False
    monitor.wait_until(lambda: monitor.reports[-1].status is AgentStatus.WARNING)
    bus.connected = True
    monitor.wait_until(lambda: monitor.reports[-1].status is AgentStatus.OK)
    runner.close()
    last = monitor.reports[-1]
    assert (last.operational_state, last.status) == (AgentState.EXITED, AgentStatus.EXITED)
    assert last.instance_name.startswith("daq_simulator-agent-alice-")
    assert last.agent_type == "DAQ_Simulator"
    assert last.namespace == "test-user"


def test_it_is_ready_once_the_bus_is_there(
    bus: FakeBus, monitor: FakeMonitor, load: Callable[..., DaqWorkflow]
) -> None:
    bus.connected = False
    runner = DaqRunner(bus=bus, monitor=monitor, namespace="test-user", user="alice", load=load)
    runner.start()
    monitor.wait_until(lambda: len(monitor.reports) > 0)
    assert {report.operational_state for report in monitor.reports} == {AgentState.STARTING}
    bus.connected = True
    monitor.wait_until(lambda: monitor.reports[-1].operational_state is AgentState.READY)
    runner.close()


def test_commands(bus: FakeBus, monitor: FakeMonitor, runner: DaqRunner) -> None:
    assert bus.calls[:2] == [f"subscribe {COMMAND_QUEUE}", "start"]
    runner._desk.receive(run_workflow(params={**ENDLESS, "namespace": "test-user"}, source="mcp"))
    bus.wait_for("run_imminent")
    name = runner.execution_id
    # Its own namespace, not that of the file.
    assert bus.bodies("run_imminent")[0]["namespace"] == "test-user"
    assert monitor.executions[name].namespace == "test-user"
    runner._desk.receive(command("stop_workflow", execution_id="prompt_processing-alice-9999"))
    assert runner.execution_id == name
    runner._desk.receive(command("stop_workflow", execution_id=name))
    monitor.wait_until(lambda: name in monitor.endings)
    assert monitor.endings[name][0] is ExecutionStatus.TERMINATED
    assert bus.bodies("end_run")[0]["total_stf_files"] == 0
    assert not bus.bodies("run_workflow_failed")


def test_the_next_run_can_follow(bus: FakeBus, monitor: FakeMonitor, runner: DaqRunner) -> None:
    for number in (1, 2):
        runner._desk.receive(run_workflow(realtime=False))
        monitor.wait_until(lambda: len(monitor.endings) == number)  # noqa: B023
        runner._worker.join()
    assert [body["run_id"] for body in bus.bodies("end_run")] == ["100010", "100011"]


def test_a_stop_with_nothing_running_is_said(runner: DaqRunner, caplog: pytest.LogCaptureFixture) -> None:
    runner._desk.receive(command("stop_workflow"))
    assert "Nothing runs" in caplog.text


def test_status_is_logged(runner: DaqRunner, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    runner._desk.receive(command("status_request"))
    assert "no run" in caplog.text


def test_a_second_run_is_refused_aloud(bus: FakeBus, runner: DaqRunner) -> None:
    runner._desk.receive(run_workflow(params=ENDLESS))
    runner._desk.receive(run_workflow())
    assert "busy with prompt_processing-alice-0001" in told(bus)
    assert len(bus.bodies("run_imminent")) <= 1


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"params": {"colour": "red"}}, "colour"),
        ({"params": {"realtime": False}, "realtime": True}, "params.realtime"),
        ({"params": {"duration": 3}, "duration": 4}, "params.duration"),
        ({"params": {"namespace": "bob"}}, "params.namespace"),
        ({"workflow_name": "broken"}, "a fault of ours"),
        ({"workflow_name": 3}, "workflow_name"),
    ],
)
def test_a_wrong_command_is_refused_aloud(
    bus: FakeBus, runner: DaqRunner, fields: dict[str, Any], error: str
) -> None:
    runner._desk.receive(run_workflow(**fields))
    assert error in told(bus)
    assert not runner.busy


@pytest.mark.parametrize("text", ["no JSON", "[]", '{"msg_type": "end_run", "run_id": "1"}'])
def test_what_is_no_command_is_refused_aloud(bus: FakeBus, runner: DaqRunner, text: str) -> None:
    runner._desk.receive(ReceivedMessage(COMMAND_QUEUE, text))
    assert "command" in told(bus)


@pytest.mark.parametrize("step", ["next_execution_number", "begin_execution", "next_run_number", "begin_run"])
def test_without_the_monitor_a_run_is_refused(
    bus: FakeBus, monitor: FakeMonitor, runner: DaqRunner, step: str
) -> None:
    monitor.away = {step}
    runner._desk.receive(run_workflow(realtime=False))
    assert step in told(bus)
    assert not bus.bodies("run_imminent")
    # One that was registered does not stay as if it ran.
    ended = {name: monitor.endings[name][0] for name in monitor.executions}
    assert ended == dict.fromkeys(monitor.executions, ExecutionStatus.FAILED)
    monitor.away = set()
    runner._desk.receive(run_workflow(realtime=False))
    bus.wait_for("end_run")


def test_without_a_name_a_run_is_refused(bus: FakeBus, monitor: FakeMonitor, workflow: DaqWorkflow) -> None:
    monitor.away = {"all"}
    runner = DaqRunner(bus=bus, monitor=monitor, namespace="test-user", user="alice")
    runner.start()
    with pytest.raises(TemporarilyUnavailable, match="the monitor is away"):
        runner.run_once(workflow)
    assert not runner.busy
    runner.close()
    assert monitor.reports == []


def test_the_end_is_told_when_the_monitor_is_back(monitor: FakeMonitor) -> None:
    reporter = Reporter(monitor=monitor, describe=lambda: None, connected=lambda: True, again=0.01)
    reporter.start()
    monitor.away = {"end_execution"}
    now = datetime.now(UTC)
    assert not reporter.end_execution("an-execution", ExecutionStatus.COMPLETED, end_time=now)
    monitor.away = set()
    monitor.wait_until(lambda: monitor.endings == {"an-execution": (ExecutionStatus.COMPLETED, now)})
    monitor.away = {"end_run"}
    assert not reporter.end_execution("b", ExecutionStatus.FAILED, end_time=now, unannounced_run=100010)
    monitor.away = set()
    monitor.wait_until(lambda: monitor.ended_runs == [100010])
    reporter.stop()


def test_what_the_monitor_never_heard_is_logged(
    monitor: FakeMonitor, caplog: pytest.LogCaptureFixture
) -> None:
    reporter = Reporter(monitor=monitor, describe=lambda: None, connected=lambda: True)
    reporter.start()
    monitor.away = {"end_execution"}
    reporter.end_execution("an-execution", ExecutionStatus.FAILED, end_time=datetime.now(UTC))
    reporter.stop()
    assert "was not told that execution an-execution is failed" in caplog.text


def test_a_folder_that_cannot_be_written_fails_the_execution(
    bus: FakeBus, monitor: FakeMonitor, workflow: DaqWorkflow, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    parameters = workflow.parameters.model_copy(update={"container": tmp_path / "file"})
    runner = DaqRunner(bus=bus, monitor=monitor, namespace="test-user", user="alice")
    result = runner.run_once(workflow.model_copy(update={"parameters": parameters}))
    assert result.status is ExecutionStatus.FAILED
    assert str(tmp_path / "file") in str(result.error)
    assert bus.sent == []
    assert monitor.endings[result.execution_id][0] is ExecutionStatus.FAILED
    # No message tells the monitor that the run, which was imminent, is over.
    assert monitor.ended_runs == [100010]


def test_a_run_that_is_stopped_before_it_was_announced_is_over_for_the_monitor(
    bus: FakeBus, monitor: FakeMonitor, runner: DaqRunner
) -> None:
    runner._desk.receive(run_workflow(realtime=True, params={"no_beam_not_ready_delay": 1e6}))
    runner.stop_run()
    monitor.wait_until(lambda: monitor.ended_runs == [100010])
    assert [status for status, _ in monitor.endings.values()] == [ExecutionStatus.TERMINATED]
    assert bus.sent == []


def test_a_clock_that_is_set_back_has_no_execution_end_before_it_began(
    bus: FakeBus, monitor: FakeMonitor, workflow: DaqWorkflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Earlier(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Earlier:
            return cls.fromtimestamp(datetime.now(tz).timestamp() - 3600, tz)

    monkeypatch.setattr("simulator.daq.execution.datetime", Earlier)
    result = DaqRunner(bus=bus, monitor=monitor, namespace="test-user", user="alice").run_once(workflow)
    execution = monitor.executions[result.execution_id]
    assert monitor.endings[result.execution_id][1] == result.end_time == execution.start_time
    assert result.duration == 0.0


def test_an_observer_that_fails_ends_no_run(
    bus: FakeBus, monitor: FakeMonitor, workflow: DaqWorkflow
) -> None:
    def fail(message: Message) -> None:
        raise RuntimeError("no terminal")

    runner = DaqRunner(bus=bus, monitor=monitor, namespace="test-user", user="alice", on_message=fail)
    assert runner.run_once(workflow).status is ExecutionStatus.COMPLETED


def test_a_stop_from_outside(bus: FakeBus, monitor: FakeMonitor, load: Callable[..., DaqWorkflow]) -> None:
    runner = DaqRunner(bus=bus, monitor=monitor, namespace="test-user", user="alice")
    results = []
    thread = threading.Thread(
        target=lambda: results.append(runner.run_once(load("prompt_processing", None, ENDLESS)))
    )
    thread.start()
    bus.wait_for("run_imminent")
    runner.stop()
    thread.join(120)
    assert [(result.status, result.ending) for result in results] == [
        (ExecutionStatus.TERMINATED, Ending.STOPPED)
    ]
    with pytest.raises(TemporarilyUnavailable, match="being stopped"):
        runner.run_once(load("prompt_processing", None, {}))


def test_a_stop_does_not_wait_for_ever_for_the_bus(
    bus: FakeBus, monitor: FakeMonitor, workflow: DaqWorkflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus.connected = False
    runner = DaqRunner(bus=bus, monitor=monitor, namespace="test-user", user="alice")
    results = []
    thread = threading.Thread(target=lambda: results.append(runner.run_once(workflow)))
    thread.start()
    bus.wait_for("end_run")
    assert thread.is_alive()
    runner.stop()
    thread.join(120)
    assert results[0].unsent == 5
    assert "5 messages were not sent" in str(results[0].error)


def test_messages_do_not_pile_up_while_the_bus_is_away(
    bus: FakeBus, monitor: FakeMonitor, load: Callable[..., DaqWorkflow]
) -> None:
    bus.connected = False
    runner = DaqRunner(bus=bus, monitor=monitor, namespace="test-user", user="alice")
    endless = load("prompt_processing", None, {"physics_period_count": 0, "stf_count": 100})
    thread = threading.Thread(target=lambda: runner.run_once(endless))
    thread.start()
    bus.wait_for(None, 1000)
    thread.join(0.5)
    assert len(bus.sent) == 1000
    bus.connected = True
    bus.wait_for("stf_gen", 2000)
    runner.stop()
    thread.join(120)
    assert not thread.is_alive()
    (end,) = bus.bodies("end_run")
    assert end["total_stf_files"] == len(bus.bodies("stf_gen"))


def test_what_is_being_prepared_is_over_when_the_runner_is(
    bus: FakeBus, monitor: FakeMonitor, runner: DaqRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def begin_run(run_number: int, execution_id: str, *, at: datetime) -> None:
        begun.set()
        go_on.wait(120)

    monkeypatch.setattr(monitor, "begin_run", begin_run)
    receiver = threading.Thread(target=runner._desk.receive, args=[run_workflow(params=ENDLESS)])
    receiver.start()
    assert begun.wait(120)
    threading.Timer(0.3, go_on.set).start()
    runner.close()
    assert [status for status, _ in monitor.endings.values()] == [ExecutionStatus.TERMINATED]
    assert monitor.reports[-1].status is AgentStatus.EXITED


def test_a_fault_of_a_run_is_logged(
    bus: FakeBus,
    monitor: FakeMonitor,
    runner: DaqRunner,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(timeout: float) -> int:
        raise RuntimeError("a fault of the bus")

    monkeypatch.setattr(bus, "flush", fail)
    with pytest.raises(RuntimeError, match="a fault of the bus"):
        runner.run_once(runner._desk._load("prompt_processing", None, {}))
    assert "a fault of the bus" in caplog.text
    assert [status for status, _ in monitor.endings.values()] == [ExecutionStatus.FAILED]
    monkeypatch.undo()


class Foreign:
    """Commands for a namespace that the runner does not serve."""

    def __init__(self, runner: DaqRunner, bus: FakeBus, monitor: FakeMonitor) -> None:
        def load(workflow_name: str, config: str | None, params: Mapping[str, Any]) -> DaqWorkflow:
            raise AssertionError("not for this runner")

        self.now = 100.0
        self.desk = CommandDesk(
            runner=runner,
            journal=(journal := NoJournal()),
            sender=Sender(journal=journal, bus=bus),
            monitor=monitor,
            load=load,
            topic=RUN_TOPIC,
            delay=0.0,
            clock=lambda: self.now,
        )
        self.message = run_workflow(namespace="bob")
        self._bus = bus

    def returned(self) -> int:
        return sum(sent == (COMMAND_QUEUE, self.message.text) for sent in self._bus.sent)


@pytest.fixture
def foreign(runner: DaqRunner, bus: FakeBus, monitor: FakeMonitor) -> Foreign:
    return Foreign(runner, bus, monitor)


def test_a_command_for_somebody_else_is_put_back(
    bus: FakeBus, monitor: FakeMonitor, foreign: Foreign
) -> None:
    monitor.served = {"bob"}
    for number in range(3):
        foreign.desk.receive(foreign.message)
        foreign.now += 4
        assert foreign.returned() == number + 1
        assert not bus.bodies("run_workflow_failed")
    foreign.now += 4
    # But not for ever: that runner may hang, or be of another kind.
    foreign.desk.receive(foreign.message)
    assert foreign.returned() == 3
    assert "bob" in told(bus)


def test_a_stop_is_put_back_for_another_runner_of_the_namespace(
    bus: FakeBus, monitor: FakeMonitor, foreign: Foreign, caplog: pytest.LogCaptureFixture
) -> None:
    stop = command("stop_workflow", execution_id="prompt_processing-alice-0099")
    foreign.desk.receive(stop)
    # There is none.
    assert bus.sent == []
    assert "Nothing runs" in caplog.text
    monitor.served = {"test-user"}
    caplog.clear()
    for _ in range(2):
        foreign.desk.receive(stop)
        foreign.now += 8
    assert bus.sent == [(COMMAND_QUEUE, stop.text)] * 2
    assert "Nothing runs" not in caplog.text
    foreign.desk.receive(stop)
    assert len(bus.sent) == 2
    assert "Nothing runs" in caplog.text


def test_the_same_text_much_later_is_another_command(
    bus: FakeBus, monitor: FakeMonitor, foreign: Foreign
) -> None:
    monitor.served = {"bob"}
    foreign.desk.receive(foreign.message)
    # Its runner took it; an hour later somebody asks for the same.
    foreign.now += 3600
    foreign.desk.receive(foreign.message)
    assert foreign.returned() == 2
    assert not bus.bodies("run_workflow_failed")


@pytest.mark.parametrize("kind", ["run_workflow", "stop_workflow", "status_request"])
def test_a_command_for_nobody_is_refused_aloud(bus: FakeBus, foreign: Foreign, kind: str) -> None:
    message = command(kind, namespace="bob", workflow_name="prompt_processing")
    # Its runner may just be starting, so it is put back at first.
    foreign.desk.receive(message)
    assert bus.sent == [(COMMAND_QUEUE, message.text)]
    foreign.now += 4
    foreign.desk.receive(message)
    (failure,) = bus.bodies("run_workflow_failed")
    assert failure["namespace"] == "bob"
    assert "no runner serves namespace bob" in told(bus)
    assert len(bus.sent) == 2


def test_a_command_is_put_back_while_nobody_knows(
    bus: FakeBus, monitor: FakeMonitor, foreign: Foreign
) -> None:
    monitor.away = {"is_served"}
    foreign.desk.receive(foreign.message)
    assert foreign.returned() == 1
    assert not bus.bodies("run_workflow_failed")


@pytest.mark.parametrize("nothing", [None, ""])
def test_a_command_without_namespace_is_everybodys(
    bus: FakeBus, runner: DaqRunner, nothing: str | None
) -> None:
    runner._desk.receive(run_workflow(namespace=nothing, params={**ENDLESS, "namespace": nothing}))
    bus.wait_for("run_imminent")
    runner._desk.receive(command("stop_workflow", execution_id=nothing))
    bus.wait_for("end_run")


def test_a_command_that_comes_again_is_followed_once(
    bus: FakeBus, monitor: FakeMonitor, runner: DaqRunner
) -> None:
    message = ReceivedMessage(COMMAND_QUEUE, run_workflow(realtime=False).text, "ID:1")
    runner._desk.receive(message)
    runner._worker.join()
    runner._desk.receive(message)
    assert len(monitor.executions) == 1
    assert not bus.bodies("run_workflow_failed")


def test_a_pause_by_an_operator(bus: FakeBus, runner: DaqRunner) -> None:
    runner.pause("nothing runs: nothing happens")
    quick = {**ENDLESS, "beam_not_ready_delay": 0, "beam_ready_delay": 0, "broadcast_delay": 0}
    runner._desk.receive(run_workflow(params={**quick, "stf_interval": 0, "stf_count": 1000}))
    bus.wait_for("stf_gen")
    runner.pause("Beam studies")
    bus.wait_for("pause_run")
    assert "standing still" in runner.describe()
    assert bus.bodies("pause_run")[0]["reason"] == "Beam studies"
    runner.resume()
    bus.wait_for("resume_run")


def test_thousand_files_as_fast_as_possible(
    bus: FakeBus, monitor: FakeMonitor, load: Callable[..., DaqWorkflow]
) -> None:
    runner = DaqRunner(bus=bus, monitor=monitor, namespace="test-user", user="alice")
    result = runner.run_once(load("prompt_processing", None, {"stf_count": 1000}))
    assert result.stf_count == 1000 == len(bus.bodies("stf_gen"))
