"""Reading nextVisits: Avro in the registry's framing, or JSON."""

from __future__ import annotations

import asyncio
import io
import json
import struct
from typing import Any

import fastavro
import pytest

from models.errors import InvalidMessage, TemporarilyUnavailable, UnknownSchema
from models.visits import SummitVisit
from repos.schema_registry import NextVisitReader, SchemaRegistry
from simulator.servers.schema_registry import SchemaRegistryServer
from tests.models.test_visits import summit_message
from tests.repos.answering_server import answer, answering_server
from tests.servers import unique_name

VISIT = {
    "type": "record",
    "name": "NextVisit",
    "fields": [
        {"name": "salIndex", "type": "long"},
        {"name": "position", "type": {"type": "array", "items": "double"}},
        {"name": "instrument", "type": "string"},
    ],
}
SCHEMA = {
    "type": "record",
    "name": "Envelope",
    "fields": [{"name": "timestamp", "type": "long"}, {"name": "message", "type": VISIT}],
}
CONTENT = {"salIndex": 2, "position": [1.5, -2.5], "instrument": "LSSTCam"}


def encode(schema: Any, schema_id: int, content: Any) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), content)
    return struct.pack(">bI", 0, schema_id) + stream.getvalue()


def decode(value: bytes, url: str | None = None) -> Any:
    async def run() -> Any:
        registry = SchemaRegistry(url=url) if url else None
        try:
            return await NextVisitReader(registry=registry).decode(value)
        finally:
            if registry:
                await registry.close()

    return asyncio.run(run())


@pytest.mark.servers
class TestAvro:
    def test_the_visit_is_under_message(self, schema_registry: SchemaRegistryServer) -> None:
        number = schema_registry.register(unique_name(), SCHEMA)
        value = encode(SCHEMA, number, {"timestamp": 1, "message": CONTENT})
        assert decode(value, schema_registry.url) == CONTENT
        assert decode(value, f"{schema_registry.url}/") == CONTENT

    def test_or_stands_by_itself(self, schema_registry: SchemaRegistryServer) -> None:
        number = schema_registry.register(unique_name(), VISIT)
        assert decode(encode(VISIT, number, CONTENT), schema_registry.url) == CONTENT

    def test_an_unknown_schema_is_named(self, schema_registry: SchemaRegistryServer) -> None:
        with pytest.raises(UnknownSchema, match="has no schema 99999"):
            decode(encode(VISIT, 99_999, CONTENT), schema_registry.url)

    @pytest.mark.parametrize("cut", [1, 4, 5, 6, 20, -1])
    def test_a_message_that_was_cut(self, schema_registry: SchemaRegistryServer, cut: int) -> None:
        number = schema_registry.register(unique_name(), SCHEMA)
        value = encode(SCHEMA, number, {"timestamp": 1, "message": CONTENT})
        with pytest.raises(InvalidMessage):
            decode(value[:cut], schema_registry.url)

    def test_a_message_that_goes_on(self, schema_registry: SchemaRegistryServer) -> None:
        number = schema_registry.register(unique_name(), VISIT)
        with pytest.raises(InvalidMessage, match="goes on after its end"):
            decode(encode(VISIT, number, CONTENT) + b"x", schema_registry.url)

    def test_a_schema_is_fetched_once(self, schema_registry: SchemaRegistryServer) -> None:
        value = encode(VISIT, schema_registry.register(unique_name(), VISIT), CONTENT)

        async def run() -> None:
            registry = SchemaRegistry(url=schema_registry.url)
            reader = NextVisitReader(registry=registry)
            assert await reader.decode(value) == CONTENT
            await registry.close()  # From now on it could not ask.
            assert await reader.decode(value) == CONTENT

        asyncio.run(run())

    def test_a_registry_that_comes_back(self, schema_registry: SchemaRegistryServer) -> None:
        value = encode(VISIT, schema_registry.register(unique_name(), VISIT), CONTENT)
        schema_registry.stop()
        try:
            with pytest.raises(TemporarilyUnavailable, match="KAFKA_SCHEMA_REGISTRY_URL"):
                decode(value, schema_registry.url)
        finally:
            schema_registry.start()
        assert decode(value, schema_registry.url) == CONTENT


def from_double(said: bytes) -> Any:
    async def run() -> Any:
        async with answering_server(said) as server:
            # `answering_server` reads bodies only; GET has none.
            registry = SchemaRegistry(url=f"http://user:secret@127.0.0.1:{server.port}")
            registry._client.headers["content-length"] = "0"
            try:
                return await registry.schema(7), server.requests
            finally:
                await registry.close()

    return asyncio.run(run())


def test_user_and_password_are_sent_and_not_shown() -> None:
    _, [(line, headers, _)] = from_double(answer(body=json.dumps({"schema": '"string"'}).encode()))
    assert line.startswith("GET /schemas/ids/7 ")
    assert headers["authorization"].startswith("Basic ")
    with pytest.raises(TemporarilyUnavailable) as caught:
        from_double(answer("401 Unauthorized", b"no"))
    assert "answers 401 for schema 7" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("status", ["500 x", "502 x", "429 x"])
def test_errors_of_the_registry_pass(status: str) -> None:
    with pytest.raises(TemporarilyUnavailable, match="answers"):
        from_double(answer(status))


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"{}",
        b'{"schema": "nonsense"}',
        b'{"schema": "{\\"type\\": \\"recrod\\"}"}',
        b'{"schema": "{}", "schemaType": "JSON"}',
    ],
)
def test_what_is_no_avro_schema(body: bytes) -> None:
    with pytest.raises(UnknownSchema, match="no Avro schema"):
        from_double(answer(body=body))


def test_plain_json_with_and_without_envelope() -> None:
    message = summit_message()
    assert decode(json.dumps(message).encode()) == message
    assert decode(json.dumps({"message": message}).encode()) == message
    assert SummitVisit.parse(decode(json.dumps(message).encode())).salIndex == 2


@pytest.mark.parametrize("value", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_what_is_neither(value: bytes) -> None:
    with pytest.raises(InvalidMessage, match="neither Avro nor JSON"):
        decode(value)


def test_avro_without_a_registry_names_the_setting() -> None:
    with pytest.raises(InvalidMessage, match="KAFKA_SCHEMA_REGISTRY_URL is not set"):
        decode(encode(VISIT, 1, CONTENT))
