"""The data agent is killed before and after everything that it asks of others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from models.streaming.data_runs import FileState
from tests.services.streaming.data_world import DataWorld

RUN = "102363"
NAMES = [f"swf.{RUN}.{number:06d}.stf" for number in (1, 2, 3)]


#: What changes something; a death before what only looks is one after these.
CHANGES = {
    "save",
    "create_dataset",
    "add_files",
    "close_dataset",
    "open_run",
    "register_files",
    "close_run",
}


class Killed(BaseException):
    """Nothing after this is done."""


class Reaper:
    """Kills at the nth moment: before or after one of the calls."""

    def __init__(self, moment: int) -> None:
        self.left = moment
        self.killed: str | None = None

    def passes(self, what: str) -> None:
        self.left -= 1
        if self.left == 0:
            self.killed = what
            raise Killed

    def watch(self, thing: Any) -> Any:
        reaper = self

        class Watched:
            def __getattr__(self, name: str) -> Any:
                found = getattr(thing, name)
                if name not in CHANGES:
                    return found

                def call(*arguments: Any, **named: Any) -> Any:
                    reaper.passes(f"before {name}")
                    answer = found(*arguments, **named)
                    reaper.passes(f"after {name}")
                    return answer

                return call

        return Watched()


def life(world: DataWorld, moment: int) -> Iterator[str | None]:
    """Live until killed; yield at what, None if nothing was left to do."""
    reaper = Reaper(moment)
    store, catalogue, monitor = world.store, world.catalogue, world.monitor
    world.store, world.catalogue, world.monitor = map(reaper.watch, (store, catalogue, monitor))
    try:
        steps: list[Callable[[], Any]] = [world.restart().recover, world.work]
        batches = [world.messages[:3], world.messages[3:], world.messages]
        for batch in batches:
            steps += [lambda batch=batch: world.agent.receive(batch), world.work]  # type: ignore[misc]
        for step in steps:
            step()
    except Killed:
        yield reaper.killed
    else:
        yield None
    finally:
        world.store, world.catalogue, world.monitor = store, catalogue, monitor


def test_killed_at_every_moment(tmp_path: Path) -> None:
    killed = []
    for moment in range(1, 1000):
        directory = tmp_path / str(moment)
        directory.mkdir()
        world = DataWorld(directory)
        world.messages = world.announce(RUN, 3)
        [what] = life(world, moment)
        killed.append(what)
        # The messages of the journal come again.
        world.restart().recover()
        world.agent.receive(world.messages)
        world.work()
        run = world.run(RUN)
        assert run.complete and run.finished, what
        assert set(world.states(RUN).values()) == {FileState.REGISTERED}, what
        assert world.dataset(RUN) == NAMES, what
        assert sorted(world.monitor.registered) == NAMES, what
        assert len(world.outbox()) == 1, what
        world.engine.dispose()
        if what is None:
            break
    else:
        pytest.fail("it never ends")
    assert {"after add_files", "after register_files", "after close_dataset", "before save"} <= set(killed)
