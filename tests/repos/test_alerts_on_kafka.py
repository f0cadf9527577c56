"""Alerts on a real Kafka, read as those do who subscribe to them."""

from __future__ import annotations

import json
import struct
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro
import pytest
from fastavro.utils import generate_one
from lsst.alert.packet import Schema

from app.outbox_factory import build_outbox
from config.settings import ServiceSettings, load_service_settings
from models.alerts import AlertPackets
from models.kafka_access import KafkaAccess
from models.outcomes import Result, VisitOutcome
from repos.alert_schema import latest_alert_schema_version, load_alert_schema
from repos.alert_topic import AlertTopicSink
from repos.kafka_clients import create_consumer
from repos.ledger import Ledger
from repos.ledger_database import create_ledger_engine
from repos.outbox import Outbox
from services.outbox import OutboxDrain
from simulator.servers.kafka import KafkaServer
from simulator.servers.schema_registry import SchemaRegistryServer
from tests.config.test_settings import ENOUGH
from tests.servers import unique_name
from tests.visits import make_visit

pytestmark = pytest.mark.servers

VERSION = latest_alert_schema_version()
VISIT = make_visit()


def make_packets(count: int, cutout: int = 100) -> AlertPackets:
    """Alerts of two objects, in turn."""
    packets = []
    for number in range(count):
        packet = generate_one(load_alert_schema(VERSION))
        packet["diaSource"]["diaSourceId"] = packet["diaSourceId"] = number + 1
        packet["diaSource"]["diaObjectId"] = 77 + number % 2
        packet["diaObject"] = None
        packet["cutoutScience"] = b"x" * cutout
        packets.append(packet)
    return AlertPackets(VERSION, packets)


class Station:
    """The service's way from alerts to Kafka."""

    def __init__(self, kafka: KafkaServer, directory: Path, topic: str, **settings: str) -> None:
        variables = {
            **ENOUGH,
            "PP_STATE_DIR": str(directory),
            "AP_KAFKA_SERVER": kafka.sasl_bootstrap,
            "AP_KAFKA_TOPIC": topic,
            "AP_KAFKA_PRODUCER_USERNAME": kafka.username,
            "AP_KAFKA_PRODUCER_PASSWORD": kafka.password,
        }
        self.settings: ServiceSettings = load_service_settings({**variables, **settings})
        self.engine = create_ledger_engine(self.settings.ledger_url)
        self.outbox = Outbox(self.engine)
        self.ledger = Ledger(self.engine)

    def publish(self, packets: AlertPackets, group: str = "g1", schema_id: int | None = None) -> None:
        """Send the alerts of a visit that goes on."""
        sink = AlertTopicSink(self.settings.ap_kafka_topic or "", schema_id=schema_id)
        lost = VisitOutcome(result=Result.NOT_RETRIABLE)
        visit = make_visit(groupId=group)
        sink.send(packets, VISIT, 7, lambda m: self.ledger.send(visit, "d0", 20260301, m, lost))

    def drain(self, seconds: float = 120.0) -> OutboxDrain:
        drain = build_outbox(self.settings, self.outbox)
        drain.start()
        drain.stop(seconds)
        return drain


def read(kafka: KafkaServer, topic: str, count: int) -> list[Any]:
    consumer = create_consumer(
        KafkaAccess(kafka.bootstrap), topic, auto_offset_reset="earliest", consumer_timeout_ms=60_000
    )
    try:
        found = []
        for message in consumer:
            found.append(message)
            if len(found) == count:
                break
        return found
    finally:
        consumer.close()


def wait_until(condition: Callable[[], bool], seconds: float = 120.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    return condition()


def schema_of(registry: SchemaRegistryServer, payload: bytes) -> Any:
    """The writer's schema, as a subscriber gets it."""
    magic, number = struct.unpack(">bI", payload[:5])
    assert magic == 0
    with urllib.request.urlopen(f"{registry.url}/schemas/ids/{number}", timeout=60) as answer:
        return fastavro.parse_schema(json.loads(json.load(answer)["schema"]))


@pytest.fixture
def topic(kafka: KafkaServer) -> str:
    return kafka.create_topic(unique_name("alerts"), partitions=3)


def test_alerts_arrive_and_can_be_read(
    kafka: KafkaServer, schema_registry: SchemaRegistryServer, tmp_path: Path, topic: str
) -> None:
    definition = {k: v for k, v in load_alert_schema(VERSION).items() if not k.startswith("__")}
    schema_id = schema_registry.register(f"{topic}-value", definition)
    station = Station(kafka, tmp_path, topic)
    packets = make_packets(6)
    station.publish(packets, schema_id=schema_id)
    assert station.drain().trouble is None
    messages = read(kafka, topic, 6)
    got = [
        Schema(schema_of(schema_registry, m.value)).deserialize(m.value[5:])["diaSourceId"] for m in messages
    ]
    assert sorted(got) == [1, 2, 3, 4, 5, 6]
    # All of an object are in one partition, in order.
    for key in (b"77", b"78"):
        mine = [(m.partition, m.offset) for m in messages if m.key == key]
        assert len(mine) == 3 and len({partition for partition, _ in mine}) == 1
        sources = [n for n, m in zip(got, messages, strict=True) if m.key == key]
        assert sources == sorted(sources)
    assert station.outbox.count_pending() == {}


def test_an_unknown_schema_id(
    kafka: KafkaServer, schema_registry: SchemaRegistryServer, tmp_path: Path, topic: str
) -> None:
    station = Station(kafka, tmp_path, topic)
    station.publish(make_packets(1), schema_id=123_456)
    station.drain()
    (message,) = read(kafka, topic, 1)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        schema_of(schema_registry, message.value)
    # Whoever knows the schema can read it all the same.
    alert = Schema(load_alert_schema(VERSION)).deserialize(message.value[5:])
    assert alert["diaSourceId"] == 1


def test_an_alert_too_large_is_set_aside(kafka: KafkaServer, tmp_path: Path) -> None:
    topic = kafka.create_topic(unique_name("alerts"), max_message_bytes="100000")
    station = Station(kafka, tmp_path, topic)
    station.publish(make_packets(2), "small")
    station.publish(make_packets(1, cutout=200_000), "large")
    station.publish(make_packets(2), "after")
    drain = station.drain()
    assert len(read(kafka, topic, 4)) == 4
    assert drain.trouble is not None and "1 messages of kind alert were refused" in drain.trouble
    assert (station.outbox.count_pending(), station.outbox.count_refused()) == ({}, {"alert": 1})


def test_a_password_that_is_wrong(
    kafka: KafkaServer, tmp_path: Path, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repos.kafka_clients._BOOTSTRAP_MS", 2_000)
    wrong = Station(kafka, tmp_path, topic, AP_KAFKA_PRODUCER_PASSWORD="guess")
    wrong.publish(make_packets(2))
    drain = build_outbox(wrong.settings, wrong.outbox)
    drain.start()
    assert wait_until(lambda: drain.trouble is not None)
    drain.stop(0.0)
    assert "check address, user and password" in (drain.trouble or "")
    assert wrong.outbox.count_pending() == {"alert": 2}
    # Nothing is lost: once they are given back, they arrive with the right one.
    assert wait_until(lambda: not any(topic in thread.name for thread in threading.enumerate()))
    assert wrong.outbox.lanes() != []
    monkeypatch.undo()
    Station(kafka, tmp_path, topic).drain()
    assert len(read(kafka, topic, 2)) == 2
