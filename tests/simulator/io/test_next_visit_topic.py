"""Visits on Kafka, as the summit announces them."""

from __future__ import annotations

import asyncio
import io
import json
import struct
from collections.abc import Iterator
from typing import Any

import fastavro
import httpx
import pytest
from kafka import KafkaConsumer

from models.errors import TemporarilyUnavailable
from models.kafka_access import KafkaAccess
from models.visits import SummitVisit
from repos.schema_registry import NextVisitReader, SchemaRegistry
from simulator.io.next_visit_topic import NextVisitTopic
from simulator.io.topic_writer import TopicWriter
from simulator.servers.kafka import KafkaServer
from simulator.servers.process import free_port
from simulator.servers.schema_registry import SchemaRegistryServer
from tests.models.test_visits import summit_message
from tests.servers import unique_name

pytestmark = pytest.mark.servers


@pytest.fixture
def writer(kafka: KafkaServer) -> Iterator[TopicWriter]:
    made = TopicWriter(address=KafkaAccess(kafka.bootstrap), topic=kafka.create_topic(unique_name("visits")))
    yield made
    made.close()


def visit() -> SummitVisit:
    return SummitVisit.parse(summit_message())


def decode(value: bytes, registry: str) -> Any:
    """Decode a message as the fan-out does."""

    async def run() -> Any:
        schemas = SchemaRegistry(url=registry)
        try:
            return await NextVisitReader(registry=schemas).decode(value)
        finally:
            await schemas.close()

    return asyncio.run(run())


def test_published_as_the_fan_out_reads_it(
    writer: TopicWriter, kafka: KafkaServer, schema_registry: SchemaRegistryServer
) -> None:
    NextVisitTopic(writer=writer, schema_registry=schema_registry.url)(visit())
    consumer = KafkaConsumer(
        writer.topic,
        bootstrap_servers=kafka.bootstrap,
        auto_offset_reset="earliest",
        consumer_timeout_ms=20_000,
    )
    value = next(consumer).value
    consumer.close()
    content = decode(value, schema_registry.url)
    assert SummitVisit.parse(content) == visit()
    # Everything that the summit says, the transport's fields too.
    assert set(content) == set(summit_message())


def test_decoded_with_the_schema_in_the_registry(
    writer: TopicWriter, schema_registry: SchemaRegistryServer
) -> None:
    value = NextVisitTopic(writer=writer, schema_registry=schema_registry.url).encode(visit())
    magic, number = struct.unpack(">bI", value[:5])
    assert magic == 0
    versions = httpx.get(f"{schema_registry.url}/subjects/{writer.topic}-value/versions/latest").json()
    assert versions["id"] == number
    schema = json.loads(httpx.get(f"{schema_registry.url}/schemas/ids/{number}").json()["schema"])
    datum: Any = fastavro.schemaless_reader(io.BytesIO(value[5:]), schema)
    assert set(datum) == {"timestamp", "message"}
    assert SummitVisit.parse(datum["message"]) == visit()


def test_a_schema_is_registered_once(writer: TopicWriter, schema_registry: SchemaRegistryServer) -> None:
    values = [
        NextVisitTopic(writer=writer, schema_registry=schema_registry.url).encode(visit()) for _ in "ab"
    ]
    assert values[0][:5] == values[1][:5]


def test_registry_that_is_not_there(writer: TopicWriter) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(TemporarilyUnavailable, match=url):
        NextVisitTopic(writer=writer, schema_registry=url)
