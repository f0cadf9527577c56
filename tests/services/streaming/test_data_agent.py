"""The data agent: whatever happens, every file once, one stf_ready, one end."""

from __future__ import annotations

import itertools
import logging
import zlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import InvalidMessage
from models.streaming.data_runs import FileState
from models.streaming.datasets import DatasetId
from models.streaming.messages import PauseRun, StfGen
from models.streaming.monitoring import (
    AgentState,
    Execution,
    ExecutionStatus,
    RunState,
    StfStatus,
    SystemAgent,
)
from tests.services.streaming.data_world import EXECUTION, NAMESPACE, DataWorld

RUN = "102363"
NAMES = [f"swf.{RUN}.{number:06d}.stf" for number in (1, 2, 3)]


@pytest.fixture
def world(tmp_path: Path) -> DataWorld:
    return DataWorld(tmp_path)


def errors(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR)


def test_a_run(world: DataWorld) -> None:
    world.agent.receive(world.announce(RUN, 3))
    world.work()
    run = world.run(RUN)
    assert run.complete and run.finished and run.note is None
    assert set(world.states(RUN).values()) == {FileState.REGISTERED}
    assert world.dataset(RUN) == NAMES
    assert world.catalogue.is_open(DatasetId("group.daq", f"swf.{RUN}.run")) is False
    assert world.monitor.closed == [int(RUN)]
    [ready] = world.outbox()
    assert ready.to_body() == {
        "msg_type": "stf_ready",
        "namespace": NAMESPACE,
        "sender": "data-agent-alice-1",
        "req_id": 1,
        "run_id": RUN,
        "execution_id": EXECUTION,
    }
    assert world.agent.facts().state is AgentState.READY
    assert world.agent.facts().total_stf_processed == 3


def test_what_monitor_and_catalogue_are_told(world: DataWorld) -> None:
    path = world.write(RUN, 1)
    world.agent.receive([world.imminent(RUN, run_conditions={"beam": 1}), world.stf_gen(RUN, 1)])
    world.work()
    row = world.monitor.registered[NAMES[0]]
    assert row.file_size_bytes == path.stat().st_size
    assert row.checksum == f"{zlib.adler32(path.read_bytes()):08x}"
    assert row.machine_state == "run" and row.status is StfStatus.REGISTERED
    assert row.metadata == {
        "created_by": "data-agent-alice-1",
        "substate": "physics",
        "start": None,
        "end": None,
        "sequence": 1,
    }
    assert world.monitor.opened == {int(RUN): {"beam": 1}}
    [file] = world.catalogue.files(DatasetId("group.daq", f"swf.{RUN}.run"))
    assert (file.path, file.size_bytes, file.adler32) == (path, row.file_size_bytes, row.checksum)
    assert file.metadata == {"run_number": int(RUN)}


def test_many_files_go_in_batches(world: DataWorld) -> None:
    world.agent.receive(world.announce(RUN, 1000))
    world.work()
    assert world.run(RUN).complete
    assert world.catalogue.batches == [500, 500]
    assert len(world.outbox()) == 1


@settings(max_examples=15)
@given(data=st.data())
def test_order_and_repetition_do_not_matter(data: st.DataObject) -> None:
    with TemporaryDirectory() as directory:
        world = DataWorld(Path(directory))
        messages = world.announce(RUN, 3)
        order = data.draw(
            st.permutations([*messages, *data.draw(st.lists(st.sampled_from(messages), max_size=8))])
        )
        sizes = itertools.cycle(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
        while order:
            size = next(sizes)
            world.agent.receive(order[:size])
            order = order[size:]
            action = data.draw(st.sampled_from(["work", "wait", "restart", "nothing"]))
            if action == "restart":
                world.restart()
                world.agent.recover()
            if action == "wait":
                world.clock.pass_(4.0)
            if action != "nothing":
                world.work()
        world.pass_time(10.0)
        run = world.run(RUN)
        assert run.complete and run.finished
        assert set(world.states(RUN).values()) == {FileState.REGISTERED}
        assert sorted(world.dataset(RUN)) == NAMES
        assert len(world.outbox()) == 1
        assert world.catalogue.closings == [f"swf.{RUN}.run"]
        assert world.monitor.closed == [int(RUN)]


def test_overlapping_runs_do_not_mix(world: DataWorld) -> None:
    first, second = world.announce("100010", 3), world.announce("100011", 2)
    mixed = [m for pair in itertools.zip_longest(first, second) for m in pair if m is not None]
    for message in mixed:
        world.agent.receive([message])
        world.work()
    assert [name.split(".")[1] for name in world.dataset("100010")] == ["100010"] * 3
    assert [name.split(".")[1] for name in world.dataset("100011")] == ["100011"] * 2
    assert world.run("100010").complete and world.run("100011").complete
    assert len(world.outbox()) == 2


def test_missing_run_imminent(world: DataWorld) -> None:
    """The run gets its usual names; the folder is that of an earlier run."""
    world.agent.receive(world.announce("100010", 1))
    world.work()
    world.agent.receive(world.announce(RUN, 3)[1:])
    world.work()
    assert world.dataset(RUN) == []
    world.pass_time(5.0)
    assert world.dataset(RUN) == NAMES and world.run(RUN).complete


def test_missing_run_imminent_is_got_from_the_monitor(world: DataWorld, tmp_path: Path) -> None:
    other = tmp_path / "other"
    world.write(RUN, 1, container=other)
    world.monitor.recorded[EXECUTION] = [world.imminent(RUN, container=str(other)).to_body()]
    world.agent.receive([world.stf_gen(RUN, 1)])
    world.work()
    assert world.run(RUN).announced
    assert world.dataset(RUN) == NAMES[:1]


def test_run_imminent_with_another_name_comes_too_late(
    world: DataWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world.write(RUN, 1, container=world.elsewhere)
    world.agent.receive([world.stf_gen(RUN, 1)])
    world.pass_time(5.0)
    world.agent.receive([world.imminent(RUN, dataset="swf.other")])
    assert "names the dataset swf.other" in errors(caplog)
    assert world.run(RUN).dataset == f"swf.{RUN}.run"


def test_run_imminent_in_mid_run_names_another_dataset_and_place(world: DataWorld) -> None:
    """Nothing was found under the usual name: the files are where it says."""
    folder = world.container / "cosmics.1"
    folder.mkdir()
    world.write(RUN, 1).rename(folder / NAMES[0])
    world.agent.receive([world.stf_gen(RUN, 1)])
    world.pass_time(5.0)
    world.agent.receive([world.imminent(RUN, dataset="cosmics.1"), world.end(RUN, 1)])
    world.pass_time(20.0)
    assert world.run(RUN).complete
    files = world.catalogue.files(DatasetId("group.daq", "cosmics.1"))
    assert [file.name for file in files] == NAMES[:1]
    assert f"swf.{RUN}.run stays empty" in (world.run(RUN).note or "")


def test_runs_that_name_the_same_dataset(world: DataWorld) -> None:
    """Whoever compares with the catalogue takes nobody else's files for its own."""
    folder = world.container / "shared"
    folder.mkdir()
    for run in ("100010", "100011"):
        world.write(run, 1).rename(folder / f"swf.{run}.000001.stf")
        world.agent.receive([world.imminent(run, dataset="shared"), world.stf_gen(run, 1)])
    world.work()
    world.restart().recover()
    world.work()
    for run in ("100010", "100011"):
        assert list(world.states(run)) == [f"swf.{run}.000001.stf"]


def test_a_file_that_never_appears(world: DataWorld, caplog: pytest.LogCaptureFixture) -> None:
    messages = world.announce(RUN, 3)
    (world.container / f"swf.{RUN}.run" / NAMES[1]).unlink()
    world.agent.receive(messages)
    world.pass_time(59.0)
    assert world.run(RUN).closed is None
    world.pass_time(2.0)
    run = world.run(RUN)
    assert run.closed and run.finished and run.complete is False
    assert world.states(RUN)[NAMES[1]] is FileState.MISSING
    assert world.dataset(RUN) == [NAMES[0], NAMES[2]]
    assert NAMES[1] in errors(caplog) and "1 of 3 are missing" in errors(caplog)


def test_a_file_that_appears_just_before_the_deadline(world: DataWorld) -> None:
    """It is looked for seldom by then; before the dataset is closed, once more."""
    messages = world.announce(RUN, 3)
    aside = (world.container / f"swf.{RUN}.run" / NAMES[1]).rename(world.container / "aside")
    world.agent.receive(messages)
    world.pass_time(59.9, step=0.1)
    aside.rename(world.container / f"swf.{RUN}.run" / NAMES[1])
    [file] = world.store.files(RUN, FileState.ANNOUNCED)
    assert file.due is not None and file.due > world.clock() + timedelta(seconds=0.5)
    world.pass_time(0.2, step=0.1)
    assert world.run(RUN).complete
    assert set(world.dataset(RUN)) == set(NAMES)


def test_a_file_that_was_never_announced_is_found_at_the_end(world: DataWorld) -> None:
    messages = world.announce(RUN, 3)
    world.agent.receive([*messages[:3], *messages[4:]])
    world.pass_time(61.0)
    assert world.run(RUN).complete
    assert sorted(world.dataset(RUN)) == NAMES
    assert world.monitor.registered[NAMES[1]].metadata["substate"] == "physics"


def test_files_that_nobody_ever_saw_are_named(world: DataWorld, caplog: pytest.LogCaptureFixture) -> None:
    messages = world.announce(RUN, 2)
    world.agent.receive([*messages[:-1], world.end(RUN, 3)])
    world.pass_time(61.0)
    assert world.run(RUN).complete is False
    assert f"1 never announced ({NAMES[2]})" in errors(caplog)


def test_a_file_is_taken_when_it_is_as_announced(world: DataWorld) -> None:
    path = world.write(RUN, 1, size=10)
    good = f"{zlib.adler32(b'y' * 20):08x}"
    world.agent.receive([world.imminent(RUN), world.stf_gen(RUN, 1, size_bytes=20, checksum=good)])
    world.pass_time(3.0)
    assert world.dataset(RUN) == []
    path.write_bytes(b"z" * 20)
    world.pass_time(20.0)
    assert world.dataset(RUN) == []
    path.write_bytes(b"y" * 20)
    world.pass_time(20.0)
    assert world.dataset(RUN) == NAMES[:1]


@pytest.mark.parametrize("at_once", [True, False])
def test_a_file_that_is_announced_otherwise_before_it_is_there(world: DataWorld, at_once: bool) -> None:
    wrong, right = (world.stf_gen(RUN, 1, size_bytes=size, checksum=None) for size in (5, 7))
    world.agent.receive([world.imminent(RUN), wrong, *([right] if at_once else [])])
    world.pass_time(5.0)
    world.write(RUN, 1, size=7)
    # What says nothing of the content takes nothing back.
    world.agent.receive([right, world.stf_gen(RUN, 1), world.end(RUN, 1)])
    world.pass_time(20.0)
    assert world.run(RUN).complete
    assert world.dataset(RUN) == NAMES[:1]


@pytest.mark.parametrize("change", [{"size_bytes": 6}, {"size_bytes": 5, "checksum": "00000001"}])
def test_a_file_that_changed_after_it_was_registered(
    world: DataWorld, change: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    world.write(RUN, 1, size=5)
    same = world.stf_gen(RUN, 1, size_bytes=5, checksum=f"{zlib.adler32(b'x' * 5):08x}")
    world.agent.receive([world.imminent(RUN), same])
    world.work()
    world.agent.receive([same])
    assert not errors(caplog)
    for _ in range(2):
        world.agent.receive([world.stf_gen(RUN, 1, **change)])
    world.agent.receive([world.end(RUN, 2)])
    world.pass_time(61.0)
    note = world.run(RUN).note or ""
    assert note.count(f"{NAMES[0]} is announced once more") == 1 and "1 of 2 are missing" in note
    assert errors(caplog).count("announced once more") == 1
    assert len(world.dataset(RUN)) == 1 and len(world.outbox()) == 1


@pytest.mark.parametrize("form", ["adler32:{:08x}", "{:x}", "{:08X}", "d41d8cd98f00b204e9800998ecf8427e"])
def test_checksums_of_other_senders(world: DataWorld, form: str) -> None:
    """Not padded, with a prefix, or of a kind that cannot be checked."""
    path = world.write(RUN, 1, size=1)
    checksum = form.format(zlib.adler32(path.read_bytes()))
    world.agent.receive([world.imminent(RUN), world.stf_gen(RUN, 1, checksum=checksum)])
    world.work()
    assert world.dataset(RUN) == NAMES[:1]


def test_a_late_file_is_said_and_kept(world: DataWorld, caplog: pytest.LogCaptureFixture) -> None:
    world.agent.receive(world.announce(RUN, 2))
    world.work()
    world.write(RUN, 3)
    world.agent.receive([world.stf_gen(RUN, 3)])
    world.agent.receive([world.stf_gen(RUN, 3)])
    world.work()
    assert world.states(RUN)[NAMES[2]] is FileState.LATE
    assert errors(caplog).count(NAMES[2]) == 1
    assert NAMES[2] in (world.run(RUN).note or "")


def test_a_number_of_a_run_that_is_given_twice(world: DataWorld, caplog: pytest.LogCaptureFixture) -> None:
    """By a monitor whose database was made anew."""
    world.agent.receive(world.announce(RUN, 2))
    world.work()
    world.agent.receive([world.imminent(RUN)])
    assert not errors(caplog)
    again = [m.model_copy(update={"execution_id": "other-0001"}) for m in world.announce(RUN, 2)]
    world.agent.receive(again)
    world.agent.receive(again)
    world.work()
    assert errors(caplog).count("names the execution other-0001, but run 102363 is that of") == 1
    assert "is closed" in (world.run(RUN).note or "")
    assert world.dataset(RUN) == NAMES[:2]


def test_more_files_than_end_run_tells(world: DataWorld) -> None:
    world.agent.receive([*world.announce(RUN, 3)[:-1], world.end(RUN, 2)])
    world.work()
    assert world.run(RUN).complete
    assert world.run(RUN).note == "end_run told of 2 files only, 3 came"


def daq(name: str, *, heard: datetime, status: str = "OK", agent_type: str = "DAQ_Simulator") -> SystemAgent:
    return SystemAgent(
        instance_name=name, agent_type=agent_type, namespace=NAMESPACE, status=status, last_heartbeat=heard
    )


@pytest.mark.parametrize("agent_type", ["DAQ_Simulator", "prompt_processing"])
def test_data_acquisition_that_died(
    world: DataWorld, agent_type: str, caplog: pytest.LogCaptureFixture
) -> None:
    world.monitor.known_executions[EXECUTION] = Execution(
        execution_id=EXECUTION, status=ExecutionStatus.RUNNING
    )
    world.monitor.known_agents = [
        daq("daq-1", heard=world.clock(), agent_type=agent_type),
        daq("data-agent-1", heard=world.clock() - timedelta(days=1), agent_type="DATA"),
    ]
    messages = world.announce(RUN, 3)[:-1]
    world.monitor.recorded[EXECUTION] = [{"sender": "daq-1", **m.to_body()} for m in messages]
    world.agent.receive(messages)
    world.pass_time(170.0)
    world.agent.recover()
    world.work()
    assert world.run(RUN).ended is None, "it may just be slow"
    world.monitor.known_agents.append(daq("daq-2", heard=world.clock()))
    world.pass_time(20.0)
    world.agent.recover()
    world.work()
    assert world.run(RUN).closed, "another one lives, but this run is not its"
    assert world.monitor.known_executions[EXECUTION].status is ExecutionStatus.FAILED
    assert "has lost its data acquisition, daq-1" in errors(caplog)


def test_data_acquisition_that_died_before_it_told_of_its_run(
    world: DataWorld, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = "prompt_processing-alice-0001", "prompt_processing-alice-0002"
    for name, ago in ((old, timedelta(days=1)), (new, timedelta(0))):
        world.monitor.known_executions[name] = Execution(
            execution_id=name, status=ExecutionStatus.RUNNING, start_time=world.clock() - ago
        )
    world.monitor.known_agents = [daq("daq-1", heard=world.clock())]
    for seconds, status in ((170.0, ExecutionStatus.RUNNING), (20.0, ExecutionStatus.FAILED)):
        world.pass_time(seconds)
        world.agent.recover()
        assert world.monitor.known_executions[new].status is status
    assert world.monitor.known_executions[old].status is ExecutionStatus.RUNNING, "that is others' affair"
    assert f"execution {new} has lost its data acquisition, daq-1" in errors(caplog)


def test_data_acquisition_that_another_outlived(world: DataWorld) -> None:
    world.monitor.known_executions[EXECUTION] = Execution(
        execution_id=EXECUTION, status=ExecutionStatus.RUNNING
    )
    world.monitor.known_agents = [
        daq("daq-1", heard=world.clock(), status="EXITED"),
        daq("daq-2", heard=world.clock() + timedelta(days=1)),
    ]
    messages = world.announce(RUN, 3)[:-1]
    world.monitor.recorded[EXECUTION] = [{"sender": "daq-2", **m.to_body()} for m in messages]
    world.agent.receive(messages)
    world.pass_time(7200.0, step=100.0)
    world.agent.recover()
    world.work()
    assert world.run(RUN).ended is None
    assert world.monitor.known_executions[EXECUTION].status is ExecutionStatus.RUNNING


def test_missing_end_run(world: DataWorld, caplog: pytest.LogCaptureFixture) -> None:
    world.monitor.known_executions[EXECUTION] = Execution(
        execution_id=EXECUTION, status=ExecutionStatus.RUNNING
    )
    world.agent.receive(world.announce(RUN, 3)[:-1])
    world.pass_time(7200.0, step=100.0)
    world.agent.recover()
    world.work()
    assert world.run(RUN).ended is None, "its execution runs"
    world.monitor.known_executions[EXECUTION] = Execution(
        execution_id=EXECUTION, status=ExecutionStatus.TERMINATED
    )
    world.agent.recover()
    world.work()
    run = world.run(RUN)
    assert run.closed and run.finished and run.end_assumed and run.complete is None
    assert "end_run never came" in errors(caplog)
    world.agent.receive([world.end(RUN, 3)])
    assert world.run(RUN).complete


def test_an_end_run_that_was_lost_is_got_from_the_monitor(world: DataWorld) -> None:
    messages = world.announce(RUN, 3)
    world.agent.receive(messages[:-1])
    world.work()
    world.clock.pass_(31.0)
    world.agent.recover()
    world.monitor.recorded[EXECUTION] = [message.to_body() for message in messages]
    world.monitor.states[int(RUN)] = RunState(run_number=int(RUN), state="ended")
    world.agent.recover()
    world.work()
    assert world.run(RUN).complete and not world.run(RUN).end_assumed


@pytest.mark.parametrize("how", ["run state", "silence"])
def test_other_signs_of_an_end(world: DataWorld, how: str) -> None:
    world.agent.receive(world.announce(RUN, 3)[:-1])
    world.work()
    world.clock.pass_(31.0)
    world.agent.recover()
    assert world.run(RUN).ended is None
    if how == "run state":
        world.monitor.states[int(RUN)] = RunState(run_number=int(RUN), state="ended")
    else:
        world.clock.pass_(3600.0)
    world.agent.recover()
    world.work()
    assert world.run(RUN).closed


def test_an_end_is_not_assumed_right_after_a_start(world: DataWorld) -> None:
    world.monitor.states[int(RUN)] = RunState(run_number=int(RUN), state="ended")
    world.agent.receive(world.announce(RUN, 3)[:-1])
    world.clock.pass_(1000.0)
    world.restart().recover()
    assert world.run(RUN).ended is None, "messages may wait at the bus"


def test_catalogue_that_is_away_stops_no_other_run(
    world: DataWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world.catalogue.away = [f"swf.{RUN}.run"]
    world.agent.receive([*world.announce(RUN, 3), *world.announce("100010", 2)])
    world.pass_time(100.0)
    assert world.run("100010").complete
    assert world.run(RUN).closed is None
    assert "answers 500" in (world.agent.facts().trouble or "")
    assert errors(caplog).count("answers 500") == 1, "it is said once"
    world.catalogue.away = []
    world.pass_time(31.0)
    assert world.run(RUN).complete, "its files are there, though the deadline passed"
    assert world.agent.facts().trouble is None


def test_monitor_that_is_away_leaves_no_dataset_open(world: DataWorld) -> None:
    world.monitor.away = True
    world.agent.receive(world.announce(RUN, 3))
    world.work()
    world.agent.recover()
    assert world.run(RUN).complete and world.run(RUN).finished is None
    assert world.outbox() == []
    world.monitor.away = False
    world.pass_time(31.0)
    assert world.run(RUN).finished and len(world.outbox()) == 1


def test_monitor_that_is_away_is_asked_about_one_run_only(
    world: DataWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each question may take ten seconds: a night's runs would keep it from files that come."""
    asked: list[int] = []
    check = world.monitor._check

    def open_run(run_number: int, **_: Any) -> None:
        asked.append(run_number)
        check()

    world.monitor.away = True
    with monkeypatch.context() as patch:
        patch.setattr(world.monitor, "open_run", open_run)
        for number in range(100010, 100020):
            world.agent.receive(world.announce(str(number), 1))
        world.work()
        assert len(asked) == 10
        asked.clear()
        world.pass_time(150.0)
        assert len(asked) < 10 and len(set(asked)) == len(asked)
        asked.clear()
        world.agent.receive(world.announce(RUN, 3))
        world.work()
        assert world.run(RUN).complete and asked == [int(RUN)]
    world.monitor.away = False
    world.pass_time(31.0)
    assert world.store.unfinished() == []
    assert len(world.outbox()) == 11


def test_an_answer_that_nobody_foresaw_stops_no_other_run(
    world: DataWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    create = world.catalogue.create_dataset

    def create_dataset(dataset: DatasetId, *, lifetime: float) -> None:
        if dataset.name == f"swf.{RUN}.run":
            raise KeyError("bytes")
        create(dataset, lifetime=lifetime)

    with monkeypatch.context() as patch:
        patch.setattr(world.catalogue, "create_dataset", create_dataset)
        world.agent.receive([*world.announce(RUN, 3), *world.announce("100010", 2)])
        world.pass_time(40.0)
        assert world.run("100010").complete
        assert "the catalogue fails: KeyError: 'bytes'" in errors(caplog)
    world.pass_time(31.0)
    assert world.run(RUN).complete


def test_failures_that_last_are_said_again(world: DataWorld, caplog: pytest.LogCaptureFixture) -> None:
    """And so is one of another kind."""
    world.catalogue.away = [f"swf.{RUN}.run"]
    world.agent.receive([world.imminent(RUN)])
    world.pass_time(60.0)
    assert errors(caplog).count("the catalogue fails") == 1
    world.catalogue.away, world.catalogue.refuses_datasets = [], True
    world.pass_time(60.0)
    assert errors(caplog).count("the catalogue fails") == 2
    world.pass_time(900.0, step=10.0)
    assert errors(caplog).count("the catalogue fails: the scope is not yours") == 2


def test_clock_that_is_set_back(world: DataWorld) -> None:
    """Nothing waits for the time that it was."""
    world.catalogue.away = [f"swf.{RUN}.run"]
    world.agent.receive([*world.announce(RUN, 1), *world.announce("100010", 1)[1:]])
    world.agent.receive([world.imminent("100011"), world.stf_gen("100011", 1)])
    world.work()
    world.write("100011", 1)
    world.catalogue.away = []
    world.clock.pass_(-3600.0)
    world.pass_time(20.0)
    assert world.run(RUN).complete
    assert world.dataset("100010") and world.dataset("100011")


def test_refused_file(world: DataWorld, caplog: pytest.LogCaptureFixture) -> None:
    world.catalogue.refuses = {NAMES[1]}
    world.agent.receive(world.announce(RUN, 3))
    world.pass_time(61.0)
    assert world.states(RUN)[NAMES[1]] is FileState.FAILED
    assert world.dataset(RUN) == [NAMES[0], NAMES[2]]
    assert world.run(RUN).complete is False and world.run(RUN).finished
    assert f"1 refused ({NAMES[1]}" in errors(caplog)


def test_file_that_the_monitor_refuses(world: DataWorld, caplog: pytest.LogCaptureFixture) -> None:
    world.monitor.refuses = {NAMES[0]}
    world.agent.receive(world.announce(RUN, 3))
    world.pass_time(61.0)
    assert world.states(RUN)[NAMES[0]] is FileState.FAILED
    assert sorted(world.monitor.registered) == NAMES[1:]
    assert world.run(RUN).finished and len(world.outbox()) == 1
    assert "the monitor refuses it" in errors(caplog)


def test_monitor_that_refuses_whatever_comes(world: DataWorld) -> None:
    """As it does when it does not know its own name: no file is given up for that."""
    world.agent.receive(world.announce(RUN, 1)[:-1])
    world.monitor.refuses = set(NAMES)
    world.pass_time(100.0)
    assert set(world.states(RUN).values()) == {FileState.CATALOGUED}
    world.monitor.refuses = set()
    world.pass_time(31.0)
    assert set(world.states(RUN).values()) == {FileState.REGISTERED}
    assert len(world.outbox()) == 1


def test_refused_dataset(world: DataWorld, caplog: pytest.LogCaptureFixture) -> None:
    world.catalogue.refuses_datasets = True
    world.agent.receive(world.announce(RUN, 2))
    world.pass_time(100.0)
    assert world.run(RUN).complete is False and world.run(RUN).finished
    assert set(world.states(RUN).values()) == {FileState.FAILED}
    assert "is given up: the catalogue refuses its dataset" in errors(caplog)


def test_refused_run(world: DataWorld, caplog: pytest.LogCaptureFixture) -> None:
    world.monitor.refuses_runs = True
    world.agent.receive(world.announce(RUN, 2))
    world.pass_time(100.0)
    assert world.run(RUN).complete and world.run(RUN).finished
    assert "the monitor refuses the run" in errors(caplog)


def test_stf_ready_that_comes_back_is_not_sent_again(world: DataWorld) -> None:
    """It was sent, and its sender killed before it could delete the row."""
    world.agent.receive(world.announce(RUN, 1) + world.announce("100010", 1))
    world.work()
    assert len(world.outbox()) == 2
    world.restart().receive([world.ready(RUN)])
    assert [message.run_id for message in world.outbox()] == ["100010"]  # type: ignore[attr-defined]
    assert world.run(RUN).ready_heard


def test_agent_that_lost_its_memory_starts_no_second_task(world: DataWorld) -> None:
    world.monitor.statuses = {NAMES[0]: StfStatus.PROCESSING}
    world.agent.receive(world.announce(RUN, 3))
    world.work()
    assert world.outbox() == [] and world.run(RUN).finished


@pytest.mark.parametrize("told", [False, True])
def test_a_run_that_others_began_to_process_is_told_of_once(world: DataWorld, told: bool) -> None:
    """Killed between registration and telling, and the processing agent was quick."""
    world.monitor.statuses = {NAMES[0]: StfStatus.PROCESSING}
    messages = world.announce(RUN, 3)
    world.monitor.recorded[EXECUTION] = [
        m.to_body() for m in [*messages, *([world.ready(RUN)] if told else [])]
    ]
    world.agent.receive(messages)
    world.work()
    assert len(world.outbox()) == (0 if told else 1)


def test_files_are_found_that_no_message_told_of(world: DataWorld) -> None:
    world.agent.receive([world.imminent(RUN)])
    world.announce(RUN, 2)
    (world.container / f"swf.{RUN}.run" / ".swf.1.tmp").touch()
    (world.container / f"swf.{RUN}.run" / "swf.100010.000001.stf").touch()
    world.restart().recover()
    world.work()
    assert world.dataset(RUN) == NAMES[:2]


def test_messages_of_a_whole_run_are_found_at_the_monitor(world: DataWorld) -> None:
    messages = world.announce(RUN, 3)
    world.monitor.known_executions[EXECUTION] = Execution(
        execution_id=EXECUTION, status=ExecutionStatus.COMPLETED, end_time=world.clock()
    )
    foreign = world.imminent("7").model_copy(update={"namespace": "other"})
    bodies: list[Mapping[str, Any]] = [m.to_body() for m in [*messages, foreign]]
    world.monitor.recorded[EXECUTION] = [*bodies, {"msg_type": "stf_gen"}]
    world.restart().recover()
    world.work()
    assert world.run(RUN).complete and world.store.runs(["7"]) == {}
    world.restart().recover()
    world.work()
    assert len(world.outbox()) == 1


@pytest.mark.parametrize("status", [ExecutionStatus.RUNNING, ExecutionStatus.COMPLETED])
def test_executions_of_which_nothing_is_known_hide_no_other(
    world: DataWorld, status: ExecutionStatus
) -> None:
    """Some died and seem to run still, or told nothing; the monitor shows the newest first."""
    for number in (*range(60), 99):
        execution_id = EXECUTION if number == 30 + 69 * (status == "running") else f"dead-{number}"
        at = world.clock() - timedelta(seconds=number if status == "completed" else 100 - number)
        world.monitor.known_executions[execution_id] = Execution(
            execution_id=execution_id, status=status, start_time=at, end_time=at
        )
    world.monitor.known_executions = dict(
        sorted(world.monitor.known_executions.items(), key=lambda item: str(item[1].start_time), reverse=True)
    )
    world.monitor.recorded[EXECUTION] = [m.to_body() for m in world.announce(RUN, 3)]
    world.agent.recover()
    world.agent.recover()
    world.work()
    assert world.run(RUN).complete


def test_old_executions_are_left_alone(world: DataWorld) -> None:
    world.monitor.known_executions[EXECUTION] = Execution(
        execution_id=EXECUTION, status=ExecutionStatus.COMPLETED, end_time=world.clock()
    )
    world.monitor.recorded[EXECUTION] = [m.to_body() for m in world.announce(RUN, 3)]
    world.clock.pass_(7200.0)
    world.restart().recover()
    assert world.store.latest(10) == []


def test_what_the_catalogue_has_is_taken_over(world: DataWorld) -> None:
    """Killed after the catalogue took a file, which then went from the folder."""
    world.agent.receive(world.announce(RUN, 2)[:-1])
    world.catalogue.create_dataset(DatasetId("group.daq", f"swf.{RUN}.run"), lifetime=1.0)
    world.work()
    with world.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE data_files SET state = 'announced', guid = 'x'")
        connection.exec_driver_sql(f"DELETE FROM data_files WHERE filename = '{NAMES[1]}'")
    for name in NAMES[:2]:
        (world.container / f"swf.{RUN}.run" / name).unlink()
    world.restart().recover()
    world.work()
    assert world.states(RUN) == dict.fromkeys(NAMES[:2], FileState.REGISTERED)


def test_messages_that_cannot_take_effect(world: DataWorld) -> None:
    with pytest.raises(InvalidMessage, match="plain file name"):
        world.agent.receive([StfGen(namespace=NAMESPACE, run_id=RUN, filename="../../secret")])
    with pytest.raises(InvalidMessage, match="neither filename nor sequence"):
        world.agent.receive([StfGen(namespace=NAMESPACE, run_id=RUN)])
    world.agent.receive([PauseRun(namespace=NAMESPACE, run_id=RUN), world.ready(RUN)])
    assert world.store.runs([RUN]) == {}


def test_an_end_without_a_number_waits_for_the_deadline(world: DataWorld) -> None:
    world.agent.receive([*world.announce(RUN, 2)[:-1], world.end(RUN, None)])
    world.pass_time(59.0)
    assert world.run(RUN).closed is None
    world.pass_time(2.0)
    assert world.run(RUN).closed and world.run(RUN).complete is None


def test_a_late_end_run_that_names_more_files(world: DataWorld, caplog: pytest.LogCaptureFixture) -> None:
    world.agent.receive(world.announce(RUN, 2)[:-1])
    world.work()
    world.clock.pass_(4000.0)
    world.agent.recover()
    world.work()
    world.agent.receive([world.end(RUN, 5)])
    assert world.run(RUN).complete is False and "2 of 5 files" in errors(caplog)


def test_old_files_are_forgotten_and_not_taken_again(world: DataWorld) -> None:
    world.agent.receive(world.announce(RUN, 1))
    world.work()
    world.clock.pass_(31 * 86400.0)
    world.agent.recover()
    assert world.states(RUN) == {}
    assert world.run(RUN).complete
