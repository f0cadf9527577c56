"""A catalogue that does not answer for one run, and what happens meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from models.streaming.data_runs import FileState
from models.streaming.datasets import CatalogueFile, DatasetId
from services.streaming.data_failures import Failures
from tests.repos.streaming.executing import until
from tests.services.streaming.data_world import EXECUTION, Clock, DataWorld

HUNG, OTHER = "102363", "102364"


class Gate:
    """Keeps a catalogue from answering."""

    def __init__(self, world: DataWorld, what: str) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()
        self._what = what
        world.catalogue.hangs = self

    def __call__(self, what: str, dataset: str) -> None:
        if (what, dataset) == (self._what, f"swf.{HUNG}.run"):
            self.entered.set()
            assert self.open.wait(60)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[DataWorld]:
    world = DataWorld(tmp_path, patience=0.0)
    yield world
    world.agent.finish(60.0)


def until_done(world: DataWorld, run: str) -> None:
    def done() -> bool:
        world.agent.advance()
        return world.run(run).finished is not None

    until(done, 60)


@pytest.mark.parametrize("what", ["create_dataset", "add_files", "close_dataset"])
def test_other_runs_go_on(world: DataWorld, what: str) -> None:
    gate = Gate(world, what)
    world.agent.receive([*world.announce(HUNG, 3), *world.announce(OTHER, 3)])
    until_done(world, OTHER)
    assert world.run(OTHER).complete
    until(lambda: world.agent.advance() is not None and gate.entered.is_set(), 60)
    assert world.run(HUNG).closed is None
    # Nobody is blamed for it, and nobody has to wait for it.
    assert world.agent.facts().trouble is None
    gate.open.set()
    until_done(world, HUNG)
    for run in (HUNG, OTHER):
        assert world.run(run).complete
        assert len(world.dataset(run)) == 3
    assert [message.run_id for message in world.outbox()] in ([HUNG, OTHER], [OTHER, HUNG])  # type: ignore[attr-defined]
    assert sorted(world.catalogue.closings) == [f"swf.{run}.run" for run in (HUNG, OTHER)]


def test_messages_that_come_meanwhile_are_kept(world: DataWorld) -> None:
    """What the run was when the catalogue was asked does not come back."""
    gate = Gate(world, "add_files")
    *messages, end = world.announce(HUNG, 4)
    world.agent.receive(messages[:-1])
    until(lambda: world.agent.advance() is not None and gate.entered.is_set(), 60)
    world.agent.receive([messages[-1], end])
    world.agent.advance()
    gate.open.set()

    def done() -> bool:
        # Nothing else would have it look again before long.
        due = world.agent.advance()
        if world.run(HUNG).finished is not None:
            return True
        assert due is not None and due <= 1.0
        return False

    until(done, 60)
    run = world.run(HUNG)
    assert (run.complete, run.total, len(world.dataset(HUNG))) == (True, 4, 4)


def test_run_imminent_with_another_name_comes_while_files_are_taken(world: DataWorld) -> None:
    gate = Gate(world, "add_files")
    _, *messages = world.announce(HUNG, 2)
    world.container.rename(world.elsewhere)
    world.agent.receive(messages[:-1])
    world.clock.pass_(world.limits.courtesy)
    until(lambda: world.agent.advance() is not None and gate.entered.is_set(), 60)
    world.agent.receive([world.imminent(HUNG, dataset="another.run"), messages[-1]])
    gate.open.set()
    until_done(world, HUNG)
    run = world.run(HUNG)
    assert (run.complete, run.dataset) == (True, f"swf.{HUNG}.run")
    assert "the files are in" in (run.note or "")


def test_a_file_that_comes_while_its_dataset_is_being_closed(world: DataWorld) -> None:
    gate = Gate(world, "close_dataset")
    world.agent.receive(world.announce(HUNG, 1))
    until(lambda: world.agent.advance() is not None and gate.entered.is_set(), 60)
    world.write(HUNG, 2)
    world.agent.receive([world.stf_gen(HUNG, 2)])
    world.agent.advance()
    gate.open.set()
    until_done(world, HUNG)
    first, second = (f"swf.{HUNG}.{number:06d}.stf" for number in (1, 2))
    assert world.states(HUNG) == {first: FileState.REGISTERED, second: FileState.LATE}
    assert world.dataset(HUNG) == [first]
    assert second in (world.run(HUNG).note or "")


def test_a_last_look_that_takes_long(tmp_path: Path) -> None:
    """What it finds gets in, though it is come back for again and again."""
    world = DataWorld(tmp_path)
    messages = world.announce(HUNG, 3)
    place = tmp_path / "container" / f"swf.{HUNG}.run" / f"swf.{HUNG}.000002.stf"
    hidden = place.rename(tmp_path / "aside")
    world.agent.receive(messages)
    world.work()
    deadline = world.clock.now + timedelta(seconds=world.limits.deadline)
    while (world.store.next_due(HUNG) or deadline) <= deadline:
        world.pass_time(1.0)
    # It would not be looked for before the deadline.
    assert world.states(HUNG)[place.name] is FileState.ANNOUNCED and world.clock.now < deadline
    world.limits = replace(world.limits, patience=0.0)
    world.restart()
    gate = Gate(world, "add_files")
    hidden.rename(place)
    world.clock.now = deadline
    until(lambda: world.agent.advance() is not None and gate.entered.is_set(), 60)
    for _ in range(3):
        world.agent.advance()
    gate.open.set()
    until_done(world, HUNG)
    assert world.run(HUNG).complete
    assert len(world.dataset(HUNG)) == 3
    assert world.catalogue.closings == [f"swf.{HUNG}.run"]
    world.agent.finish(60.0)


def test_what_the_catalogue_has_is_no_longer_waited_for(world: DataWorld) -> None:
    """A look that found nothing was begun before it was compared."""
    imminent, _, generated, end = world.announce(HUNG, 1)
    name = f"swf.{HUNG}.000001.stf"
    place = world.container / f"swf.{HUNG}.run" / name
    world.agent.receive([imminent])
    until(lambda: world.agent.advance() is None and world.run(HUNG).dataset_created, 60)
    there = CatalogueFile(name=name, path=place, size_bytes=1, adler32="00010001", guid="1")
    world.catalogue.add_files(DatasetId(world.run(HUNG).scope, f"swf.{HUNG}.run"), [there])
    place.unlink()
    world.agent.receive([generated, end])
    world.agent.advance()
    until(lambda: not world.agent._calls.is_busy(HUNG), 60)
    for _ in range(2):
        world.agent.recover()
        until(lambda: not world.agent._calls.is_busy(f"compare {HUNG}"), 60)

    def done() -> bool:
        world.agent.advance()
        world.agent.recover()
        return world.run(HUNG).finished is not None

    until(done, 60)
    assert world.states(HUNG) == {name: FileState.REGISTERED}


def test_what_nobody_comes_back_for_is_dropped(world: DataWorld) -> None:
    gate = threading.Event()

    def files(*_: Any, **__: Any) -> list[CatalogueFile]:
        assert gate.wait(60)
        return []

    world.catalogue.files = files  # type: ignore[method-assign]
    imminent, *messages = world.announce(HUNG, 1)
    world.agent.receive([imminent])
    until(lambda: world.agent.advance() is None and world.run(HUNG).dataset_created, 60)
    world.agent.recover()
    assert world.agent._calls.is_busy(f"compare {HUNG}")
    world.agent.receive(messages)
    until_done(world, HUNG)
    world.agent.recover()
    assert world.agent._calls.what(f"compare {HUNG}") is None
    gate.set()


def test_an_end_that_is_told_with_another_run_is_kept(tmp_path: Path) -> None:
    world = DataWorld(tmp_path)
    imminent, *messages = world.announce(HUNG, 1)
    *others, end = world.announce(OTHER, 2)
    # No answer of the monitor is about one run alone.
    world.monitor.recorded[EXECUTION] = [imminent.to_body(), end.to_body()]
    world.agent.receive(messages)
    world.clock.pass_(world.limits.courtesy)
    world.agent.receive(others)
    world.work()
    assert world.run(HUNG).complete and world.run(OTHER).complete


def test_an_agent_that_ends_keeps_what_was_under_way(world: DataWorld) -> None:
    gate = Gate(world, "add_files")
    world.agent.receive(world.announce(HUNG, 2))
    until(lambda: world.agent.advance() is not None and gate.entered.is_set(), 60)
    ending = threading.Thread(target=world.agent.finish, args=(60.0,))
    ending.start()
    gate.open.set()
    ending.join(60)
    assert FileState.ANNOUNCED not in world.states(HUNG).values()


def test_those_that_wait_for_one_that_is_away_wait_for_who_asks() -> None:
    clock = Clock()
    asking = {"a"}
    failures = Failures(is_asking=asking.__contains__)
    for run in ("a", "b"):
        failures.add(run, "catalogue", "500", clock.now, refused=False)
    clock.pass_(1000.0)
    assert failures.wait("b", "catalogue", clock.now) > 0
    assert failures.wait("new", "catalogue", clock.now) == 0
    asking.clear()
    assert failures.wait("b", "catalogue", clock.now) == 0
