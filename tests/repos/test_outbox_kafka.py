"""The outbox on a real broker: acknowledged, refused, or tried again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaConsumer

from models.errors import TemporarilyUnavailable
from models.events import ACKNOWLEDGED, ALERT, BUTLER_WRITER, OutboxMessage
from models.kafka_access import KafkaAccess
from models.outcomes import Result, VisitOutcome
from repos import outbox_kafka
from repos.ledger import Ledger
from repos.ledger_database import create_ledger_engine
from repos.outbox import Outbox
from repos.outbox_kafka import KafkaSender
from services.outbox import OutboxDrain
from simulator.servers.kafka import KafkaServer
from simulator.servers.postgresql import PostgreSQLServer
from tests.repos.test_ledger import DAY, DEPLOYMENT, make_visit
from tests.servers import unique_name

pytestmark = pytest.mark.servers


@pytest.fixture
def sender(kafka: KafkaServer) -> Iterator[KafkaSender]:
    made = KafkaSender(KafkaAccess(kafka.bootstrap))
    yield made
    made.close()


def arrived(kafka: KafkaServer, topic: str, count: int, seconds: float = 60.0) -> list[tuple[bytes, bytes]]:
    """Return key and value of what arrives, and a little longer if all did."""
    consumer = KafkaConsumer(topic, bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest")
    found: list[tuple[bytes, bytes]] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and len(found) <= count:
        before = len(found)
        for records in consumer.poll(timeout_ms=500).values():
            found += [(record.key, record.value) for record in records]
        if before == len(found) == count:
            break
    consumer.close()
    return found


def messages(topic: str, *payloads: bytes, key: str | None = None) -> list[OutboxMessage]:
    return [OutboxMessage(BUTLER_WRITER, topic, key, payload) for payload in payloads]


def test_messages_arrive_in_order(kafka: KafkaServer, sender: KafkaSender) -> None:
    topic = kafka.create_topic(unique_name())
    sent = [b"%d" % n for n in range(300)]
    assert sender.send(messages(topic, *sent, key="ü"), waiting=lambda: None) == [ACKNOWLEDGED] * 300
    assert arrived(kafka, topic, 300) == [("ü".encode(), payload) for payload in sent]


def test_what_is_too_large_is_refused_and_the_rest_arrives(kafka: KafkaServer, sender: KafkaSender) -> None:
    topic = kafka.create_topic(unique_name(), max_message_bytes="10000")
    first, large, last = sender.send(messages(topic, b"1", bytes(20_000), b"3"), waiting=lambda: None)
    assert first == ACKNOWLEDGED and large.refused is not None and "MessageSizeTooLarge" in large.refused
    if last != ACKNOWLEDGED:
        # What was under way behind it may have to be sent again.
        assert last.failed is not None
        assert sender.send(messages(topic, b"3"), waiting=lambda: None) == [ACKNOWLEDGED]
    assert [value for _, value in arrived(kafka, topic, 2)] == [b"1", b"3"]


def test_a_topic_that_cannot_be(sender: KafkaSender) -> None:
    (delivery,) = sender.send(messages("no topic!", b"1"), waiting=lambda: None)
    assert delivery.refused is not None


def test_a_missing_topic_is_waited_for(
    kafka: KafkaServer, sender: KafkaSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = unique_name()
    with monkeypatch.context() as hurry:
        hurry.setattr(outbox_kafka, "_TOPIC_MS", 2000)
        first, *rest = sender.send(messages(topic, b"1", b"2"), waiting=lambda: None)
    assert first.failed is not None and "does the topic exist" in first.failed
    # The second was not sent, lest it overtake the first.
    assert rest == []
    kafka.create_topic(topic)
    assert sender.send(messages(topic, b"1", b"2"), waiting=lambda: None) == [ACKNOWLEDGED] * 2


def test_scram(kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    topic = kafka.create_topic(unique_name())
    wrong = KafkaSender(KafkaAccess(kafka.sasl_bootstrap, kafka.username, "wrong"))
    with monkeypatch.context() as hurry:
        hurry.setattr("repos.kafka_clients._BOOTSTRAP_MS", 3000)
        with pytest.raises(TemporarilyUnavailable, match=f"as {kafka.username}.*user and password"):
            wrong.send(messages(topic, b"1"), waiting=lambda: None)
    right = KafkaSender(KafkaAccess(kafka.sasl_bootstrap, kafka.username, kafka.password))
    assert right.send(messages(topic, b"1"), waiting=lambda: None) == [ACKNOWLEDGED]
    right.close()


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_visits_finish_while_the_broker_is_away(
    kafka: KafkaServer, postgresql: PostgreSQLServer, tmp_path: Path, database: str
) -> None:
    url = (
        f"sqlite:///{tmp_path}/ledger.sqlite3"
        if database == "sqlite"
        else postgresql.create_database(unique_name())
    )
    topics = {kind: kafka.create_topic(unique_name()) for kind in (BUTLER_WRITER, ALERT)}
    engine = create_ledger_engine(url)
    access = KafkaAccess(kafka.bootstrap)
    store = Outbox(engine, owner="me")
    drain = OutboxDrain(store=store, senders={BUTLER_WRITER: KafkaSender(access), ALERT: KafkaSender(access)})
    ledger = Ledger(engine, on_messages=drain.wake)
    drain.start()

    def finish(number: int) -> None:
        said = [
            OutboxMessage(BUTLER_WRITER, topics[BUTLER_WRITER], None, b"event %d" % number),
            OutboxMessage(ALERT, topics[ALERT], "7", b"alert %d" % number),
        ]
        visit = make_visit(f"g{number}")
        ledger.finish(visit, DEPLOYMENT, DAY, VisitOutcome(result=Result.PROCESSED), said)

    finish(0)
    assert [value for _, value in arrived(kafka, topics[BUTLER_WRITER], 1)] == [b"event 0"]
    kafka.stop()
    try:
        for number in range(1, 6):
            finish(number)
    finally:
        kafka.start()
    for kind, name in ((BUTLER_WRITER, b"event"), (ALERT, b"alert")):
        values = [value for _, value in arrived(kafka, topics[kind], 6)]
        assert values == [b"%s %d" % (name, number) for number in range(6)]
    drain.stop(60)
    assert store.count_pending() == {}
    engine.dispose()


def test_many_processes_share_an_outbox(postgresql: PostgreSQLServer) -> None:
    engine = create_ledger_engine(postgresql.create_database(unique_name()))
    said = messages("t", *(b"%d" % n for n in range(100)))
    Ledger(engine).finish(make_visit(), DEPLOYMENT, DAY, VisitOutcome(result=Result.PROCESSED), said)
    stores = [Outbox(engine, owner=f"process {n}") for n in range(4)]
    taken = [store.lease(BUTLER_WRITER, "t", limit=40, seconds=60) for store in stores]
    assert sorted(int(m.message.payload) for some in taken for m in some) == list(range(100))
    assert [len(some) for some in taken] == [40, 40, 20, 0]
    # The first one dies, and its lease runs out.
    stores[0].renew([m.id for m in taken[0]], seconds=-1)
    assert [m.id for m in stores[3].lease(BUTLER_WRITER, "t", limit=40, seconds=60)] == [
        m.id for m in taken[0]
    ]
    engine.dispose()
