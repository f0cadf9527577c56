"""The prompt processing agent: one task for each run, followed to its end."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from models.errors import InvalidConfiguration, InvalidMessage, TemporarilyUnavailable
from models.streaming.datasets import DatasetId
from models.streaming.messages import StartRun
from models.streaming.monitoring import AgentState, StfStatus
from models.streaming.tasks import TaskPhase, TaskSpec, TaskState
from services.streaming import task_following
from tests.repos.streaming.executing import until
from tests.services.streaming.processing_world import (
    COMMON,
    EXECUTION,
    NAMESPACE,
    RUN,
    World,
    end_run,
    run_imminent,
    stf_gen,
    stf_ready,
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def submitted(world: World, *sequences: int) -> None:
    """Have a run with files and a task."""
    world.monitor.add_files(*sequences)
    world.agent.receive([run_imminent(), stf_ready()])
    world.advance()


def test_a_run_becomes_a_task(world: World) -> None:
    world.agent.receive([run_imminent()])
    assert world.advance() is None
    assert not world.executor.submitted
    world.agent.receive([stf_ready()])
    assert world.advance() == 10.0
    (task,) = world.executor.submitted
    assert task.name == task.output == f"user.alice.swf.{RUN}.processed"
    assert task.input == DatasetId("group.daq", f"swf.{RUN}.run")
    assert (task.execution_id, task.namespace, task.until_closed) == (EXECUTION, NAMESPACE, True)
    assert (world.run.phase, world.run.task_id) == (TaskPhase.SUBMITTED, "501")


def test_stf_ready_again_submits_nothing(world: World) -> None:
    world.agent.receive([stf_ready(), stf_ready()])
    world.advance()
    world.agent.receive([stf_ready()])
    world.advance(60)
    world.new_agent().receive([stf_ready(), run_imminent()])
    world.advance()
    assert len(world.executor.submitted) == 1


def test_a_death_between_submission_and_record(world: World) -> None:
    world.agent.receive([stf_ready()])
    world.executor.dies_after_submission = True
    with pytest.raises(KeyboardInterrupt):
        world.agent.advance()
    world.executor.dies_after_submission = False
    world.new_agent().receive([stf_ready()])
    world.advance()
    first, second = world.executor.submitted
    assert first == second
    assert world.run.task_id == "501"
    assert list(world.executor.ids) == [first.name]


def test_files_get_their_status_once(world: World) -> None:
    submitted(world, 1, 2, 3)
    assert world.monitor.statuses() == {1: "processing", 2: "processing", 3: "processing"}
    claim = world.monitor.row(1).metadata
    assert claim.pop("panda_polled_at")
    assert claim == {
        "sequence": 1,
        "processed_by": "processing-agent-alice-1",
        "panda_tracking_agent": "processing-agent-alice-1",
        "panda_tracking_namespace": NAMESPACE,
        "panda_task_id": "501",
        "panda_output_dataset": f"user.alice.swf.{RUN}.processed",
        "workflow_execution_id": EXECUTION,
    }
    world.advance(60)
    assert len(world.monitor.updates) == 3
    world.executor.add("9", 2, "finished")
    world.executor.add("10", 3, "failed", error="it burns")
    world.advance(10)
    world.advance(60)
    assert len(world.monitor.updates) == 5
    assert world.monitor.statuses() == {1: "processing", 2: "processed", 3: "failed"}
    good, bad = world.monitor.row(2).metadata, world.monitor.row(3).metadata
    assert good["matched_input_files"] == [f"swf.{RUN}.000002.stf"]
    assert (good["panda_job_id"], good["panda_job_status"]) == ("9", "finished")
    assert "panda_poll_reason" not in good
    assert bad["panda_poll_reason"] == "panda job 10 failed"
    assert bad["panda_job_error"] == "it burns"
    assert world.agent.facts().total_stf_processed == 2
    assert world.agent.facts().current_stf_count == 1


OPEN = frozenset({StfStatus.REGISTERED, StfStatus.PROCESSING})
NEW = frozenset({StfStatus.REGISTERED})


def test_only_files_that_may_change_are_asked_for(world: World) -> None:
    submitted(world, 1, 2, 3)
    world.monitor.add_files(4)
    world.executor.add("9", 1, "finished")
    world.executor.add("10", 4, "finished")
    world.advance(10)
    assert world.monitor.statuses() == {1: "processed", 2: "processing", 3: "processing", 4: "processed"}
    assert world.agent.facts().current_stf_count == 2
    world.executor.add("11", 3, "failed")
    world.advance(10)
    assert world.monitor.statuses()[3] == "failed"
    assert world.agent.facts().current_stf_count == 1
    # Those that are claimed are remembered; of a long run, they are many.
    assert world.monitor.asked[0] == OPEN and set(world.monitor.asked[1:]) == {NEW}


def test_what_others_do_to_files_is_seen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_following, "_ALL", 0.0)
    monkeypatch.setattr(task_following, "_REST", 0.0)
    submitted(world, 1, 2)
    row = world.monitor.row(1)
    world.monitor.rows[row.file_id] = row.model_copy(update={"status": StfStatus.DONE})
    world.executor.add("9", 1, "finished")
    world.advance(10)
    assert world.monitor.statuses() == {1: "done", 2: "processing"}
    assert world.agent.facts().current_stf_count == 1


def test_a_monitor_that_goes_away_in_mid_change(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_following, "_HANDFUL", 1)
    submitted(world, 1)
    world.monitor.add_files(2, 3)
    change = world.monitor.update_files

    def first_only(run_number: int, updates: Any) -> None:
        change(run_number, updates)
        world.monitor.away = True

    monkeypatch.setattr(world.monitor, "update_files", first_only)
    world.agent.receive([stf_gen(2)])
    world.advance(10)
    assert sorted(world.monitor.statuses().values()) == ["processing", "processing", "registered"]
    monkeypatch.undo()
    world.monitor.away = False
    for sequence in (1, 2, 3):
        world.executor.add(str(sequence), sequence, "finished")
    world.advance(60)
    assert set(world.monitor.statuses().values()) == {"processed"}


def test_an_end_that_takes_more_than_one_look(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_following, "_HANDFUL", 1)
    monkeypatch.setattr(task_following, "_SLICE", 0.0)
    submitted(world, 1, 2, 3, 4)
    world.monitor.add_files(5)
    for sequence in (1, 2, 5):
        world.executor.add(str(sequence), sequence, "finished")
    world.executor.states["501"] = TaskState.FINISHED
    world.monitor.asked.clear()
    world.advance(10)
    assert world.run.phase is TaskPhase.COMPLETE
    assert world.monitor.statuses() == {
        1: "processed",
        2: "processed",
        3: "failed",
        4: "failed",
        5: "processed",
    }
    assert world.monitor.asked.count(OPEN) == 1


def test_a_task_that_is_done(world: World) -> None:
    submitted(world, 1, 2)
    assert world.agent.facts().state is AgentState.PROCESSING
    for sequence in (1, 2):
        world.executor.add(str(sequence), sequence, "finished")
    world.executor.states["501"] = TaskState.DONE
    assert world.advance(10) is None
    assert (world.run.phase, world.run.task_state) == (TaskPhase.COMPLETE, TaskState.DONE)
    assert (world.run.processed, world.run.failed) == (2, 0)
    assert world.monitor.known[EXECUTION].status == "running"
    facts = world.agent.facts()
    assert (facts.state, facts.trouble) == (AgentState.READY, None)
    assert facts.description == "PROCESSING agent. Active: 0, completed: 1, failed: 0"
    world.agent.receive([stf_ready()])
    assert world.advance() is None
    assert len(world.executor.submitted) == 1


def test_a_task_that_fails_fails_its_execution_loudly(world: World, caplog: pytest.LogCaptureFixture) -> None:
    submitted(world, 1, 2)
    world.executor.add("1", 1, "failed")
    world.executor.states["501"] = TaskState.FAILED
    with caplog.at_level(logging.ERROR):
        world.advance(10)
    assert world.monitor.known[EXECUTION].status == "failed"
    assert world.monitor.statuses() == {1: "failed", 2: "failed"}
    reason = world.monitor.row(2).metadata["panda_poll_reason"]
    assert reason == "no PanDA job found before task became failed"
    assert f"execution {EXECUTION} has failed" in caplog.text
    assert "task 501 is failed" in (world.agent.facts().trouble or "")


def test_files_that_come_after_their_task_failed(world: World) -> None:
    submitted(world, 1)
    world.executor.states["501"] = TaskState.FAILED
    world.advance(10)
    assert world.monitor.statuses() == {1: "failed"}
    assert world.run.phase is TaskPhase.COMPLETE
    for sequence in (2, 3):
        world.agent.receive([stf_gen(sequence)])
        # The data agent is slower than the bus.
        world.advance(5)
        world.monitor.add_files(sequence)
    world.advance(60)
    assert world.monitor.statuses() == dict.fromkeys((1, 2, 3), "failed")
    assert (world.run.phase, world.run.failed) == (TaskPhase.COMPLETE, 3)
    world.monitor.add_files(4)
    world.agent.receive([end_run(4)])
    world.new_agent()
    assert world.advance(10) == 50.0
    world.advance(50)
    assert world.monitor.statuses()[4] == "failed"
    assert len(world.executor.submitted) == 1


def test_a_task_that_did_part_of_it(world: World) -> None:
    submitted(world, 1, 2)
    world.executor.add("1", 1, "finished")
    world.executor.add("2", 2, "cancelled")
    world.executor.states["501"] = TaskState.FINISHED
    world.advance(10)
    assert world.monitor.known[EXECUTION].status == "running"
    assert world.run.phase is TaskPhase.COMPLETE
    assert "1 files processed, 1 failed" in (world.agent.facts().trouble or "")


def test_a_job_that_will_be_tried_again_decides_nothing(world: World) -> None:
    submitted(world, 1)
    world.executor.add("1", 1, "failed", retried=True)
    world.advance(10)
    assert world.monitor.statuses() == {1: "processing"}
    world.executor.states["501"] = TaskState.FINISHED
    world.advance(10)
    assert world.monitor.statuses() == {1: "failed"}


def test_another_job_for_a_file_that_failed(world: World) -> None:
    submitted(world, 1)
    world.executor.add("1", 1, "failed")
    world.advance(10)
    assert world.monitor.statuses() == {1: "failed"}
    world.executor.add("2", 1, "finished")
    world.advance(10)
    assert world.monitor.statuses() == {1: "processed"}


def test_a_file_that_is_registered_after_its_job_ended(world: World) -> None:
    submitted(world, 1)
    for sequence in (1, 2):
        world.executor.add(str(sequence), sequence, "finished")
    world.executor.states["501"] = TaskState.DONE
    assert world.advance(10) == 10.0
    assert world.run.phase is TaskPhase.SUBMITTED
    world.monitor.add_files(2)
    world.advance(10)
    assert world.monitor.statuses() == {1: "processed", 2: "processed"}
    assert world.run.phase is TaskPhase.COMPLETE


def test_a_file_that_is_never_registered(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(task_following, "_LATE", 0.0)
    submitted(world, 1)
    for sequence in (1, 2):
        world.executor.add(str(sequence), sequence, "finished")
    world.executor.states["501"] = TaskState.DONE
    world.advance(10)
    world.advance(10)
    assert world.run.phase is TaskPhase.COMPLETE
    assert "1 of its files are not registered" in caplog.text


@pytest.mark.parametrize(("end", "status"), [("finished", "processed"), ("running", "failed")])
def test_a_job_whose_end_is_told_after_that_of_its_task(
    world: World, monkeypatch: pytest.MonkeyPatch, end: str, status: str
) -> None:
    submitted(world, 1)
    world.executor.add("1", 1, "running")
    world.executor.states["501"] = TaskState.DONE
    world.advance(10)
    assert world.monitor.statuses() == {1: "processing"}
    assert world.run.phase is TaskPhase.SUBMITTED
    world.executor.add("1", 1, end)
    if end == "running":
        # Patience has an end.
        monkeypatch.setattr(task_following, "_LATE", 0.0)
    world.advance(10)
    assert world.monitor.statuses() == {1: status}
    assert world.run.phase is TaskPhase.COMPLETE


def test_files_of_others_are_left_alone(world: World) -> None:
    world.monitor.add_files(1, workflow_execution_id="other-bob-0009")
    world.monitor.add_files(2, panda_tracking_namespace="elsewhere")
    world.monitor.add_files(3, panda_tracking_namespace=NAMESPACE, workflow_execution_id=EXECUTION)
    submitted(world)
    assert world.monitor.statuses() == {1: "registered", 2: "registered", 3: "processing"}


def test_the_end_of_a_long_run_is_counted_by_the_monitor(world: World) -> None:
    """Of a run that has ended, all files at once are too many."""
    submitted(world, 1, 2, 3)
    for sequence, status in ((1, "finished"), (2, "finished"), (3, "failed")):
        world.executor.add(str(sequence), sequence, status)
    world.advance(10)
    world.executor.states["501"] = TaskState.FINISHED
    world.monitor.asked.clear()
    # What an earlier life has seen is asked for by name alone.
    world.new_agent()
    world.advance(10)
    assert (world.run.phase, world.run.processed, world.run.failed) == (TaskPhase.COMPLETE, 2, 1)
    assert None not in world.monitor.asked
    assert world.monitor.names_asked == 1


def test_names_are_not_asked_for_that_are_known(world: World) -> None:
    submitted(world, 1, 2)
    for sequence in (1, 2):
        world.executor.add(str(sequence), sequence, "finished")
    world.executor.states["501"] = TaskState.DONE
    world.advance(10)
    assert world.run.phase is TaskPhase.COMPLETE
    assert world.monitor.names_asked == 0 and None not in world.monitor.asked


def test_a_restart_in_the_middle_goes_on(world: World) -> None:
    submitted(world, 1, 2, 3)
    world.executor.add("1", 1, "finished")
    world.advance(10)
    updates = len(world.monitor.updates)
    world.new_agent().recover()
    assert world.executor.started == 1
    world.executor.add("2", 2, "finished")
    world.executor.add("3", 3, "finished")
    world.executor.states["501"] = TaskState.DONE
    world.advance(10)
    assert len(world.monitor.updates) == updates + 2
    assert (world.run.phase, world.run.processed) == (TaskPhase.COMPLETE, 3)


@pytest.mark.parametrize("known", [True, False])
def test_a_run_whose_stf_ready_was_missed(world: World, known: bool) -> None:
    """Whether messages told of the run, or only the monitor knows it."""
    if known:
        world.agent.receive([stf_gen(1)])
    else:
        world.monitor.bodies[EXECUTION] = [{"msg_type": "run_imminent", "run_id": RUN, "dataset": "special"}]
    world.agent.recover()
    world.advance()
    assert not world.executor.submitted
    world.monitor.add_files(1)
    world.agent.recover()
    world.advance()
    (task,) = world.executor.submitted
    assert task.execution_id == EXECUTION
    assert task.input.name == (f"swf.{RUN}.run" if known else "special")


def test_an_execution_that_ended_while_nobody_listened(world: World) -> None:
    ended = {"status": "completed", "start_time": world.time - timedelta(hours=1)}
    world.monitor.known[EXECUTION] = world.monitor.known[EXECUTION].model_copy(update=ended)
    world.monitor.bodies[EXECUTION] = [{"run_id": RUN}]
    world.monitor.add_files(1)
    world.agent.recover()
    world.advance()
    assert len(world.executor.submitted) == 1


def test_executions_that_are_known_are_not_looked_into(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    submitted(world, 1)
    asked: list[str] = []
    monkeypatch.setattr(world.monitor, "messages", asked.append)
    world.new_agent().recover()
    assert asked == []


def test_executions_that_are_over_are_seldom_asked_for(world: World) -> None:
    """There are more of them every day."""
    world.agent.recover()
    assert len(world.monitor.asked_executions) == 3
    world.monitor.asked_executions.clear()
    world.time += timedelta(minutes=1)
    # It ran at the last look, and nobody told of it; now it is over.
    over = {"status": "completed"}
    world.monitor.known[EXECUTION] = world.monitor.known[EXECUTION].model_copy(update=over)
    world.monitor.bodies[EXECUTION] = [{"run_id": "9" * 5000}, {"run_id": RUN}]
    world.monitor.add_files(1)
    world.agent.recover()
    assert world.monitor.asked_executions == ["running"]
    world.advance()
    assert [task.run_id for task in world.executor.submitted] == [RUN]
    world.time += timedelta(hours=2)
    world.monitor.asked_executions.clear()
    world.agent.recover()
    assert len(world.monitor.asked_executions) == 3


def test_submission_is_tried_again_with_patience(world: World) -> None:
    world.agent.receive([stf_ready()])
    world.executor.fails = TemporarilyUnavailable("PanDA is away")
    assert [world.advance(due) for due in (0, 2, 4)] == [2.0, 4.0, 8.0]
    assert "PanDA is away" in (world.agent.facts().trouble or "")
    assert (world.run.attempts, world.run.error) == (3, "PanDA is away")
    # A restart does not begin anew.
    world.new_agent()
    assert world.advance(1) == 7.0
    world.executor.fails = None
    world.advance(7)
    assert (world.run.phase, world.run.attempts, world.run.error) == (TaskPhase.SUBMITTED, 0, None)
    assert world.agent.facts().trouble is None


def test_of_many_runs_that_wait_it_names_a_few(world: World) -> None:
    world.agent.receive([stf_ready(run_id=f"{100010 + number}") for number in range(50)])
    world.executor.fails = TemporarilyUnavailable("PanDA is away")
    for _ in range(3):
        world.advance(60)
    trouble = world.agent.facts().trouble or ""
    assert trouble.count("PanDA is away") == 3
    assert trouble.endswith("47 more wait")


@pytest.mark.parametrize(
    "error",
    [InvalidMessage("no such site"), TemporarilyUnavailable("PanDA fails")],
    ids=["refused", "failing"],
)
def test_a_submission_that_does_not_work_is_given_up(tmp_path: Path, error: Exception) -> None:
    world = World(tmp_path, submissions=3)
    world.agent.receive([stf_ready()])
    world.executor.fails = error
    for _ in range(3):
        world.advance(10)
    assert world.run.phase is TaskPhase.GIVEN_UP
    assert world.monitor.known[EXECUTION].status == "failed"
    assert str(error) in (world.agent.facts().trouble or "")
    assert world.advance(100) is None
    world.executor.fails = None
    world.agent.receive([stf_ready()])
    world.advance()
    assert world.run.phase is TaskPhase.SUBMITTED


def test_a_task_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    world = World(tmp_path, poll_timeout=100.0)
    submitted(world, 1)
    world.advance(50)
    assert world.run.phase is TaskPhase.SUBMITTED
    world.advance(60)
    assert world.run.phase is TaskPhase.GIVEN_UP
    assert world.monitor.statuses() == {1: "processing"}
    world.agent.receive([stf_ready()])
    world.advance()
    assert world.run.phase is TaskPhase.SUBMITTED
    assert len(world.executor.submitted) == 1


def test_one_run_in_trouble_holds_up_no_other(world: World) -> None:
    submitted(world, 1)
    world.monitor.away = True
    world.advance(10)
    world.agent.receive([stf_ready(run_id="100011", execution_id="other-0002")])
    world.advance()
    assert [task.run_id for task in world.executor.submitted] == [RUN, "100011"]
    world.monitor.away = False
    world.executor.add("1", 1, "finished")
    world.advance(60)
    assert world.monitor.statuses() == {1: "processed"}


@pytest.mark.parametrize("call", ["submit", "status", "jobs"])
def test_an_executor_that_does_not_answer_for_one_run_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    world = World(tmp_path, patience=0.0)
    entered, opened = threading.Event(), threading.Event()
    plain = getattr(world.executor, call)

    def hang(task: TaskSpec | str, **named: Any) -> Any:
        if (task.run_id == RUN) if isinstance(task, TaskSpec) else (task == "501"):
            entered.set()
            assert opened.wait(60)
        return plain(task, **named)

    monkeypatch.setattr(world.executor, call, hang)
    other = {"run_id": "100011", "execution_id": "other-0002"}
    world.monitor.add_files(1)
    world.agent.receive([stf_ready()])
    until(lambda: world.agent.advance() is not None and entered.is_set(), 60)
    world.agent.receive([stf_ready(**other), end_run(1)])
    world.monitor.add_files(2, run="100011")

    def processing(*sequences: int) -> bool:
        world.time += timedelta(seconds=1)
        world.agent.advance()
        return all(world.monitor.statuses()[number] == "processing" for number in sequences)

    until(lambda: processing(2), 60)
    assert world.monitor.statuses()[1] == "registered"
    assert world.run.attempts == 0, "nothing has failed"
    opened.set()
    until(lambda: processing(1), 60)
    assert sorted(task.run_id for task in world.executor.submitted) == [RUN, "100011"]
    assert world.run.total_files == 1, "what was told meanwhile is kept"
    world.agent.finish(60.0)


@pytest.mark.parametrize("error", [ValueError("no number"), InvalidMessage("no such thing"), KeyError()])
def test_a_run_that_fails_as_nobody_foresaw_holds_up_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    submitted(world, 1)
    plain = world.executor.status

    def status(task_id: str) -> TaskState:
        if task_id == "501":
            raise error
        return plain(task_id)

    monkeypatch.setattr(world.executor, "status", status)
    world.agent.receive([stf_ready(run_id="100011", execution_id="other-0002")])
    world.advance(20)
    assert [task.run_id for task in world.executor.submitted] == [RUN, "100011"]
    assert (world.run.phase, world.run.error) == (TaskPhase.SUBMITTED, str(error) or "KeyError")
    monkeypatch.undo()
    world.executor.add("1", 1, "finished")
    world.advance(60)
    assert world.monitor.statuses() == {1: "processed"}


def test_an_agent_that_may_not_execute_leaves_runs_as_they_are(world: World) -> None:
    """Another one of the namespace may be at them."""
    world.agent.receive([stf_ready()])
    before = world.run
    world.executor.fails = InvalidConfiguration("another agent executes tasks here")
    with pytest.raises(InvalidConfiguration):
        world.advance()
    assert world.run == before


def test_an_execution_that_is_told_late(world: World) -> None:
    """The run was not announced, as by agents of the field."""
    world.agent.receive([stf_ready(execution_id=None)])
    world.monitor.add_files(1)
    world.advance()
    assert "workflow_execution_id" not in world.monitor.row(1).metadata
    world.agent.receive([end_run(1)])
    world.executor.add("1", 1, "finished")
    world.advance(10)
    assert world.monitor.row(1).metadata["workflow_execution_id"] == EXECUTION


def test_a_refusal_is_counted_and_told_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.monitor.add_files(1)
    world.monitor.refused = {world.monitor.row(1).stf_filename}
    submitted(world)
    world.executor.add("1", 1, "finished")
    for _ in range(5):
        world.agent.receive([stf_gen(1)])
        world.advance(10)
    assert caplog.text.count("refuses that a file") == 2, "being processed, and processed"
    assert (world.run.processed, world.agent.facts().total_stf_processed) == (0, 0)
    # It may have been a passing one.
    world.monitor.refused.clear()
    world.executor.states["501"] = TaskState.DONE
    world.advance(10)
    assert world.monitor.statuses() == {1: "processed"}
    assert world.agent.facts().total_stf_processed == 1


def test_a_change_that_the_monitor_refuses(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.monitor.add_files(1, 2)
    world.monitor.refused = {world.monitor.row(1).stf_filename}
    submitted(world)
    assert world.monitor.statuses() == {1: "registered", 2: "processing"}
    assert "refuses that a file" in caplog.text


def test_overlapping_runs_do_not_mix(world: World) -> None:
    world.monitor.add_files(1)
    world.monitor.add_files(1, run="100011")
    other = {"run_id": "100011", "execution_id": "other-0002", "dataset": "d"}
    world.agent.receive([run_imminent(), run_imminent(**other), stf_ready(), end_run(1)])
    world.agent.receive([stf_ready(run_id="100011", execution_id="other-0002")])
    world.advance()
    first, second = (world.monitor.row(1).metadata, world.monitor.row(1, "100011").metadata)
    assert (first["panda_task_id"], second["panda_task_id"]) == ("501", "502")
    assert second["workflow_execution_id"] == "other-0002"
    assert [task.input.name for task in world.executor.submitted] == [f"swf.{RUN}.run", "d"]


def test_what_it_says_of_itself(world: World) -> None:
    assert world.agent.facts().description == "PROCESSING agent. Active: 0, completed: 0, failed: 0"
    world.agent.receive([run_imminent()])
    assert world.agent.facts().description == f"PROCESSING agent. Preparing for run {RUN}"
    assert world.agent.facts().state is AgentState.READY
    world.agent.receive([StartRun(**COMMON)])
    assert world.agent.facts().description == "PROCESSING agent. Active: 0, completed: 0, failed: 0"


def test_end_run_is_kept(world: World) -> None:
    world.agent.receive([stf_gen(1), end_run(17)])
    assert (world.run.ended, world.run.total_files, world.run.phase) == (True, 17, TaskPhase.EXPECTED)
