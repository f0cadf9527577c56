"""Alerts as messages: what is in them, and that programs of the field can read them."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from functools import cache
from typing import Any

import fastavro
import pytest
from fastavro.utils import generate_one
from lsst.alert.packet import Schema
from lsst.alert.packet.schemaRegistry import SchemaRegistry

from models.alerts import AlertPackets
from models.events import ALERT, OutboxMessage
from repos import alert_encoding
from repos.alert_encoding import alert_datums, alert_file_bytes
from repos.alert_schema import latest_alert_schema_version, load_alert_schema
from repos.alert_topic import AlertFraming, AlertTopicSink, alert_key
from tests.visits import make_visit

VERSION = latest_alert_schema_version()
VISIT = make_visit()


@cache
def registry() -> SchemaRegistry:
    """The schemas that the observatory's own package knows, by id."""
    return SchemaRegistry.all_schemas_from_filesystem()


def make_packets(count: int = 3, version: str = VERSION) -> AlertPackets:
    return AlertPackets(version, [generate_one(load_alert_schema(version)) for _ in range(count)])


def written(packet: Mapping[str, Any], version: str = VERSION) -> Any:
    """An alert as it is after writing and reading: floats have 32 bits."""
    schema = Schema(load_alert_schema(version))
    return schema.deserialize(schema.serialize(packet))


def read_as_the_field_does(payload: bytes) -> Any:
    magic, schema_id = struct.unpack(">bI", payload[:5])
    assert magic == 0
    return registry().get_by_id(schema_id).deserialize(payload[5:])


def messages_of(sink: AlertTopicSink, packets: AlertPackets) -> list[OutboxMessage]:
    messages: list[OutboxMessage] = []
    # Brokers are no place where one could look.
    assert sink.send(packets, VISIT, 7, messages.extend) == ""
    return messages


def test_one_message_an_alert() -> None:
    packets = make_packets()
    messages = messages_of(AlertTopicSink("alerts"), packets)
    assert [(m.kind, m.topic, m.key) for m in messages] == [
        (
            ALERT,
            "alerts",
            str(packet["diaObject"]["diaObjectId"] if packet["diaObject"] else alert_key(packet)),
        )
        for packet in packets
    ]
    assert [read_as_the_field_does(m.payload) for m in messages] == [written(p) for p in packets]


@pytest.mark.parametrize(("version", "number"), [("7.4", 704), ("11.1", 1101)])
def test_the_observatorys_schema_ids(version: str, number: int) -> None:
    (message,) = messages_of(AlertTopicSink("alerts"), make_packets(1, version))
    assert message.payload[:5] == b"\0" + number.to_bytes(4, "big")
    # The package that publishes the schemas agrees.
    assert Schema(load_alert_schema(version)).get_schema_id() == number


def test_the_schema_id_of_another_registry() -> None:
    (message,) = messages_of(AlertTopicSink("alerts", schema_id=0x01020304), make_packets(1))
    assert message.payload[:5] == b"\0\1\2\3\4"


def test_a_reader_that_does_not_know_the_schema_is_told_which() -> None:
    (message,) = messages_of(AlertTopicSink("alerts", schema_id=99), make_packets(1))
    with pytest.raises(KeyError, match="99"):
        read_as_the_field_does(message.payload)


def test_plain_avro() -> None:
    packets = make_packets(1)
    (message,) = messages_of(AlertTopicSink("alerts", framing=AlertFraming.PLAIN), packets)
    assert Schema(load_alert_schema(VERSION)).deserialize(message.payload) == written(packets.packets[0])


def test_an_alert_that_explains_itself() -> None:
    packets = make_packets(2)
    messages = messages_of(AlertTopicSink("alerts", framing=AlertFraming.CONTAINER), packets)
    got = [list(fastavro.reader(io.BytesIO(m.payload))) for m in messages]
    assert got == [[written(p)] for p in packets]


def test_no_alerts_no_message() -> None:
    assert messages_of(AlertTopicSink("alerts"), AlertPackets(VERSION, [])) == []


@pytest.mark.parametrize(
    ("dia_object", "source", "key"),
    [
        ({"diaObjectId": 1}, {"diaObjectId": 1, "ssObjectId": None}, "1"),
        (None, {"diaObjectId": 2, "ssObjectId": None}, "2"),
        (None, {"diaObjectId": None, "ssObjectId": 3}, "3"),
        (None, {"diaObjectId": 0, "ssObjectId": 3}, "3"),
        (None, {"diaObjectId": None, "ssObjectId": None}, "4"),
        (None, {}, "4"),
    ],
)
def test_the_key_is_what_was_seen(
    dia_object: dict[str, int] | None, source: dict[str, Any], key: str
) -> None:
    assert alert_key({"diaSource": {"diaSourceId": 4, **source}, "diaObject": dia_object}) == key


def test_alerts_are_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    write = fastavro.schemaless_writer

    def counted(*args: Any) -> None:
        calls.append(args)
        write(*args)

    monkeypatch.setattr(alert_encoding.fastavro, "schemaless_writer", counted)
    packets = make_packets(3)
    messages_of(AlertTopicSink("alerts"), packets)
    alert_file_bytes(packets)
    alert_datums(packets)
    assert len(calls) == 3


@pytest.mark.parametrize("count", [0, 1, 4])
def test_the_file_of_encoded_alerts_is_an_ordinary_one(count: int) -> None:
    packets = make_packets(count)
    file = io.BytesIO(alert_file_bytes(packets))
    schema, records = Schema(load_alert_schema(VERSION)).retrieve_alerts(file)
    assert list(records) == [written(p) for p in packets]
    assert schema.definition["name"] == f"lsst.v{VERSION.replace('.', '_')}.alert"
