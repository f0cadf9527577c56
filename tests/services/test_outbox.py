"""The outbox is drained: in order, lane by lane, whatever the brokers do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa

from models.errors import TemporarilyUnavailable
from models.events import ACKNOWLEDGED, ALERT, BUTLER_WRITER, Delivery, OutboxMessage
from models.held_messages import Selection
from models.outcomes import Result, VisitOutcome
from repos.ledger import Ledger
from repos.ledger_database import create_ledger_engine
from repos.outbox import Outbox
from repos.outbox_desk import OutboxDesk
from services import outbox as module
from services.outbox import OutboxDrain
from tests.repos.test_ledger import DAY, DEPLOYMENT, make_visit


class Broker:
    """A cluster that does as it is told."""

    def __init__(self) -> None:
        self.arrived: list[tuple[str, bytes]] = []
        self.away = False
        self.refuses: set[bytes] = set()
        self.missing: set[str] = set()
        self.closed = False

    def send(self, messages: Sequence[OutboxMessage], *, waiting: Callable[[], object]) -> list[Delivery]:
        if self.away:
            raise TemporarilyUnavailable("the broker is away")
        waiting()
        deliveries = []
        for message in messages:
            if message.topic in self.missing:
                return [*deliveries, Delivery(failed="no such topic")]
            if message.payload in self.refuses:
                deliveries.append(Delivery(refused="too large"))
                continue
            self.arrived.append((message.topic, message.payload))
            deliveries.append(ACKNOWLEDGED)
        return deliveries

    def close(self) -> None:
        self.closed = True

    def payloads(self, topic: str = "t") -> list[bytes]:
        return [payload for at, payload in self.arrived if at == topic]


def until(condition: Callable[[], object]) -> None:
    """Wait for something that takes no time."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BACK_OFF", (0.001, 0.01))


@pytest.fixture
def engine(tmp_path: Path) -> sa.Engine:
    return create_ledger_engine(f"sqlite:///{tmp_path}/ledger.sqlite3")


class House:
    """A ledger with an outbox that is drained."""

    def __init__(self, engine: sa.Engine) -> None:
        self.store = Outbox(engine, owner="me", exclusive=True)
        self.writer, self.alerts = Broker(), Broker()
        self.drain = OutboxDrain(
            store=self.store, senders={BUTLER_WRITER: self.writer, ALERT: self.alerts}, sweep=60
        )
        self.ledger = Ledger(engine, on_messages=self.drain.wake)
        self._group = 0

    def finish(self, *payloads: bytes, kind: str = BUTLER_WRITER, topic: str = "t") -> None:
        self._group += 1
        messages = [OutboxMessage(kind, topic, None, payload) for payload in payloads]
        visit = make_visit(group=f"g{self._group}")
        self.ledger.finish(visit, DEPLOYMENT, DAY, VisitOutcome(result=Result.PROCESSED), messages)


@pytest.fixture
def house(engine: sa.Engine) -> Iterator[House]:
    made = House(engine)
    yield made
    made.drain.stop(1)


def test_what_is_finished_is_sent_at_once_and_in_order(house: House) -> None:
    house.drain.start()
    for number in range(20):
        house.finish(b"%d-a" % number, b"%d-b" % number)
    # The sweep would come in a minute only.
    until(lambda: len(house.writer.arrived) == 40)
    assert house.writer.payloads() == [b"%d-%s" % (n, x) for n in range(20) for x in (b"a", b"b")]
    until(lambda: house.drain.counts()["waiting"] == {})


def test_what_earlier_processes_left_is_sent_first(house: House, engine: sa.Engine) -> None:
    house.finish(b"1", b"2")
    dead = Outbox(engine, owner="dead", exclusive=True)
    assert len(dead.lease(BUTLER_WRITER, "t", limit=1, seconds=3600)) == 1
    house.drain.start()
    until(lambda: house.writer.payloads() == [b"1", b"2"])


def test_a_cluster_that_is_away_holds_up_no_other(house: House) -> None:
    house.writer.away = True
    house.drain.start()
    house.finish(b"1")
    house.finish(b"2", kind=ALERT)
    until(lambda: house.alerts.payloads() == [b"2"])
    until(lambda: house.drain.trouble)
    assert "the broker is away" in (house.drain.trouble or "")
    until(lambda: house.drain.counts()["waiting"] == {BUTLER_WRITER: 1})
    house.writer.away = False
    until(lambda: house.writer.payloads() == [b"1"])
    until(lambda: house.drain.trouble is None)


def test_a_missing_topic_holds_up_no_other(house: House) -> None:
    house.writer.missing.add("old")
    house.drain.start()
    house.finish(b"1", b"2", topic="old")
    house.finish(b"3", topic="new")
    until(lambda: house.writer.payloads("new") == [b"3"])
    until(lambda: "no such topic" in (house.drain.trouble or ""))
    house.writer.missing.clear()
    until(lambda: house.writer.payloads("old") == [b"1", b"2"])


def test_what_is_refused_is_set_aside(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.writer.refuses.add(b"2")
    house.drain.start()
    house.finish(b"1", b"2", b"3")
    until(lambda: house.writer.payloads() == [b"1", b"3"])
    until(lambda: house.drain.counts() == {"waiting": {}, "refused": {BUTLER_WRITER: 1}})
    assert "too large" in caplog.text
    until(lambda: house.drain.trouble == "1 messages of kind butler-writer were refused and are set aside")


def test_what_is_put_back_is_sent_and_complained_of_no_more(house: House, engine: sa.Engine) -> None:
    house.writer.refuses.add(b"2")
    house.drain = OutboxDrain(store=house.store, senders={BUTLER_WRITER: house.writer}, sweep=0.05)
    house.finish(b"1", b"2", b"3")
    house.drain.start()
    until(lambda: "refused" in (house.drain.trouble or ""))
    house.writer.refuses.clear()
    # By another process, which wakes nobody.
    assert OutboxDesk(engine).requeue(Selection()) == 1
    until(lambda: house.writer.payloads() == [b"1", b"3", b"2"])
    until(lambda: house.drain.trouble is None)


def test_what_was_refused_long_ago_is_still_said(house: House) -> None:
    house.finish(b"1")
    house.store.refuse(house.store.pending()[0].id, "too large")
    house.drain.start()
    until(lambda: "1 messages of kind butler-writer were refused" in (house.drain.trouble or ""))


def test_messages_that_nobody_sends_stay(engine: sa.Engine, caplog: pytest.LogCaptureFixture) -> None:
    house = House(engine)
    house.drain = OutboxDrain(store=house.store, senders={})
    house.finish(b"1")
    house.drain.start()
    until(lambda: house.drain.trouble)
    assert "butler-writer" in (house.drain.trouble or "")
    house.drain.stop(1)
    assert house.store.count_pending() == {BUTLER_WRITER: 1}


def test_the_end_waits_for_the_last_messages(house: House) -> None:
    house.drain.start()
    for number in range(50):
        house.finish(b"%d" % number)
    house.drain.stop(20)
    assert len(house.writer.arrived) == 50
    assert house.writer.closed and house.alerts.closed
    assert house.drain.counts()["waiting"] == {}


def test_the_end_does_not_wait_for_ever(house: House) -> None:
    house.writer.away = True
    house.drain.start()
    house.finish(b"1")
    until(lambda: house.drain.trouble)
    house.drain.stop(0.2)
    assert house.writer.closed
    assert house.store.count_pending() == {BUTLER_WRITER: 1}


def test_what_is_out_of_time_takes_no_messages(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are for whoever has time, from the moment that `stop` is over."""
    trying = threading.Event()
    let_go = threading.Event()

    def hang(messages: Sequence[OutboxMessage], *, waiting: Callable[[], object]) -> list[Delivery]:
        trying.set()
        assert let_go.wait(120)
        raise TemporarilyUnavailable("the broker is away")

    monkeypatch.setattr(house.writer, "send", hang)
    house.drain.start()
    house.finish(b"1")
    assert trying.wait(120)
    house.drain.stop(0.0)
    taken: list[object] = []
    monkeypatch.setattr(house.store, "lease", lambda *a, **k: taken.append(a) or [])
    let_go.set()
    lanes = house.drain._lanes.values()
    until(lambda: lanes and not any(lane.thread.is_alive() for lane in lanes))
    assert taken == []
    assert house.store.lanes() == [(BUTLER_WRITER, "t")]


def test_a_database_that_is_away(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    away = threading.Event()
    away.set()
    lanes, lease = house.store.lanes, house.store.lease

    def fail_or(action: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            if away.is_set():
                raise TemporarilyUnavailable("the ledger's database: gone")
            return action(*arguments, **named)

        return call

    monkeypatch.setattr(house.store, "lanes", fail_or(lanes))
    monkeypatch.setattr(house.store, "lease", fail_or(lease))
    house.finish(b"1")
    house.drain.start()
    until(lambda: "gone" in (house.drain.trouble or ""))
    away.clear()
    until(lambda: house.writer.payloads() == [b"1"])
    until(lambda: house.drain.trouble is None)


@pytest.mark.parametrize("part", ["acknowledge", "release"])
def test_a_database_that_is_away_when_a_message_has_arrived(
    house: House, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    action = getattr(house.store, part)
    fails = iter([True, True])

    def fail_or_do(ids: list[int]) -> None:
        if ids and next(fails, False):
            raise TemporarilyUnavailable("the ledger's database: gone")
        action(ids)

    monkeypatch.setattr(house.store, part, fail_or_do)
    if part == "release":
        # The second of three does not arrive; nobody is to overtake it.
        send, failed = house.writer.send, iter([True])

        def send_first(messages: Sequence[OutboxMessage], *, waiting: Callable[[], object]) -> list[Delivery]:
            if next(failed, False):
                return [*send(messages[:1], waiting=waiting), Delivery(failed="gone")]
            return send(messages, waiting=waiting)

        monkeypatch.setattr(house.writer, "send", send_first)
    house.finish(b"1", b"2", b"3")
    house.drain.start()
    until(lambda: b"1" in house.writer.payloads())
    house.finish(b"4")
    until(lambda: house.store.count_pending() == {})
    assert house.writer.payloads() == [b"1", b"2", b"3", b"4"]


def test_a_lease_that_cannot_be_renewed_repeats_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def renew(_ids: object, *, seconds: float) -> None:
        raise TemporarilyUnavailable("the ledger's database: gone")

    send = house.writer.send

    def send_slowly(messages: Sequence[OutboxMessage], *, waiting: Callable[[], object]) -> list[Delivery]:
        deliveries = send(messages, waiting=lambda: None)
        waiting()
        return deliveries

    monkeypatch.setattr(module, "_RENEW", -1.0)
    monkeypatch.setattr(house.store, "renew", renew)
    monkeypatch.setattr(house.writer, "send", send_slowly)
    house.finish(b"1", b"2")
    house.drain.start()
    until(lambda: house.store.count_pending() == {})
    assert house.writer.payloads() == [b"1", b"2"]


@pytest.mark.parametrize("part", ["send", "lanes"])
def test_an_error_that_nobody_expects_ends_no_thread(
    house: House, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    of = house.writer if part == "send" else house.store
    action = getattr(of, part)
    fails = iter([True] * 20)

    def fail_or_do(*arguments: object, **named: object) -> object:
        if next(fails, False):
            time.sleep(0.01)
            raise RuntimeError("what nobody expects")
        return action(*arguments, **named)

    monkeypatch.setattr(of, part, fail_or_do)
    house.finish(b"1")
    house.drain.start()
    until(lambda: "what nobody expects" in (house.drain.trouble or ""))
    until(lambda: house.writer.payloads() == [b"1"])
    until(lambda: house.drain.trouble is None)


def test_a_lane_told_to_end_just_as_it_begins_to_look(house: House) -> None:
    class Ready(threading.Event):
        def clear(self) -> None:
            lane.end()
            super().clear()

    lane = module._Lane(house.drain, house.store, house.writer, BUTLER_WRITER, "t")
    lane._ready = Ready()
    lane.thread.start()
    lane.notify()
    lane.thread.join(60)
    assert not lane.thread.is_alive()


def test_leases(engine: sa.Engine) -> None:
    house = House(engine)
    house.finish(*(b"%d" % n for n in range(4)))
    one, other = Outbox(engine, owner="one"), Outbox(engine, owner="other")
    mine = one.lease(BUTLER_WRITER, "t", limit=3, seconds=60)
    assert [m.message.payload for m in mine] == [b"0", b"1", b"2"]
    assert [m.message.payload for m in other.lease(BUTLER_WRITER, "t", limit=9, seconds=60)] == [b"3"]
    assert one.lanes() == other.lanes() == []
    one.release([mine[1].id])
    assert other.lanes() == [(BUTLER_WRITER, "t")]
    # A lease that is over gives no right to another's rows.
    one.renew([mine[0].id], seconds=-1)
    taken = other.lease(BUTLER_WRITER, "t", limit=9, seconds=60)
    assert [m.message.payload for m in taken] == [b"0", b"1"]
    one.release([m.id for m in taken])
    assert one.lanes() == []
    one.acknowledge([m.id for m in mine])
    assert one.count_pending() == {BUTLER_WRITER: 1}
