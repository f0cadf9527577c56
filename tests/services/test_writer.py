"""The writer's loop: every message goes in once, or aside, whatever happens."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from uuid import UUID, uuid4

import pytest

from models.batches import QueuedMessage, SetAside
from models.errors import InvalidConfiguration, InvalidMessage, Superseded, TemporarilyUnavailable
from models.events import BatchFile
from services import writer as module
from services.writer import BatchWriter


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BACK_OFF", (0.0, 0.0))


class Queue:
    """A queue in memory; one partition."""

    def __init__(self) -> None:
        self.waiting: list[QueuedMessage] = []
        self.position = 0
        self.committed = 0
        self.events: list[bytes] = []
        self.dead: list[SetAside] = []
        self.fails: list[str] = []
        self.lost = False
        self.writer: BatchWriter | None = None

    def put(self, *payloads: bytes) -> None:
        for payload in payloads:
            self.waiting.append(QueuedMessage("t", 0, len(self.waiting), None, payload))

    def open(self) -> None:
        pass

    def take(self, limit: int, *, wait: float, ends: Callable[[], bool]) -> Sequence[QueuedMessage]:
        self._fail("take")
        taken = self.waiting[self.position : self.position + limit]
        self.position += len(taken)
        if not taken:
            assert self.writer is not None
            self.writer.stop()
        return taken

    def settle(
        self, messages: Sequence[QueuedMessage], *, event: bytes | None, set_aside: Sequence[SetAside]
    ) -> bool:
        self._fail("settle")
        if self.lost:
            self.lost, self.position = False, self.committed
            return False
        self.committed = messages[-1].offset + 1
        self.dead += set_aside
        if event is not None:
            self.events.append(event)
        return True

    def hold(self, seconds: float, *, ends: Callable[[], bool]) -> bool:
        if self.fails and self.fails[0] == "hold":
            self.fails.pop(0)
            self.position = self.committed
            return False
        return True

    def lag(self) -> int | None:
        return len(self.waiting) - self.committed

    def _fail(self, what: str) -> None:
        if self.fails and self.fails[0] == what:
            self.fails.pop(0)
            raise TemporarilyUnavailable(f"Kafka is away ({what})")


class Registry:
    """A registry in memory: messages are ids, or say what is wrong."""

    def __init__(self) -> None:
        self.held: list[UUID] = []
        self.fails = 0
        self.calls = 0

    def open(self) -> None:
        pass

    def read(self, payload: bytes) -> tuple[UUID, bytes]:
        if payload == b"malformed":
            raise InvalidMessage("no JSON")
        try:
            return UUID(payload.decode()), payload
        except ValueError:
            return uuid4(), payload

    def ingest(self, outputs: Sequence[tuple[UUID, bytes]]) -> list[UUID]:
        self.calls += 1
        if self.fails:
            self.fails -= 1
            raise TemporarilyUnavailable("the database is away")
        if any(payload.startswith(b"conflict") for _, payload in outputs):
            raise InvalidMessage("another has that data id")
        ids = list(dict.fromkeys(id_ for id_, _ in outputs))
        self.held += [id_ for id_ in ids if id_ not in self.held]
        return ids


class Files:
    def __init__(self) -> None:
        self.there: dict[str, BatchFile] = {}
        self.fails = 0

    def write(self, batch: BatchFile) -> str:
        if self.fails:
            self.fails -= 1
            raise TemporarilyUnavailable("the disk is full")
        self.there[f"{batch.batch_id}.json"] = batch
        return f"{batch.batch_id}.json"

    def remove(self, name: str) -> None:
        del self.there[name]


class Observer:
    def __init__(self) -> None:
        self.batches: list[tuple[int, int]] = []
        self.kinds: list[str] = []
        self.troubles: list[str | None] = []
        self.lags: list[int] = []

    def batch(self, *, messages: int, datasets: int, seconds: float) -> None:
        self.batches.append((messages, datasets))

    def set_aside(self, kind: str) -> None:
        self.kinds.append(kind)

    def lag(self, messages: int) -> None:
        self.lags.append(messages)

    def trouble(self, reason: str | None) -> None:
        self.troubles.append(reason)


class House:
    def __init__(self, batch_size: int = 500) -> None:
        self.queue, self.registry, self.files, self.observer = Queue(), Registry(), Files(), Observer()
        self.writer = BatchWriter(
            queue=self.queue,
            registry=self.registry,
            files=self.files,
            observer=self.observer,
            batch_size=batch_size,
        )
        self.queue.writer = self.writer

    def told(self) -> list[UUID]:
        """Return the datasets in the files of the events, in order."""
        events = [json.loads(event) for event in self.queue.events]
        return [id_ for e in events for id_ in self.files.there[e["batch_file"]].datasets]


def ids(count: int) -> list[bytes]:
    return [str(uuid4()).encode() for _ in range(count)]


def test_batches() -> None:
    house = House(batch_size=4)
    sent = ids(10)
    house.queue.put(*sent)
    house.writer.run()
    assert [str(i).encode() for i in house.registry.held] == sent
    assert house.told() == house.registry.held
    assert house.observer.batches == [(4, 4), (4, 4), (2, 2)]
    assert house.queue.committed == 10 and house.observer.lags[-1] == 0
    assert set(house.files.there) == {json.loads(e)["batch_file"] for e in house.queue.events}


def test_a_repeated_dataset_is_told_once_a_batch() -> None:
    house = House()
    (one,) = ids(1)
    house.queue.put(one, one)
    house.writer.run()
    assert len(house.told()) == len(house.registry.held) == 1


@pytest.mark.parametrize("bad", [0, 1, 17, 30, 36])
@pytest.mark.parametrize("what", [b"malformed", b"conflict"])
def test_bad_messages_are_set_aside_and_the_rest_goes_in(
    bad: int, what: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    house = House()
    good = ids(36)
    house.queue.put(*good[:bad], what, *good[bad:])
    house.writer.run()
    assert [str(i).encode() for i in house.registry.held] == good
    (dead,) = house.queue.dead
    assert (dead.message.offset, dead.message.payload) == (bad, what)
    assert house.observer.kinds == [dead.kind] == [what.decode()]
    assert house.queue.committed == 37
    # The whole message is in the log, with its place.
    assert what.decode() in caplog.text and f"t[0] at {bad}" in caplog.text
    assert house.registry.calls <= 15


def test_nothing_but_bad_messages() -> None:
    house = House()
    house.queue.put(b"malformed", b"conflict 1", b"conflict 2")
    house.writer.run()
    assert [d.message.payload for d in house.queue.dead] == [b"malformed", b"conflict 1", b"conflict 2"]
    assert house.queue.events == [] and house.files.there == {}
    assert house.queue.committed == 3


def test_a_database_that_is_away_sets_nothing_aside() -> None:
    house = House()
    house.registry.fails = 5
    house.queue.put(*ids(3))
    house.writer.run()
    assert len(house.told()) == 3 and house.queue.dead == []
    assert house.observer.troubles == ["the database is away"] * 5 + [None]


def test_batch_files_are_there_before_the_event() -> None:
    house = House()
    house.files.fails = 2
    house.queue.put(*ids(3))
    house.writer.run()
    assert len(house.told()) == 3


def test_an_event_is_told_again_with_the_same_file() -> None:
    house = House()
    house.queue.fails = ["settle", "settle"]
    house.queue.put(*ids(3))
    house.writer.run()
    assert len(house.queue.events) == len(house.files.there) == 1
    assert house.registry.calls == 1


def test_a_batch_that_another_has_now() -> None:
    house = House()
    house.queue.lost = True
    house.queue.put(*ids(3))
    house.writer.run()
    # It came back, and went in again.
    assert house.registry.calls == 2
    assert len(house.queue.events) == len(house.files.there) == 1
    assert len(house.told()) == 3


def test_a_batch_that_another_takes_while_the_database_is_away() -> None:
    house = House()
    house.registry.fails = 1
    house.queue.fails = ["hold"]
    house.queue.put(*ids(3))
    house.writer.run()
    assert len(house.told()) == 3
    assert house.observer.troubles[-1] is None


def test_kafka_away_while_idle() -> None:
    house = House()
    house.queue.fails = ["take", "take"]
    house.queue.put(*ids(1))
    house.writer.run()
    assert len(house.told()) == 1
    assert house.observer.troubles[-1] is None


def test_told_to_end_while_the_database_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House()
    house.registry.fails = 10**9
    house.queue.put(*ids(3))

    def hold(seconds: float, *, ends: Callable[[], bool]) -> bool:
        house.writer.stop()
        return True

    monkeypatch.setattr(house.queue, "hold", hold)
    house.writer.run()
    # Whoever comes next finds them.
    assert house.queue.committed == 0 and house.queue.events == []


@pytest.mark.parametrize("error", [Superseded("another"), InvalidConfiguration("no such repo")])
def test_what_cannot_be_waited_for_ends_it(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House()
    house.queue.put(*ids(3))

    def settle(*_: object, **__: object) -> bool:
        raise error

    monkeypatch.setattr(house.queue, "settle", settle)
    with pytest.raises(type(error)):
        house.writer.run()
