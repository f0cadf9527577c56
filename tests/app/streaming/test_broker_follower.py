"""A run over a broker, followed by what the monitor knows."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from app.streaming import broker_follower
from app.streaming.broker_follower import BrokerFollower
from app.streaming.run_summary import RunSummary
from models.streaming.datasets import DatasetId
from models.streaming.messages import StopWorkflow
from models.streaming.monitoring import Execution, FileTally, RunState, StfFile, StfStatus
from repos.streaming.monitor_overview import Overview
from services.streaming.catalogue import Catalogue
from services.streaming.monitor import Monitor

ID = "prompt_processing-alice-0001"


@dataclass
class World:
    """A monitor and a catalogue, as far as they are asked."""

    status: str = "running"
    number: int | None = 7
    ended: bool = False
    registered: bool = True
    phase: str = "physics"
    open: bool | None = True
    bodies: list[dict[str, Any]] = field(default_factory=list)
    rows: list[StfFile] = field(default_factory=list)
    commands: list[StopWorkflow] = field(default_factory=list)

    def execution(self, execution_id: str) -> Execution | None:
        return Execution(execution_id=execution_id, status=self.status)

    def files(self, _: int | DatasetId) -> Sequence[StfFile]:
        return self.rows

    def tally_files(self, _: int) -> dict[str, FileTally]:
        counts = Counter(row.status.value for row in self.rows)
        latest = {row.status.value: row for row in self.rows}
        return {status: FileTally(count=counts[status], latest=row) for status, row in latest.items()}

    def messages(self, _: str) -> list[dict[str, Any]]:
        return self.bodies

    def run_number(self, _: str) -> int | None:
        return self.number

    def run_state(self, number: int) -> RunState:
        return RunState(run_number=number, phase=self.phase)

    def run(self, number: int) -> dict[str, Any] | None:
        if not self.registered:
            return None
        return {"run_number": number, "end_time": "2026-01-01" if self.ended else None}

    def is_open(self, _: DatasetId) -> bool | None:
        return self.open

    def add(self, *statuses: StfStatus) -> None:
        for status in statuses:
            name = f"swf.7.{len(self.rows) + 1:06d}.stf"
            metadata = {"panda_task_id": "5", "panda_tracking_agent": "processing-agent-alice-3"}
            self.rows.append(
                StfFile(stf_filename=name, file_id=uuid.uuid4(), run=1, status=status, metadata=metadata)
            )
            self.bodies.append({"msg_type": "stf_gen", "filename": name, "sender": "daq"})


@pytest.fixture
def world() -> World:
    return World()


def follower(world: World, *, catalogue: bool = True) -> BrokerFollower:
    return BrokerFollower(
        execution_id=ID,
        namespace="epic",
        expected=2,
        monitor=cast("Monitor", world),
        overview=cast("Overview", world),
        catalogue=cast("Catalogue", world) if catalogue else None,
        command=world.commands.append,
    )


def test_before_there_is_a_run(world: World) -> None:
    world.number = None
    assert follower(world).look().waiting_for == "the run"
    for world.status in ("failed", "terminated"):
        assert follower(world).look().over


def test_a_run_that_is_stopped_before_it_was_announced_is_over(world: World) -> None:
    """Else the closing of a dataset would be waited for that nobody makes."""
    one = follower(world)
    world.registered, world.open = False, None
    world.status, world.phase = "terminated", "initializing"
    assert not one.look().over  # it may have been announced a moment ago
    world.phase = "completed"
    standing = one.finish(one.look())
    assert (standing.over, standing.run_number, standing.dataset) == (True, 7, "")
    summary = RunSummary.of(standing, stopped=True)
    assert summary.faults == ()
    # One that was announced is worked on, whatever its phase.
    world.bodies.append({"msg_type": "run_imminent", "dataset": "swf.7.run"})
    assert "closing of swf.7.run" in follower(world).look().waiting_for


def test_from_its_begin_to_its_end(world: World) -> None:
    one = follower(world)
    world.add(StfStatus.PROCESSED)
    standing = one.look()
    assert (standing.generated, standing.total, standing.over) == (1, 2, False)
    world.status = "completed"
    world.add(StfStatus.PROCESSING)
    assert one.look().total is None  # the monitor has not heard of the end
    world.bodies.append({"msg_type": "end_run", "total_stf_files": 3, "sender": "daq"})
    world.add(StfStatus.REGISTERED)
    standing = one.look()
    assert (standing.generated, standing.total) == (3, 3)
    assert "closing of swf.7.run" in standing.waiting_for
    world.open = False
    assert "closing" in one.look().waiting_for  # the data agent has not said that it is done
    world.ended = True
    assert one.look().waiting_for == "2 of 3 files that are not processed"
    world.rows = [row.model_copy(update={"status": StfStatus.PROCESSED}) for row in world.rows]
    standing = one.finish(one.look())
    assert standing.over
    assert (standing.task_id, standing.task_state, standing.dataset_files) == ("5", "done", 3)
    assert standing.agents == ("daq", "processing-agent-alice-3")
    assert standing.messages == {"stf_gen": 3, "end_run": 1}


def test_of_a_long_run_a_few_files_tell(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_follower, "_SHORT", 1)
    world.add(StfStatus.PROCESSED, StfStatus.PROCESSED, StfStatus.FAILED)
    one = follower(world, catalogue=False)
    standing = one.look()
    monkeypatch.setattr(World, "files", lambda *_: pytest.fail("all of its files are asked for"))
    assert one.finish(standing).agents == ("daq", "processing-agent-alice-3")


def test_a_catalogue_that_cannot_be_asked(world: World) -> None:
    world.status, world.ended = "completed", True
    world.add(StfStatus.PROCESSED)
    world.bodies.append({"msg_type": "end_run", "total_stf_files": 1})
    standing = follower(world, catalogue=False).look()
    assert (standing.over, standing.dataset_open) == (True, None)


def test_a_stop_names_the_execution(world: World) -> None:
    follower(world).stop()
    (command,) = world.commands
    assert (command.namespace, command.execution_id) == ("epic", ID)
