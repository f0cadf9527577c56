"""One worker at a stream, step by step; then any number of them, with faults."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.stream.driver import StreamDriver
from models.errors import InvalidConfiguration, TemporarilyUnavailable
from models.outcomes import Result
from tests.app.stream.fakes import CLAIM_IDLE, Books, FakeStream, FakeVisits, Killed, Server, make_driver


class Bench:
    """A server, a ledger, and workers that come one after another."""

    def __init__(self) -> None:
        self.server = Server()
        self.books = Books()
        self.malformed: list[str] = []
        self.driver: StreamDriver
        self.stream: FakeStream
        self._names: Iterator[str] = (f"worker-{n}" for n in itertools.count(1))

    def work(
        self,
        *script: str,
        faults: tuple[str, ...] = (),
        events: dict[str, Callable[[], None]] | None = None,
        **options: Any,
    ) -> None:
        """Have a worker work until it ends or is killed."""
        self.stream = FakeStream(self.server, next(self._names), iter(faults))
        visits = FakeVisits(self.books, iter(script), events or {})
        options.setdefault("malformed", self.malformed.append)
        self.driver = make_driver(self.server, self.stream, visits, **options)
        self.driver.run()

    def deliveries(self) -> list[int]:
        return [pending.deliveries for pending in self.server.pending.values()]


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize("result", [Result.PROCESSED, Result.FAILED, Result.NOT_RETRIABLE])
def test_every_result_is_acknowledged(bench: Bench, result: Result) -> None:
    entry_id = bench.server.add_visit("g")
    bench.work(result.value)
    assert bench.server.acknowledged == [entry_id]
    assert bench.books.results == {"g": result}
    assert bench.server.consumers == set()
    assert list(bench.server.entries) == [entry_id]


@pytest.mark.parametrize("deed", ["interrupted", "no-slot"])
def test_a_retriable_one_stays_for_one_more_delivery(bench: Bench, deed: str) -> None:
    bench.server.add_visit("g")
    bench.work(deed)
    assert bench.deliveries() == [1]
    assert bench.server.consumers == {"worker-1"}
    bench.work()
    assert bench.deliveries() == [1]
    bench.server.now += CLAIM_IDLE
    bench.work()
    assert bench.deliveries() == []
    assert bench.books.results == {"g": Result.PROCESSED}


def test_twice_without_a_result_is_failed(bench: Bench) -> None:
    bench.server.add_visit("g")
    bench.work("interrupted", "interrupted", listen_timeout=2 * CLAIM_IDLE)
    assert bench.deliveries() == []
    assert bench.books.results == {"g": Result.FAILED}
    assert bench.books.runs == {"g": 2}


def test_twice_killed_is_failed_without_a_third_run(bench: Bench) -> None:
    bench.server.add_visit("g")
    for _ in range(2):
        with pytest.raises(Killed):
            bench.work("killed")
        bench.server.now += CLAIM_IDLE
    bench.work()
    assert bench.books.results == {"g": Result.FAILED}
    assert bench.books.runs == {"g": 2}
    assert bench.deliveries() == []


def test_what_is_given_up_waits_for_the_ledger(bench: Bench) -> None:
    bench.server.add_visit("g")
    bench.books.away = True
    for script in (["interrupted"], ["interrupted"], []):
        bench.work(*script)
        bench.server.now += CLAIM_IDLE
    assert bench.books.results == {}
    bench.books.away = False
    bench.work()
    assert bench.books.results == {"g": Result.FAILED}
    assert bench.books.runs == {"g": 2}


def test_what_is_not_ours_is_acknowledged_at_once(bench: Bench) -> None:
    stale = bench.server.add_visit("stale")
    malformed = bench.server.add({b"groupId": b"\xff", b"instrument": b"x"})
    good = bench.server.add_visit("good")
    bench.work("stale")
    assert bench.server.acknowledged == [stale, malformed, good]
    assert len(bench.malformed) == 1
    assert "detector: Field required" in bench.malformed[0]


def test_pending_ones_come_before_new_ones(bench: Bench) -> None:
    old = bench.server.add_visit("old")
    with pytest.raises(Killed):
        bench.work("killed")
    bench.server.now += CLAIM_IDLE
    new = bench.server.add_visit("new")
    bench.work()
    assert bench.server.acknowledged == [old, new]


def test_pending_ones_are_looked_for_while_waiting(bench: Bench) -> None:
    bench.server.add_visit("g")
    with pytest.raises(Killed):
        bench.work("killed")
    bench.work(listen_timeout=1.5 * CLAIM_IDLE)
    assert bench.books.results == {"g": Result.PROCESSED}


def test_a_duplicate_of_a_running_visit_waits_for_its_end(bench: Bench) -> None:
    bench.server.add_visit("same")
    bench.server.add_visit("same")
    bench.work("another", events={"another": lambda: Bench.work(_other(bench))})
    # The other worker was told, and has put it back as if it never had it.
    assert bench.deliveries() == [0]
    bench.server.now += CLAIM_IDLE
    bench.work()
    assert bench.books.runs == {"same": 1}
    assert bench.deliveries() == []


def test_a_stalled_worker_that_comes_back_brings_its_result(bench: Bench) -> None:
    bench.server.add_visit("g")

    def stall() -> None:
        bench.server.now += CLAIM_IDLE
        _other(bench).work()

    bench.work("stalled", events={"stalled": stall})
    assert bench.books.runs == {"g": 1}
    assert bench.books.results == {"g": Result.PROCESSED}
    assert bench.deliveries() == []


def test_idle_worker_ends(bench: Bench) -> None:
    bench.server.add_visit("g")
    bench.work(listen_timeout=20.0)
    assert 20 < bench.server.now < 25


def test_time_without_redis_is_not_idle(bench: Bench) -> None:
    def ready(_: float) -> bool:
        bench.server.now += 1
        return True

    entry_id = bench.server.add_visit("g")
    bench.work(faults=("lost",) * 50, ready=ready, listen_timeout=5.0)
    assert bench.server.acknowledged == [entry_id]


def test_worker_ends_after_its_number_of_visits(bench: Bench) -> None:
    for n in range(3):
        bench.server.add_visit(f"g{n}")
    bench.work("processed", "stale", "processed", max_visits=1)
    assert len(bench.server.unread) == 2
    bench.work("stale", "processed", max_visits=1)
    assert bench.server.unread == []


def test_nothing_is_taken_without_a_slot(bench: Bench) -> None:
    def ready(seconds: float) -> bool:
        bench.server.now += seconds
        return False

    bench.server.add_visit("g")
    with pytest.raises(TemporarilyUnavailable, match="no slot"):
        bench.work(ready=ready)
    assert len(bench.server.unread) == 1


def test_a_worker_that_loses_its_slot_for_good_leaves_no_consumer(bench: Bench) -> None:
    slots = itertools.chain([True], itertools.repeat(False))

    def ready(seconds: float) -> bool:
        bench.server.now += seconds
        return next(slots)

    bench.server.add_visit("g")
    with pytest.raises(TemporarilyUnavailable, match="no slot"):
        bench.work(ready=ready)
    assert bench.books.results == {"g": Result.PROCESSED}
    assert bench.server.consumers == set()


def test_interrupted_by_the_end_of_the_worker(bench: Bench) -> None:
    bench.server.add_visit("g")
    visits = FakeVisits(bench.books, iter(["interrupted"]), {})
    driver = make_driver(bench.server, FakeStream(bench.server, "first", iter([])), visits)
    handle = visits.handle

    def interrupted(visit: Any) -> Any:
        driver.stop()
        return handle(visit)

    visits.handle = interrupted  # type: ignore[method-assign]
    driver.run()
    assert bench.deliveries() == [1]
    # Nobody has to wait until the first counts as dead.
    bench.work()
    assert bench.books.results == {"g": Result.PROCESSED}


def test_an_entry_that_comes_with_the_signal_is_not_begun(bench: Bench) -> None:
    bench.server.add_visit("g")
    stream = FakeStream(bench.server, "first", iter([]))
    driver = make_driver(bench.server, stream, FakeVisits(bench.books, iter([]), {}))
    read = stream.read

    def signalled(wait: float) -> Any:
        driver.stop()
        return read(wait)

    stream.read = signalled  # type: ignore[method-assign]
    driver.run()
    assert bench.books.runs == {}
    assert bench.deliveries() == [0]
    bench.work()
    assert bench.books.results == {"g": Result.PROCESSED}


def test_acknowledging_goes_on_until_redis_is_back(bench: Bench) -> None:
    entry_id = bench.server.add_visit("g")
    ok = ("ok",) * 4  # open, recover, take over, read
    bench.work(faults=(*ok, "lost", "lost", "unheard"))
    assert bench.server.acknowledged == [entry_id]
    assert bench.books.runs == {"g": 1}


def test_stopped_worker_leaves_the_acknowledgement_to_the_next(bench: Bench) -> None:
    bench.server.add_visit("g")
    stream = FakeStream(bench.server, "first", iter((*("ok",) * 4, "lost")))
    driver = make_driver(bench.server, stream, FakeVisits(bench.books, iter([]), {}))
    stream.before_acknowledging = driver.stop
    driver.run()
    assert bench.deliveries() == [1]
    bench.server.now += CLAIM_IDLE
    bench.work()
    assert bench.deliveries() == []
    assert bench.books.runs == {"g": 1}


def test_an_entry_whose_answer_was_lost_is_not_lost(bench: Bench) -> None:
    bench.server.add_visit("g")
    bench.work(faults=("ok", "ok", "ok", "unheard"))
    assert bench.books.results == {"g": Result.PROCESSED}
    assert bench.deliveries() == []


def test_credentials_that_are_wrong_end_the_worker(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_stream: FakeStream) -> None:
        raise InvalidConfiguration("refuses this worker")

    monkeypatch.setattr(FakeStream, "open", refuse)
    with pytest.raises(InvalidConfiguration):
        bench.work()
    with pytest.raises(InvalidConfiguration):
        bench.driver.check()


def test_a_redis_that_is_away_at_the_start_is_no_reason_to_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_stream: FakeStream) -> None:
        raise TemporarilyUnavailable("connection refused")

    bench.work()
    monkeypatch.setattr(FakeStream, "open", away)
    bench.driver.check()


def _other(bench: Bench) -> Bench:
    """Return another place for a worker at the same stream and ledger."""
    other = Bench()
    other.server, other.books = bench.server, bench.books
    other._names = iter(["other"])
    return other


#: Mostly bad ones: good ones come by themselves, at the end of a script.
DEEDS = st.sampled_from(
    ["killed", "interrupted", "no-slot", "failed", "not-retriable", "meanwhile", "stalled", "processed"]
)
FAULTS = st.lists(st.sampled_from(["ok", "ok", "lost", "unheard"]), max_size=12).map(tuple)


PAUSES = st.sampled_from([1.0, CLAIM_IDLE])


class Workers(RuleBasedStateMachine):
    """Workers come, fail and die; whatever they do, no visit is lost."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.groups: list[str] = []

    @rule()
    def announce(self) -> None:
        self.groups.append(f"g{len(self.groups)}")
        self.bench.server.add_visit(self.groups[-1])

    @precondition(lambda self: self.groups)
    @rule(data=st.data())
    def announce_again(self, data: st.DataObject) -> None:
        self.bench.server.add_visit(data.draw(st.sampled_from(self.groups)))

    @rule()
    def rubbish(self) -> None:
        self.bench.server.add({b"detector": b"seven"})

    @rule(script=st.lists(DEEDS, max_size=4), faults=FAULTS, limit=st.integers(0, 3), pause=PAUSES)
    def work(self, script: list[str], faults: tuple[str, ...], limit: int, pause: float) -> None:
        server = self.bench.server
        server.now += pause

        def meanwhile() -> None:
            owners = {entry_id: pending.consumer for entry_id, pending in server.pending.items()}
            server.held |= set(owners)
            server.now += CLAIM_IDLE
            _other(self.bench).work()
            server.held.clear()
            # Nobody takes what its owner gives signs of life for.
            assert all(server.pending[entry_id].consumer == owner for entry_id, owner in owners.items())

        def stalled() -> None:
            server.now += CLAIM_IDLE
            _other(self.bench).work()

        events = {"meanwhile": meanwhile, "stalled": stalled}
        with contextlib.suppress(Killed):
            self.bench.work(*script, faults=faults, events=events, max_visits=limit)

    @invariant()
    def acknowledged_means_known(self) -> None:
        server, books = self.bench.server, self.bench.books
        for entry_id in server.acknowledged:
            group = server.entries[entry_id].get(b"groupId")
            assert group is None or group.decode() in books.results

    @invariant()
    def nothing_runs_more_often_than_it_may(self) -> None:
        books, entries = self.bench.books, self.bench.server.entries.values()
        for group, count in [*books.fruitless.items(), *books.runs.items()]:
            announced = sum(entry.get(b"groupId") == group.encode() for entry in entries)
            assert count <= 2 * announced

    @invariant()
    def every_entry_is_somewhere(self) -> None:
        server = self.bench.server
        assert sorted([*server.unread, *server.pending, *server.acknowledged]) == sorted(server.entries)

    def teardown(self) -> None:
        for _ in range(2):
            self.bench.work()
            self.bench.server.now += CLAIM_IDLE
        self.bench.work()
        assert self.bench.server.pending == {}
        assert self.bench.server.unread == []
        assert set(self.bench.books.results) == set(self.groups)
        self.acknowledged_means_known()
        self.nothing_runs_more_often_than_it_may()


TestWorkers = Workers.TestCase
TestWorkers.settings = settings(max_examples=100, stateful_step_count=12, deadline=None)
