"""Whatever comes in whatever order, and whoever fails or dies meanwhile: each
file is once in the dataset of its run, one stf_ready goes out for each run, and
a dataset is closed when it is complete or its time is over.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from models.streaming.data_runs import FileState
from models.streaming.datasets import DatasetId
from models.streaming.messages import Message, StfReady
from models.streaming.names import stf_filename
from repos.ledger_database import writing
from repos.streaming.tables import OUTBOX
from tests.services.streaming.data_world import DataWorld
from tests.services.streaming.test_data_agent_killed import Killed, Reaper

RUNS = ("102363", "102364", "102365")
MOST = 4
DEADLINE = 60.0
IN = {FileState.CATALOGUED, FileState.REGISTERED}
LOST = {FileState.MISSING, FileState.LATE}

some_runs = st.sets(st.sampled_from(RUNS))
run_ids = st.sampled_from(RUNS)


class DataAgentLives(RuleBasedStateMachine):
    """Three runs, and an agent that lives through everything."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="data-agent-"))
        self.world = DataWorld(self.directory, deadline=DEADLINE, batch=2)
        self.totals: dict[str, int] = {}
        self.messages: dict[str, list[Message]] = {}
        self.written: set[tuple[str, int]] = set()
        self.sent: Counter[str] = Counter()

    @initialize(totals=st.tuples(*[st.integers(1, MOST)] * len(RUNS)))
    def begin(self, totals: tuple[int, ...]) -> None:
        self.totals = dict(zip(RUNS, totals, strict=True))
        for run, total in self.totals.items():
            gens = [self.world.stf_gen(run, sequence) for sequence in range(1, total + 1)]
            self.messages[run] = [
                self.world.imminent(run),
                self.world.start(run),
                *gens,
                self.world.end(run, total),
            ]

    @rule(run=run_ids, data=st.data())
    def messages_come(self, run: str, data: st.DataObject) -> None:
        """Some of a run, in any order, and again."""
        self.world.agent.receive(data.draw(st.lists(st.sampled_from(self.messages[run]), min_size=1)))

    @rule(run=run_ids)
    def its_end_comes_first(self, run: str) -> None:
        first, *_, last = self.messages[run]
        self.world.agent.receive([first, last])

    @rule(runs=some_runs)
    def all_messages_come(self, runs: set[str]) -> None:
        """Of several runs, one of each in turn."""
        left = [list(self.messages[run]) for run in sorted(runs)]
        while any(left):
            for messages in filter(None, left):
                self.world.agent.receive([messages.pop(0)])

    @rule(run=run_ids, sequence=st.integers(1, MOST))
    def a_file_is_written(self, run: str, sequence: int) -> None:
        if sequence <= self.totals[run]:
            self.write(run, sequence)

    @rule(runs=some_runs)
    def all_files_are_written(self, runs: set[str]) -> None:
        for run in sorted(runs):
            for sequence in range(1, self.totals[run] + 1):
                self.write(run, sequence)

    @rule()
    def it_works(self) -> None:
        self.world.work()

    @rule(seconds=st.sampled_from([0.3, 4.0, 31.0, DEADLINE]))
    def time_passes(self, seconds: float) -> None:
        self.world.clock.pass_(seconds)
        self.world.work()

    @rule()
    def it_looks_for_what_it_missed(self) -> None:
        self.world.agent.recover()

    @rule(moment=st.integers(1, 12), recovers=st.booleans())
    def it_is_killed(self, moment: int, recovers: bool) -> None:
        """While it works, before or after something that lasts."""
        world, reaper = self.world, Reaper(moment)
        kept = world.store, world.catalogue, world.monitor
        world.store, world.catalogue, world.monitor = map(reaper.watch, kept)
        steps: list[Callable[[], object]] = [world.restart().recover] if recovers else [world.restart]
        try:
            for step in (*steps, world.work):
                step()
        except Killed:
            pass
        finally:
            world.store, world.catalogue, world.monitor = kept
            world.restart()

    @rule(runs=some_runs)
    def the_catalogue_fails(self, runs: set[str]) -> None:
        """For some runs, and no more for the others."""
        self.world.catalogue.away = {f"swf.{run}.run" for run in runs}

    @rule(away=st.booleans())
    def the_monitor_goes_or_comes(self, away: bool) -> None:
        self.world.monitor.away = away

    @precondition(lambda self: self.world.outbox())
    @rule(dies=st.booleans())
    def the_outbox_is_sent(self, dies: bool) -> None:
        """What is sent comes back; the sender may die before its row is gone."""
        waiting = [message for message in self.world.outbox() if isinstance(message, StfReady)]
        self.sent.update(message.run_id for message in waiting)
        if dies:
            self.world.restart()
        else:
            with writing(self.world.engine) as connection:
                connection.execute(sa.delete(OUTBOX))
        # What waited at the bus is heard before anything is sent.
        self.world.agent.receive(waiting)

    @invariant()
    def each_file_is_once_in_the_dataset_of_its_run(self) -> None:
        for run, total in self.totals.items():
            inside = self.world.dataset(run)
            assert len(set(inside)) == len(inside)
            assert set(inside) <= {stf_filename(run, number) for number in range(1, total + 1)}

    @invariant()
    def stf_ready_goes_out_once_and_after_a_file(self) -> None:
        ready = self.sent + Counter(message.run_id for message in self.waiting())
        assert set(ready.values()) <= {1}, ready
        for run in ready:
            assert any(row.run == int(run) for row in self.world.monitor.registered.values())

    @invariant()
    def a_dataset_is_closed_in_time(self) -> None:
        for run_id, run in self.world.store.runs(RUNS).items():
            if run.closed is None:
                continue
            assert self.world.catalogue.is_open(DatasetId(run.scope, run.dataset)) is False
            states = self.world.states(run_id).values()
            assert FileState.ANNOUNCED not in states
            assert run.ended is not None
            have = sum(state in IN for state in states)
            assert have == self.totals[run_id] or (run.closed - run.ended).total_seconds() >= DEADLINE, (
                "it was closed too early"
            )

    def teardown(self) -> None:
        try:
            if self.messages:
                self.end_well()
        finally:
            self.world.engine.dispose()
            shutil.rmtree(self.directory)

    def end_well(self) -> None:
        """All that failed works again, and all is said once more."""
        world = self.world
        world.catalogue.away, world.monitor.away = (), False
        for run in RUNS:
            for sequence in range(1, self.totals[run] + 1):
                self.write(run, sequence)
            world.agent.receive(self.messages[run])
        world.restart().recover()
        world.pass_time(3 * DEADLINE, step=20.0)
        for run, total in self.totals.items():
            names = {stf_filename(run, number) for number in range(1, total + 1)}
            states = world.states(run)
            there = {name for name, state in states.items() if state is FileState.REGISTERED}
            ended = world.run(run)
            assert ended.finished is not None
            assert set(states) == names
            assert {states[name] for name in names - there} <= LOST
            assert set(world.dataset(run)) == there
            assert {name for name in world.monitor.registered if name in names} == there
            assert ended.complete is (there == names)
            assert world.monitor.closed.count(int(run)) >= 1
            waiting = [message.run_id for message in self.waiting()]
            assert self.sent[run] + waiting.count(run) == bool(there)
        self.each_file_is_once_in_the_dataset_of_its_run()
        self.a_dataset_is_closed_in_time()

    def write(self, run: str, sequence: int) -> None:
        if (run, sequence) not in self.written:
            self.world.write(run, sequence)
            self.written.add((run, sequence))

    def waiting(self) -> list[StfReady]:
        return [message for message in self.world.outbox() if isinstance(message, StfReady)]


TestDataAgentLives = DataAgentLives.TestCase
TestDataAgentLives.settings = settings(
    max_examples=8, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
