"""Runs whose process dies, at whatever moment, and who goes on with them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.streaming_schemas import validate
from models.errors import TemporarilyUnavailable
from models.streaming.bus import ReceivedMessage
from models.streaming.daq import DaqParameters, DaqWorkflow
from models.streaming.messages import COMMAND_QUEUE, Message
from models.streaming.monitoring import ExecutionStatus
from simulator.daq.control import Control
from simulator.daq.identity import RunIdentity
from simulator.daq.journal import RunRecord
from simulator.daq.progress import Ending, Progress
from simulator.daq.runner import DaqRunner
from simulator.daq.simulation import RunSimulation
from simulator.daq.stf_files import StfFolder
from simulator.io.daq_journal import SqliteDaqJournal
from tests.simulator.daq.conftest import FakeBus, FakeMonitor


class Killed(BaseException):
    """The process is gone; nothing that it would have done happens."""


class Fate:
    """Counts what a process does, and has it die at a moment."""

    def __init__(self, die_at: int | None = None) -> None:
        self.steps = 0
        self._die_at = die_at

    def step(self) -> None:
        """Do something that lasts."""
        if self._die_at is not None and self.steps >= self._die_at:
            raise Killed
        self.steps += 1


class MortalJournal(SqliteDaqJournal):
    """A journal whose process may die before it writes."""

    def __init__(self, path: Path, fate: Fate) -> None:
        super().__init__(path)
        self._fate = fate

    def accept(self, message: ReceivedMessage) -> int | None:
        self._fate.step()
        return super().accept(message)

    def settle(self, command: int) -> None:
        self._fate.step()
        super().settle(command)

    def post(self, destination: str, text: str, *, settles: int | None = None) -> int:
        self._fate.step()
        return super().post(destination, text, settles=settles)

    def save(
        self, record: RunRecord, *, message: tuple[str, str] | None = None, settles: int | None = None
    ) -> int | None:
        self._fate.step()
        return super().save(record, message=message, settles=settles)

    def sent(self, message: int) -> None:
        self._fate.step()
        super().sent(message)

    def forget(self, execution_id: str) -> None:
        self._fate.step()
        super().forget(execution_id)


class MortalBus(FakeBus):
    """A bus whose process may die before a message is on it."""

    def __init__(self, fate: Fate) -> None:
        super().__init__()
        self._fate = fate

    def send(self, destination: str, text: str, *, confirmed: Callable[[], None] = lambda: None) -> None:
        self._fate.step()
        super().send(destination, text, confirmed=confirmed)


class World:
    """What outlives processes."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.monitor = FakeMonitor()
        self.wire: list[str] = []
        #: Files as they were when they were first seen.
        self.files: dict[str, bytes] = {}
        self._monkeypatch = monkeypatch

    def workflow(self, **parameters: Any) -> DaqWorkflow:
        given = {"realtime": False, "stf_count": 2, "physics_period_count": 2, **parameters}
        return DaqWorkflow(
            namespace="test-user",
            name="prompt_processing",
            parameters=DaqParameters(container=self.directory / "stf", **given),
        )

    def load(self, workflow_name: str, config: str | None, params: Mapping[str, Any]) -> DaqWorkflow:
        return self.workflow(**params)

    def process(
        self,
        work: Callable[[DaqRunner], object],
        *,
        die_at: int | None = None,
        follow: bool = False,
        on_message: Callable[[DaqRunner, Message], None] | None = None,
    ) -> int | None:
        """Have a process do some work; None if it died, else the steps it took."""
        fate = Fate(die_at)
        bus = MortalBus(fate)
        journal = MortalJournal(self.directory / "daq.journal", fate)
        write = StfFolder.write

        def mortal_write(folder: StfFolder, name: str, content: bytes) -> Any:
            fate.step()
            written = write(folder, name, content)
            assert self.files.setdefault(name, content) == content, f"{name} has changed"
            return written

        runner = DaqRunner(
            bus=bus,
            monitor=self.monitor,
            namespace="test-user",
            user="alice",
            journal=journal,
            load=self.load if follow else None,
            on_message=(lambda message: on_message(runner, message)) if on_message else None,
        )
        with self._monkeypatch.context() as patch:
            patch.setattr(StfFolder, "write", mortal_write)
            # What threads do dies with the rest.
            patch.setattr(DaqRunner, "_work", lambda self, target, *arguments: target(*arguments))
            patch.setattr("simulator.daq.reporting.Reporter.start", lambda self: None)
            try:
                runner.start()
                work(runner)
                runner._reporter._try_endings(dict(runner._reporter._endings))
                runner.close()
            except Killed:
                return None
            finally:
                journal.close()
                self.wire += [text for _, text in bus.sent]
        return fate.steps

    def messages(self) -> list[dict[str, Any]]:
        """What others heard, once each: the same may be said again."""
        return [json.loads(text) for text in dict.fromkeys(self.wire)]

    def journal(self) -> SqliteDaqJournal:
        """The journal, for a look."""
        return SqliteDaqJournal(self.directory / "daq.journal")

    def check(self) -> None:
        """See that there was one run, whatever happened to its processes."""
        bodies = self.messages()
        for body in bodies:
            validate(body)
        # A number may be lost with a process, but nobody has heard of it then.
        assert len({(body["execution_id"], body["sender"]) for body in bodies}) == 1
        (run_id,) = {body["run_id"] for body in bodies}
        assert self.monitor.executions.keys() == {bodies[0]["execution_id"]}
        assert [body["simulation_tick"] for body in bodies] == sorted(
            body["simulation_tick"] for body in bodies
        )
        announced = [body for body in bodies if body["msg_type"] == "stf_gen"]
        assert [body["sequence"] for body in announced] == list(range(1, len(announced) + 1))
        assert [body["filename"] for body in announced] == sorted(self.files)
        for body in announced:
            content = (self.directory / "stf" / f"swf.{run_id}.run" / body["filename"]).read_bytes()
            assert content == self.files[body["filename"]]
            assert (body["size_bytes"], body["checksum"]) == (len(content), f"{zlib.adler32(content):08x}")
        (end,) = (body for body in bodies if body["msg_type"] == "end_run")
        assert end is bodies[-1]
        assert end["total_stf_files"] == len(announced)
        journal = self.journal()
        assert (journal.runs(), journal.unsent(), journal.waiting()) == ([], [], [])
        journal.close()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def ticks(world: World) -> list[tuple[str, float]]:
    return [(body["msg_type"], body["simulation_tick"]) for body in world.messages()]


@pytest.fixture
def worlds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Any number of them."""

    def make() -> Iterator[World]:
        number = 0
        while True:
            number += 1
            (tmp_path / str(number)).mkdir()
            yield World(tmp_path / str(number), monkeypatch)

    return make()


def test_a_run_is_gone_on_with_wherever_its_process_died(worlds: Iterator[World]) -> None:
    whole = next(worlds)
    steps = whole.process(lambda runner: runner.run_once(whole.workflow()))
    assert steps is not None
    whole.check()
    for moment in range(steps):
        world = next(worlds)
        workflow = world.workflow()
        assert world.process(lambda runner: runner.run_once(workflow), die_at=moment) is None  # noqa: B023
        assert world.process(lambda runner: runner.run_once(workflow)) is not None  # noqa: B023
        if len(world.monitor.executions) > 1:
            # All was said and done: the same command asks for another run.
            assert moment == steps - 1
            break
        world.check()
        assert ticks(world) == ticks(whole), f"after {moment} steps"
        assert [status for status, _ in world.monitor.endings.values()] == [ExecutionStatus.COMPLETED]


IDENTITY = RunIdentity(
    namespace="test-user", execution_id="prompt_processing-alice-0001", run_id="102363", sender="daq"
)
#: What the broker delivers, until it is acknowledged.
COMMAND = ReceivedMessage(
    COMMAND_QUEUE,
    json.dumps(
        {
            "msg_type": "run_workflow",
            "namespace": "test-user",
            "workflow_name": "prompt_processing",
            "realtime": False,
        }
    ),
    "ID:7",
)


def follow(runner: DaqRunner) -> None:
    assert runner._desk is not None
    runner._desk.receive(COMMAND)


def test_a_run_survives_any_number_of_deaths(world: World) -> None:
    deaths = 0
    while world.process(follow, die_at=5 + deaths % 4, follow=True) is None:
        deaths += 1
        assert deaths < 100
    assert deaths > 5
    world.check()
    assert len(world.files) == 4


@settings(max_examples=25, deadline=None)
@given(
    deaths=st.lists(st.integers(4, 15), max_size=8),
    stf_count=st.integers(0, 3),
    physics_period_count=st.integers(1, 3),
    physics_period_duration=st.sampled_from([0, 0.05, 3.3]),
    stf_interval=st.sampled_from([0, 0.5, 2.0]),
    broadcast_delay=st.sampled_from([0, 1]),
    duration=st.sampled_from([0, 0, 3, 12.5, 17]),
)
def test_whatever_is_asked_and_whenever_it_dies_the_run_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, deaths: list[int], **parameters: Any
) -> None:
    world = World(tmp_path_factory.mktemp("world"), pytest.MonkeyPatch())
    command = ReceivedMessage(
        COMMAND_QUEUE, json.dumps({**json.loads(COMMAND.text), "params": parameters}), "ID:7"
    )
    for die_at in [*deaths, None]:
        world.process(lambda runner: runner._desk.receive(command), die_at=die_at, follow=True)  # type: ignore[union-attr]
    whole: list[tuple[str, float | None]] = []
    simulation = RunSimulation(
        identity=IDENTITY,
        parameters=world.workflow(**parameters).parameters,
        send=lambda message, progress: whole.append((message.msg_type, message.simulation_tick)),
        control=Control(),
    )
    simulation.run()
    assert ticks(world) == whole
    if whole:
        world.check()
    assert [status for status, _ in world.monitor.endings.values()] == [ExecutionStatus.COMPLETED]


def test_a_command_is_followed_once_wherever_the_process_died(worlds: Iterator[World]) -> None:
    whole = next(worlds)
    steps = whole.process(follow, follow=True)
    assert steps is not None
    whole.check()
    for moment in range(1, steps):
        world = next(worlds)
        assert world.process(follow, follow=True, die_at=moment) is None
        assert world.process(follow, follow=True) is not None
        world.check()
        assert ticks(world) == ticks(whole), f"after {moment} steps"


def test_a_pause_survives(world: World) -> None:
    workflow = world.workflow(physics_period_count=1, stf_count=4)

    def pause(runner: DaqRunner, message: Message) -> None:
        if getattr(message, "sequence", 0) == 2:
            runner.pause("Beam studies")
        if message.msg_type == "pause_run":
            raise Killed

    assert world.process(lambda runner: runner.run_once(workflow), on_message=pause) is None

    def resume(runner: DaqRunner) -> None:
        assert "standing still" in runner.describe()
        runner.resume()
        runner.run_once(workflow)

    def die_again(runner: DaqRunner, message: Message) -> None:
        if getattr(message, "sequence", 0) == 3:
            raise Killed

    assert world.process(resume, on_message=die_again) is None
    assert world.process(lambda runner: runner.run_once(workflow)) is not None
    world.check()
    assert [body["msg_type"] for body in world.messages()][3:8] == [
        *("stf_gen", "pause_run", "resume_run", "stf_gen", "stf_gen")
    ]


def test_a_pause_survives_wherever_the_process_died(worlds: Iterator[World]) -> None:
    def pause(runner: DaqRunner, message: Message) -> None:
        if getattr(message, "sequence", 0) == 2:
            runner.pause("Beam studies")
        elif message.msg_type == "pause_run":
            runner.resume()

    def work(runner: DaqRunner, workflow: DaqWorkflow) -> None:
        # Whoever wanted the pause does not want it for ever.
        runner.resume()
        runner.run_once(workflow)

    def run(world: World, die_at: int | None = None) -> int | None:
        workflow = world.workflow(physics_period_count=1, stf_count=4)
        return world.process(lambda runner: work(runner, workflow), die_at=die_at, on_message=pause)

    whole = next(worlds)
    steps = run(whole)
    assert steps is not None
    assert "pause_run" in dict(ticks(whole))
    paused = 0
    for moment in range(1, steps - 1):
        world = next(worlds)
        assert run(world, moment) is None
        assert run(world) is not None
        world.check()
        if "pause_run" in dict(ticks(world)):
            paused += 1
            assert ticks(world) == ticks(whole)
    # It is forgotten only if who wanted it died before he could say so.
    assert paused >= steps - 6


def test_a_stop_survives(world: World) -> None:
    workflow = world.workflow(stf_count=100)

    def stop(runner: DaqRunner, message: Message) -> None:
        if getattr(message, "sequence", 0) == 3:
            runner.stop_run()
            raise Killed

    assert world.process(lambda runner: runner.run_once(workflow), on_message=stop) is None
    assert world.process(lambda runner: None, follow=True) is not None
    world.check()
    assert len(world.files) == 3
    assert world.monitor.endings["prompt_processing-alice-0001"][0] is ExecutionStatus.TERMINATED


def test_a_stop_before_a_file_is_announced_counts_the_file(world: World) -> None:
    workflow = world.workflow(stf_count=100)

    def stop(runner: DaqRunner, message: Message) -> None:
        if getattr(message, "sequence", 0) == 3:
            runner.stop_run()
            raise Killed

    assert world.process(lambda runner: runner.run_once(workflow), on_message=stop) is None
    # As if it had died a moment later.
    body = {**world.messages()[-1], "sequence": 4, "filename": "swf.100010.000004.stf"}
    del body["sender"], body["size_bytes"], body["checksum"]
    for seconds in (0.1, 0.1, 2.0):
        body["simulation_tick"] += seconds
    (world.directory / "stf" / "swf.100010.run" / body["filename"]).write_text(json.dumps(body))
    world.files[body["filename"]] = json.dumps(body).encode()
    assert world.process(lambda runner: None, follow=True) is not None
    world.check()
    assert len(world.files) == 4


def die_after(sequence: int) -> Callable[[DaqRunner, Message], None]:
    def die(runner: DaqRunner, message: Message) -> None:
        if getattr(message, "sequence", 0) == sequence:
            raise Killed

    return die


def test_a_run_whose_folder_is_away_is_ended_aloud(world: World, caplog: pytest.LogCaptureFixture) -> None:
    workflow = world.workflow()
    assert world.process(lambda runner: runner.run_once(workflow), on_message=die_after(3)) is None
    (world.directory / "stf").rename(world.directory / "elsewhere")
    # One that follows commands takes it up by itself.
    assert world.process(lambda runner: None, follow=True) is not None
    (world.directory / "elsewhere").rename(world.directory / "stf")
    world.check()
    assert len(world.files) == 3
    assert "cannot be gone on with: folder" in caplog.text
    assert world.monitor.endings["prompt_processing-alice-0001"][0] is ExecutionStatus.FAILED


@pytest.mark.parametrize("what", ["workflow", "progress", "others"])
def test_a_run_that_cannot_be_gone_on_with_is_ended_aloud(world: World, what: str) -> None:
    workflow = world.workflow()
    assert world.process(lambda runner: runner.run_once(workflow), on_message=die_after(2)) is None
    journal = world.journal()
    (record,) = journal.runs()
    if what == "workflow":
        journal.save(record.model_copy(update={"workflow": '{"name": "of another version"}'}))
    elif what == "progress":
        wrong = record.progress.model_copy(update={"tick": 1.0})
        journal.save(record.model_copy(update={"progress": wrong}))
    else:
        world.monitor.over.add(record.execution_id)
    journal.close()

    assert world.process(lambda runner: None, follow=True) is not None
    bodies = world.messages()
    assert (bodies[-1]["msg_type"], bodies[-1]["total_stf_files"]) == ("end_run", 2)
    validate(bodies[-1])
    # What others have said of it is not made worse.
    status = ExecutionStatus.TERMINATED if what == "others" else ExecutionStatus.FAILED
    assert world.monitor.endings["prompt_processing-alice-0001"][0] is status
    journal = world.journal()
    assert (journal.runs(), journal.unsent()) == ([], [])
    journal.close()


def test_a_run_that_was_to_end_is_ended_before_the_next(world: World) -> None:
    def stop(runner: DaqRunner, message: Message) -> None:
        if getattr(message, "sequence", 0) == 1:
            runner.stop_run()
            raise Killed

    workflow = world.workflow()
    results = []
    assert world.process(lambda runner: runner.run_once(workflow), on_message=stop) is None
    assert world.process(lambda runner: results.append(runner.run_once(workflow))) is not None
    ends = [body for body in world.messages() if body["msg_type"] == "end_run"]
    assert [(body["run_id"], body["total_stf_files"]) for body in ends] == [("100010", 1), ("100011", 4)]
    assert [(result.run_id, result.status) for result in results] == [("100011", ExecutionStatus.COMPLETED)]


def test_a_run_that_others_have_ended_is_not_taken_for_the_next(world: World) -> None:
    workflow = world.workflow()
    results = []
    assert world.process(lambda runner: runner.run_once(workflow), on_message=die_after(1)) is None
    world.monitor.over.update(world.monitor.executions)
    assert world.process(lambda runner: results.append(runner.run_once(workflow))) is not None
    assert [(result.run_id, result.stf_count) for result in results] == [("100011", 4)]


@pytest.mark.parametrize("last", [1, 2])
def test_a_full_disk_ends_the_run_aloud(world: World, last: int) -> None:
    workflow = world.workflow()
    results = []

    def work(runner: DaqRunner) -> None:
        result = runner.run_once(workflow)
        results.append(result)
        fail_in_the_end.undo()

    fail_in_the_end = pytest.MonkeyPatch()

    def fill(runner: DaqRunner, message: Message) -> None:
        def full(*arguments: Any, **named: Any) -> None:
            raise TemporarilyUnavailable("the journal: disk is full")

        if getattr(message, "sequence", 0) == last:
            fail_in_the_end.setattr(MortalJournal, "save", full)

    assert world.process(work, on_message=fill) is not None
    (result,) = results
    assert (result.status, result.ending) == (ExecutionStatus.FAILED, Ending.FAILED)
    assert "disk is full" in str(result.error)
    # The next message could not be kept, so it was not sent; but that of the end was.
    assert [body["msg_type"] for body in world.messages()][-2:] == ["stf_gen", "end_run"]
    assert world.messages()[-1]["total_stf_files"] == result.stf_count == last
    assert world.monitor.endings[result.execution_id][0] is ExecutionStatus.FAILED


def test_a_stop_that_comes_first_holds_for_the_run_that_is_taken_up(world: World) -> None:
    workflow = world.workflow()
    results = []
    assert world.process(lambda runner: runner.run_once(workflow), on_message=die_after(1)) is None

    start = DaqRunner.start

    def interrupted(runner: DaqRunner) -> None:
        # As a signal does, whose handler is there before the runner starts.
        runner.stop()
        start(runner)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DaqRunner, "start", interrupted)
        assert world.process(lambda runner: results.append(runner.run_once(workflow))) is not None
    assert [(result.status, result.stf_count) for result in results] == [(ExecutionStatus.TERMINATED, 1)]
    world.check()


def test_an_end_that_was_told_waits_for_the_bus(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    workflow = world.workflow()
    results = []

    def die(runner: DaqRunner, message: Message) -> None:
        if message.msg_type == "end_run":
            raise Killed

    assert world.process(lambda runner: runner.run_once(workflow), on_message=die) is None
    waits = iter([5, 5, 0])
    flushed = []

    def flush(bus: FakeBus, timeout: float) -> int:
        flushed.append(next(waits, 0))
        return flushed[-1]

    monkeypatch.setattr(FakeBus, "flush", flush)
    assert world.process(lambda runner: results.append(runner.run_once(workflow))) is not None
    assert flushed[:3] == [5, 5, 0]
    assert [(result.status, result.unsent) for result in results] == [(ExecutionStatus.COMPLETED, 0)]
    world.check()


def test_a_fault_ends_the_run_with_its_count(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    workflow = world.workflow()
    assert world.process(lambda runner: runner.run_once(workflow), on_message=die_after(1)) is None

    def fail(execution_id: str) -> bool:
        raise RuntimeError("a fault of the monitor's client")

    monkeypatch.setattr(world.monitor, "is_over", fail)

    def work(runner: DaqRunner) -> None:
        with pytest.raises(RuntimeError, match="a fault"):
            runner.run_once(workflow)

    assert world.process(work) is not None
    (end,) = (body for body in world.messages() if body["msg_type"] == "end_run")
    assert end["total_stf_files"] == 1
    assert [status for status, _ in world.monitor.endings.values()] == [ExecutionStatus.FAILED]
    world.check()


def test_a_run_of_another_workflow_is_ended_before_the_next(world: World) -> None:
    assert world.process(lambda runner: runner.run_once(world.workflow()), on_message=die_after(1)) is None
    assert world.process(lambda runner: runner.run_once(world.workflow(stf_count=1))) is not None
    ends = [body for body in world.messages() if body["msg_type"] == "end_run"]
    assert [(body["run_id"], body["total_stf_files"]) for body in ends] == [("100010", 1), ("100011", 2)]
    assert [status for status, _ in world.monitor.endings.values()] == [
        ExecutionStatus.FAILED,
        ExecutionStatus.COMPLETED,
    ]


def test_what_the_monitor_was_not_told_the_next_process_tells(world: World) -> None:
    world.monitor.away = {"end_execution"}
    assert world.process(lambda runner: runner.run_once(world.workflow())) is not None
    assert world.monitor.endings == {}
    journal = world.journal()
    (record,) = journal.runs()
    assert record.status is ExecutionStatus.COMPLETED
    world.monitor.away = set()
    # With its thread this time.
    runner = DaqRunner(
        bus=FakeBus(), monitor=world.monitor, namespace="test-user", user="alice", journal=journal
    )
    runner.start()
    world.monitor.wait_until(lambda: bool(world.monitor.endings))
    runner.close()
    assert world.monitor.endings == {record.execution_id: (record.status, record.end_time)}
    journal = world.journal()
    assert journal.runs() == []
    journal.close()


def test_messages_that_the_bus_did_not_take_are_sent_by_the_next_process(world: World) -> None:
    workflow = world.workflow()

    def lose_the_bus(runner: DaqRunner, message: Message) -> None:
        runner._bus.connected = False  # type: ignore[misc]
        if message.msg_type == "end_run":
            raise Killed

    assert world.process(lambda runner: runner.run_once(workflow), on_message=lose_the_bus) is None
    said, world.wire = world.wire, []
    assert world.process(lambda runner: runner.run_once(workflow)) is not None
    # The first was confirmed; the others are as they were.
    assert world.wire[: len(said) - 1] == said[1:]


def test_a_run_that_waits_for_the_monitor_begins_when_it_is_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow = world.workflow()
    monkeypatch.setattr("simulator.daq.continuation._AGAIN", 0.01)
    # It dies once the execution is registered.
    assert world.process(lambda runner: runner.run_once(workflow), die_at=1) is None
    asked = []
    next_run_number = world.monitor.next_run_number

    def be_away_at_first() -> int:
        asked.append(None)
        if len(asked) < 3:
            raise TemporarilyUnavailable("the monitor is away")
        return next_run_number()

    monkeypatch.setattr(world.monitor, "next_run_number", be_away_at_first)
    assert world.process(lambda runner: runner.run_once(workflow)) is not None
    world.check()


def test_nobody_waits_for_a_monitor_that_may_not_know_the_execution(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow = world.workflow()
    # It dies before it is known to be registered.
    assert world.process(lambda runner: runner.run_once(workflow), die_at=1) is None
    results = []

    def stop(runner: DaqRunner) -> None:
        def be_away(name: str, owner: str) -> None:
            runner.stop()
            raise TemporarilyUnavailable("the monitor is away")

        world.monitor.away = {"end_execution"}
        monkeypatch.setattr(world.monitor, "ensure_namespace", be_away)
        results.append(runner.run_once(workflow))

    assert world.process(stop) is not None
    assert [(result.status, result.run_id) for result in results] == [(ExecutionStatus.TERMINATED, "")]
    assert world.wire == []
    journal = world.journal()
    assert journal.runs() == []
    journal.close()


#: A run that waits for ever before its first file.
LONG = {"realtime": True, "no_beam_not_ready_delay": 0, "beam_not_ready_delay": 1e6, "beam_ready_delay": 0}


def test_time_goes_on_from_where_it_was(tmp_path: Path) -> None:
    (tmp_path / "swf.102363.run").mkdir()
    told: list[Message] = []
    control = Control()

    def send(message: Message, progress: Progress) -> None:
        told.append(message)
        control.stop()

    simulation = RunSimulation(
        identity=IDENTITY,
        parameters=DaqParameters(container=tmp_path, broadcast_delay=0, **LONG),
        send=send,
        control=control,
        past=Progress(told=1, clock=1e6),
    )
    assert simulation.run() is Ending.STOPPED
    # No million seconds later.
    assert [message.msg_type for message in told] == ["start_run", "end_run"]


def test_how_much_time_has_passed_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulator.daq.simulation._NOTE", 0.05)
    notes: list[Progress] = []
    control = Control()

    def note(progress: Progress) -> None:
        notes.append(progress)
        control.stop()

    simulation = RunSimulation(
        identity=IDENTITY,
        parameters=DaqParameters(container=tmp_path, **LONG),
        send=lambda message, progress: None,
        control=control,
        note=note,
    )
    assert simulation.run() is Ending.STOPPED
    assert notes[0].told == 1
    assert notes[0].clock >= 0.05


@pytest.mark.parametrize("content", [b"", b"not JSON", b'{"timestamp": 3}', b"[]"])
def test_a_file_that_is_not_the_runs_own_is_replaced(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    parameters = DaqParameters(container=tmp_path, realtime=False, stf_count=3, physics_period_count=1)
    told: list[Progress] = []

    def die(message: Message, progress: Progress) -> None:
        if progress.files == 2:
            raise Killed
        told.append(progress)

    with pytest.raises(Killed):
        RunSimulation(identity=IDENTITY, parameters=parameters, send=die, control=Control()).run()
    file = tmp_path / "swf.102363.run" / "swf.102363.000002.stf"
    file.write_bytes(content)
    bodies: list[dict[str, Any]] = []
    again = RunSimulation(
        identity=IDENTITY,
        parameters=parameters,
        send=lambda message, progress: bodies.append(message.to_body()),
        control=Control(),
        past=told[-1],
    )
    assert again.run() is Ending.COMPLETE
    assert [body["sequence"] for body in bodies if "sequence" in body] == [2, 3]
    assert bodies[0]["checksum"] == f"{zlib.adler32(file.read_bytes()):08x}"
    assert "not what it should be" in caplog.text


def test_a_record_is_read_as_it_was_written() -> None:
    record = RunRecord(
        execution_id="e", namespace="n", sender="s", workflow="{}", start_time=datetime.now(UTC),
        progress=Progress(told=3, files=1, tick=18.800000000000004, clock=19),
    )  # fmt: skip
    again = RunRecord.model_validate_json(record.model_dump_json())
    assert again == record
    assert isinstance(again.progress.clock, int)
    with pytest.raises(ValueError, match="no number"):
        _ = record.identity
