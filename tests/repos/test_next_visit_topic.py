"""Following a topic through all trouble; what is committed."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import Mock

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaConnectionError

from models.errors import TemporarilyUnavailable
from models.fan_out import NextVisitRecord
from models.kafka_access import KafkaAccess
from repos.kafka_clients import create_producer
from repos.next_visit_topic import NextVisitTopic
from simulator.servers.kafka import KafkaServer
from tests.servers import unique_name

pytestmark = pytest.mark.servers

#: Seconds that anything may take here.
_PATIENCE = 60.0


class Reader:
    """A topic that is followed; records come into a queue."""

    def __init__(self, access: KafkaAccess, topic: str, group: str, offset_reset: str) -> None:
        self.records: queue.Queue[NextVisitRecord] = queue.Queue()
        self.topic = NextVisitTopic(
            access=access, topic=topic, group=group, offset_reset=offset_reset, deliver=self.records.put
        )

    def next(self) -> bytes:
        record = self.records.get(timeout=_PATIENCE)
        assert record.value is not None
        self.topic.settle(record)
        return record.value


@contextmanager
def reading(
    kafka: KafkaServer, topic: str, group: str, offset_reset: str = "earliest", **access: str
) -> Iterator[Reader]:
    reader = Reader(KafkaAccess(**{"bootstrap": kafka.bootstrap, **access}), topic, group, offset_reset)
    reader.topic.start()
    try:
        yield reader
    finally:
        reader.topic.close()


def send(kafka: KafkaServer, topic: str, *values: bytes, partition: int = 0) -> None:
    producer = create_producer(KafkaAccess(kafka.bootstrap))
    for value in values:
        producer.send(topic, value, partition=partition).get(_PATIENCE)
    producer.close()


def committed(kafka: KafkaServer, topic: str, group: str) -> int | None:
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap, group_id=group)
    try:
        found: int | None = consumer.committed(TopicPartition(topic, 0))
        return found
    finally:
        consumer.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.05)


@pytest.fixture
def topic(kafka: KafkaServer) -> str:
    name = unique_name()
    kafka.create_topic(name)
    return name


def test_records_come_with_their_place_and_time(kafka: KafkaServer, topic: str) -> None:
    begin = time.time()
    send(kafka, topic, b"one", b"two")
    with reading(kafka, topic, "g") as reader:
        records = [reader.records.get(timeout=_PATIENCE) for _ in range(2)]
    assert [(r.partition, r.offset, r.value) for r in records] == [(0, 0, b"one"), (0, 1, b"two")]
    assert all(begin - 1 < r.timestamp < time.time() + 1 for r in records)


def test_what_was_settled_does_not_come_again_and_the_rest_does(kafka: KafkaServer, topic: str) -> None:
    group = unique_name()
    send(kafka, topic, b"one", b"two", b"three")
    with reading(kafka, topic, group) as reader:
        records = [reader.records.get(timeout=_PATIENCE) for _ in range(3)]
        reader.topic.settle(records[0])
        reader.topic.settle(records[2])
    assert committed(kafka, topic, group) == 1
    with reading(kafka, topic, group) as reader:
        assert [reader.next(), reader.next()] == [b"two", b"three"]
    assert committed(kafka, topic, group) == 3


def test_settled_records_are_committed_while_it_runs(kafka: KafkaServer, topic: str) -> None:
    group = unique_name()
    send(kafka, topic, b"one")
    with reading(kafka, topic, group) as reader:
        reader.next()
        until(lambda: committed(kafka, topic, group) == 1)


def test_what_is_announced_while_the_first_fan_out_is_away_is_not_missed(
    kafka: KafkaServer, topic: str
) -> None:
    group = unique_name()
    send(kafka, topic, b"before anybody listened")
    with reading(kafka, topic, group, "latest") as reader:
        until(lambda: committed(kafka, topic, group) == 1)
        assert reader.records.empty()
    send(kafka, topic, b"meanwhile")
    with reading(kafka, topic, group, "latest") as reader:
        assert reader.next() == b"meanwhile"


def test_paused_it_delivers_nothing_and_still_commits(kafka: KafkaServer, topic: str) -> None:
    group = unique_name()
    send(kafka, topic, b"one")
    with reading(kafka, topic, group) as reader:
        record = reader.records.get(timeout=_PATIENCE)
        reader.topic.pause()
        send(kafka, topic, b"two")
        reader.topic.settle(record)
        until(lambda: committed(kafka, topic, group) == 1)
        assert reader.records.empty()
    with reading(kafka, topic, group) as reader:
        assert reader.next() == b"two"


def test_a_topic_that_is_missing_is_named_and_may_come_later(kafka: KafkaServer) -> None:
    name = unique_name()
    with reading(kafka, name, unique_name()) as reader:
        until(lambda: "has no topic" in (reader.topic.trouble or ""))
        assert name in (reader.topic.trouble or "")
        kafka.create_topic(name)
        send(kafka, name, b"late")
        assert reader.next() == b"late"
        until(lambda: reader.topic.trouble is None)


def test_a_second_fan_out_of_the_group_takes_over(kafka: KafkaServer, topic: str) -> None:
    group = unique_name()
    with reading(kafka, topic, group) as first:
        send(kafka, topic, b"one")
        assert first.next() == b"one"
        with reading(kafka, topic, group) as second:
            # Whoever of them has the partition; nothing twice, nothing lost.
            until(lambda: (first.topic.trouble is None) != (second.topic.trouble is None))
            first.topic.close()
            send(kafka, topic, b"two")
            assert second.next() == b"two"
            assert second.records.empty()


def test_credentials(kafka: KafkaServer, topic: str) -> None:
    send(kafka, topic, b"one")
    with reading(
        kafka, topic, "g", bootstrap=kafka.sasl_bootstrap, username=kafka.username, password=kafka.password
    ) as reader:
        assert reader.next() == b"one"


def test_wrong_credentials_are_reported(
    kafka: KafkaServer, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repos.kafka_clients._BOOTSTRAP_MS", 2_000)
    with reading(
        kafka, topic, "g", bootstrap=kafka.sasl_bootstrap, username=kafka.username, password="wrong"
    ) as reader:
        until(lambda: "check address, user and password" in (reader.topic.trouble or ""))


def test_a_client_that_fails_in_a_way_of_its_own_is_made_anew(
    kafka: KafkaServer, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    poll, failures = KafkaConsumer.poll, [AssertionError("not foreseen"), KeyError("nor this")]

    def fail(consumer: KafkaConsumer, **options: Any) -> Any:
        if failures:
            raise failures.pop()
        return poll(consumer, **options)

    monkeypatch.setattr(KafkaConsumer, "poll", fail)
    send(kafka, topic, b"one")
    with reading(kafka, topic, unique_name()) as reader:
        assert reader.next() == b"one"
        until(lambda: reader.topic.trouble is None)
    assert failures == []


def test_a_client_that_cannot_be_made_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise ValueError("no such port")

    monkeypatch.setattr("repos.next_visit_topic.create_consumer", fail)
    reader = Reader(KafkaAccess("127.0.0.1:1"), "topic", "group", "latest")
    reader.topic.start()
    try:
        until(lambda: "no such port" in str(reader.topic.trouble))
    finally:
        reader.topic.close()


def test_a_connection_that_came_about_ends_the_growing_of_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    tries = iter([False, False, False, True, False])

    def create(*_: Any, **__: Any) -> Any:
        if not next(tries):
            raise TemporarilyUnavailable("away")
        consumer = Mock(spec=KafkaConsumer)
        consumer.poll.side_effect = KafkaConnectionError("broken")
        return consumer

    monkeypatch.setattr("repos.next_visit_topic.create_consumer", create)
    reader = Reader(KafkaAccess("127.0.0.1:1"), "topic", "group", "latest")

    class Closing(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout or 0.0)
            if len(pauses) == 5:
                self.set()
            return self.is_set()

    monkeypatch.setattr(reader.topic, "_closing", Closing())
    reader.topic._follow()
    assert pauses == [1.0, 2.0, 4.0, 1.0, 2.0]


def test_the_broker_may_be_away_at_the_start_and_later(
    kafka: KafkaServer, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repos.kafka_clients._BOOTSTRAP_MS", 2_000)
    send(kafka, topic, b"one")
    groups = unique_name(), unique_name()
    access = KafkaAccess(kafka.bootstrap)
    early, late = (Reader(access, topic, group, "earliest") for group in groups)
    early.topic.start()
    try:
        assert early.next() == b"one"
        kafka.stop()
        try:
            late.topic.start()
            until(lambda: "cannot be used" in (late.topic.trouble or ""))
        finally:
            kafka.start()
        assert late.next() == b"one"
        send(kafka, topic, b"two")
        for reader, group in zip((early, late), groups, strict=True):
            assert reader.next() == b"two"
            until(lambda group=group: committed(kafka, topic, group) == 2)  # type: ignore[misc]
    finally:
        for reader in (early, late):
            reader.topic.close()
