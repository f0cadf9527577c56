"""The writer's queue on a real broker: both or neither, once, for one writer."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError

from models.batches import QueuedMessage, SetAside
from models.errors import Superseded, TemporarilyUnavailable
from models.kafka_access import KafkaAccess
from repos import writer_transactions
from repos.writer_queue import WriterQueue
from repos.writer_transactions import GROUP
from simulator.servers.kafka import KafkaServer
from tests.servers import unique_name
from tests.topics import committed

pytestmark = pytest.mark.servers


class Scene:
    """Topics of their own on the shared broker."""

    def __init__(self, kafka: KafkaServer, partitions: int = 1) -> None:
        self.kafka = kafka
        self.topic = kafka.create_topic(unique_name(), partitions)
        self.events_topic = kafka.create_topic(unique_name())
        self.letters_topic = kafka.create_topic(unique_name())
        self._queues: list[WriterQueue] = []

    def queue(self, **changes: Any) -> WriterQueue:
        """Make a queue, as a process of its own would."""
        names = {
            "topic": self.topic,
            "output_topic": self.events_topic,
            "dead_letter_topic": self.letters_topic,
        }
        made = WriterQueue(KafkaAccess(self.kafka.bootstrap), **{**names, **changes})
        self._queues.append(made)
        return made

    def send(self, *payloads: bytes) -> None:
        producer = KafkaProducer(bootstrap_servers=self.kafka.bootstrap)
        for payload in payloads:
            producer.send(self.topic, payload, key=b"key " + payload[:20])
        producer.flush()
        producer.close()

    def committed(self, topic: str) -> list[Any]:
        """Return what a reader of committed messages sees."""
        return committed(self.kafka.bootstrap, topic)

    def events(self) -> list[bytes]:
        return [record.value for record in self.committed(self.events_topic)]

    def close(self) -> None:
        for queue in self._queues:
            queue.close()


@pytest.fixture
def scene(kafka: KafkaServer) -> Iterator[Scene]:
    made = Scene(kafka)
    yield made
    made.close()


def take(queue: WriterQueue, count: int) -> list[QueuedMessage]:
    """Take a number of messages, however long the group takes to form."""
    found: list[QueuedMessage] = []
    for _ in range(1000):
        found += queue.take(count - len(found), wait=0.1, ends=lambda: False)
        if len(found) == count:
            return found
    raise AssertionError(f"{len(found)} of {count} messages came")


def nothing_comes(queue: WriterQueue) -> bool:
    return not any(queue.take(10, wait=0.0, ends=lambda: False) for _ in range(8))


def payloads(messages: Sequence[QueuedMessage]) -> list[bytes]:
    return [message.payload for message in messages]


def test_batches_and_their_events(scene: Scene) -> None:
    scene.send(b"1", b"2", b"3")
    queue = scene.queue()
    first = take(queue, 2)
    assert payloads(first) == [b"1", b"2"] and first[0].key == b"key 1"
    assert queue.settle(first, event=b"first", set_aside=())
    second = take(queue, 1)
    assert queue.settle(second, event=b"second", set_aside=())
    assert queue.lag() == 0
    assert nothing_comes(queue)
    assert scene.events() == [b"first", b"second"]


def test_a_lone_message_waits_for_company_but_not_for_long(scene: Scene) -> None:
    queue = scene.queue()
    nothing_comes(queue)
    scene.send(b"1")
    threading.Timer(0.3, scene.send, [b"2"]).start()
    for _ in range(100):
        if found := queue.take(2, wait=60.0, ends=lambda: False):
            break
    assert payloads(found) == [b"1", b"2"]
    scene.send(b"3")
    # With no time to wait it goes alone.
    assert payloads(take(queue, 1)) == [b"3"]


def test_what_a_dead_writer_did_not_settle_comes_again_at_once(scene: Scene) -> None:
    scene.send(b"1", b"2")
    dead = scene.queue()
    batch = take(dead, 2)
    # Its transaction stands open when it dies.
    producer = dead._transactions._producer
    assert producer is not None
    producer.begin_transaction()
    producer.send(scene.events_topic, b"of the dead").get(10)
    heir = scene.queue()
    assert payloads(take(heir, 2)) == [b"1", b"2"]
    assert heir.settle(batch, event=b"of the heir", set_aside=())
    assert scene.events() == [b"of the heir"]


def test_a_writer_that_was_replaced_says_nothing(scene: Scene) -> None:
    scene.send(b"1")
    old = scene.queue()
    batch = take(old, 1)
    new = scene.queue()
    new.open()
    with pytest.raises(Superseded, match="one replica"):
        old.settle(batch, event=b"from the old", set_aside=())
    assert new.settle(take(new, 1), event=b"from the new", set_aside=())
    assert scene.events() == [b"from the new"]


@pytest.mark.parametrize("committed", [True, False])
def test_a_transaction_of_unknown_end(scene: Scene, monkeypatch: pytest.MonkeyPatch, committed: bool) -> None:
    scene.send(b"1")
    queue = scene.queue()
    batch = take(queue, 1)
    commit = KafkaProducer.commit_transaction

    def break_off(producer: KafkaProducer) -> None:
        if committed:
            commit(producer)
        raise KafkaError("the connection broke")

    with monkeypatch.context() as patch:
        patch.setattr(KafkaProducer, "commit_transaction", break_off)
        with pytest.raises(TemporarilyUnavailable, match="the connection broke"):
            queue.settle(batch, event=b"event", set_aside=())
    assert queue.settle(batch, event=b"event", set_aside=())
    assert scene.events() == [b"event"]
    assert nothing_comes(queue)


def test_a_doubtful_batch_that_is_given_up_comes_again_or_not(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.send(b"1")
    queue = scene.queue()
    batch = take(queue, 1)

    def break_off(_: KafkaProducer) -> None:
        raise KafkaError("the connection broke")

    with monkeypatch.context() as patch:
        patch.setattr(KafkaProducer, "commit_transaction", break_off)
        with pytest.raises(TemporarilyUnavailable):
            queue.settle(batch, event=b"lost", set_aside=())
    assert payloads(take(queue, 1)) == [b"1"]
    assert scene.events() == []


def test_messages_set_aside_go_with_the_offsets(scene: Scene) -> None:
    scene.send(b"good", b"bad")
    queue = scene.queue()
    batch = take(queue, 2)
    bad = SetAside(batch[1], "it is bad", "malformed")
    assert queue.settle(batch, event=None, set_aside=[bad])
    (letter,) = scene.committed(scene.letters_topic)
    assert (letter.key, letter.value) == (b"key bad", b"bad")
    assert dict(letter.headers) == {
        "reason": b"it is bad",
        "kind": b"malformed",
        "topic": scene.topic.encode(),
        "partition": b"0",
        "offset": b"1",
    }
    assert scene.events() == []


@pytest.mark.parametrize("size", [1_000_000, 1_048_400])
def test_a_message_that_does_not_fit_into_the_topic_for_bad_ones_blocks_nobody(
    scene: Scene, size: int
) -> None:
    # As large as the broker takes, and not to be compressed: with its headers it is too large.
    scene.send(random.Random(1).randbytes(size), b"good")
    queue = scene.queue()
    bad, good = take(queue, 2)
    aside = [SetAside(bad, "no JSON" * 200, "malformed")]

    _until_available(lambda: queue.settle([bad, good], event=b"event", set_aside=aside))

    assert scene.events() == [b"event"]
    (letter,) = scene.committed(scene.letters_topic)
    headers = dict(letter.headers)
    assert (headers["offset"], headers["kind"]) == (b"0", b"malformed")
    if size == 1_000_000:
        assert letter.value == bad.payload
    else:
        # The log has it whole.
        assert letter.value == b"" and headers["left-out"] == b"%d" % size
    assert nothing_comes(queue)


def test_without_a_topic_for_bad_messages_nothing_is_committed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_transactions, "_BLOCK_MS", 3000)
    missing = unique_name()
    scene.send(b"bad")
    queue = scene.queue(dead_letter_topic=missing)
    batch = take(queue, 1)
    bad = [SetAside(batch[0], "it is bad", "malformed")]
    with pytest.raises(TemporarilyUnavailable, match=missing):
        queue.settle(batch, event=b"event", set_aside=bad)
    assert scene.events() == []
    scene.kafka.create_topic(missing)
    _until_available(lambda: queue.settle(batch, event=b"event", set_aside=bad))
    assert scene.events() == [b"event"]
    assert len(scene.committed(missing)) == 1


def test_a_member_that_joins_while_a_batch_is_in_work(kafka: KafkaServer) -> None:
    scene = Scene(kafka, partitions=2)
    scene.send(*(b"%d" % n for n in range(20)))
    queue = scene.queue()
    batch = take(queue, 20)
    joined = threading.Event()
    end = threading.Event()

    def join() -> None:
        other = KafkaConsumer(
            scene.topic, bootstrap_servers=kafka.bootstrap, group_id=GROUP, enable_auto_commit=False
        )
        while not end.is_set():
            other.poll(timeout_ms=100)
            if other.assignment():
                joined.set()
        other.close()

    thread = threading.Thread(target=join)
    thread.start()
    try:
        ours = True
        for _ in range(240):
            ours &= queue.hold(0.5, ends=lambda: False)
            if joined.is_set() and not ours:
                break
        assert joined.is_set() and not ours
    finally:
        end.set()
        thread.join()
    # The other is gone, and nothing was settled.
    assert sorted(payloads(take(queue, 20))) == sorted(payloads(batch))
    scene.close()


def test_a_broker_that_goes_and_comes(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_transactions, "_OURS_S", 2.0)
    scene.send(b"1", b"2")
    queue = scene.queue()
    batch = take(queue, 1)
    scene.kafka.stop()
    try:
        with pytest.raises(TemporarilyUnavailable, match=scene.kafka.bootstrap):
            queue.settle(batch, event=b"event", set_aside=())
        assert queue.hold(0.5, ends=lambda: False)
    finally:
        scene.kafka.start()
    monkeypatch.setattr(writer_transactions, "_OURS_S", 20.0)
    _until_available(lambda: queue.settle(batch, event=b"event", set_aside=()))
    assert scene.events() == [b"event"]
    assert payloads(take(queue, 1)) == [b"2"]


def _until_available(action: Callable[[], bool]) -> None:
    for _ in range(20):
        try:
            assert action()
            return
        except TemporarilyUnavailable:
            continue
    raise AssertionError("it never became available")


def test_credentials(kafka: KafkaServer, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {
        "topic": scene.topic,
        "output_topic": scene.events_topic,
        "dead_letter_topic": scene.letters_topic,
    }
    wrong = WriterQueue(KafkaAccess(kafka.sasl_bootstrap, kafka.username, "wrong"), **names)
    with monkeypatch.context() as hurry:
        hurry.setattr("repos.kafka_clients._BOOTSTRAP_MS", 3000)
        with pytest.raises(TemporarilyUnavailable, match=f"as {kafka.username}"):
            wrong.open()
    wrong.close()
    right = WriterQueue(KafkaAccess(kafka.sasl_bootstrap, kafka.username, kafka.password), **names)
    scene.send(b"1")
    assert right.settle(take(right, 1), event=b"event", set_aside=())
    assert scene.events() == [b"event"]
    right.close()


def test_no_broker_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repos.kafka_clients._BOOTSTRAP_MS", 300)
    queue = WriterQueue(KafkaAccess("127.0.0.1:9"), topic="a", output_topic="b", dead_letter_topic="c")
    with pytest.raises(TemporarilyUnavailable, match="check the address"):
        queue.open()
    assert queue.lag() is None
    queue.close()
