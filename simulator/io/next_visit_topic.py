"""Announces visits on Kafka, as the summit does: Avro with a schema registry."""

from __future__ import annotations

__all__ = ["NextVisitTopic"]

import io
import json
import struct
import time
from pathlib import Path
from typing import Any

import fastavro
import httpx

from models.visits import SummitVisit
from simulator.io.topic_writer import TopicWriter

#: Schema of the messages.
_SCHEMA = Path(__file__).with_name("next_visit.avsc")
#: First byte of a message whose schema is in a registry.
_MAGIC = 0


class NextVisitTopic:
    """Publishes nextVisit messages.

    A message is framed as schema registries have it: a zero byte, the four
    bytes of the schema's id, big-endian, and the Avro datum.

    Parameters
    ----------
    writer : `simulator.io.topic_writer.TopicWriter`
    schema_registry : `str`
        URL of the registry, in which the schema is registered.
    """

    def __init__(self, *, writer: TopicWriter, schema_registry: str) -> None:
        schema: dict[str, Any] = json.loads(_SCHEMA.read_bytes())
        self._writer = writer
        self._schema = fastavro.parse_schema(schema)
        self._id = _register(schema_registry, f"{writer.topic}-value", schema)

    def __call__(self, visit: SummitVisit) -> None:
        """Publish a visit."""
        self._writer.send(self.encode(visit))

    def encode(self, visit: SummitVisit) -> bytes:
        """Return a visit as it is published."""
        datum = {"timestamp": int(time.time() * 1000), "message": visit.model_dump(mode="json")}
        stream = io.BytesIO()
        stream.write(struct.pack(">bI", _MAGIC, self._id))
        fastavro.schemaless_writer(stream, self._schema, datum)
        return stream.getvalue()


def _register(registry: str, subject: str, schema: dict[str, Any]) -> int:
    response = httpx.post(
        f"{registry.rstrip('/')}/subjects/{subject}/versions",
        json={"schema": json.dumps(schema)},
        headers={"Content-Type": "application/vnd.schemaregistry.v1+json"},
        timeout=20.0,
        trust_env=False,
    )
    response.raise_for_status()
    number: int = response.json()["id"]
    return number
