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

from models.errors import TemporarilyUnavailable
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
    schema_registry : `str` or `None`
        URL of the registry, in which the schema is registered; without one,
        messages are plain JSON, which fan-outs read as well.

    Raises
    ------
    models.errors.TemporarilyUnavailable
        Raised if the registry does not answer, or does not take the schema.
    """

    def __init__(self, *, writer: TopicWriter, schema_registry: str | None) -> None:
        schema: dict[str, Any] = json.loads(_SCHEMA.read_bytes())
        self._writer = writer
        self._schema = fastavro.parse_schema(schema)
        self._id = (
            None if schema_registry is None else _register(schema_registry, f"{writer.topic}-value", schema)
        )

    def __call__(self, visit: SummitVisit) -> None:
        """Publish a visit."""
        self._writer.send(self.encode(visit))

    def encode(self, visit: SummitVisit) -> bytes:
        """Return a visit as it is published."""
        if self._id is None:
            return visit.model_dump_json().encode()
        datum = {"timestamp": int(time.time() * 1000), "message": visit.model_dump(mode="json")}
        stream = io.BytesIO()
        stream.write(struct.pack(">bI", _MAGIC, self._id))
        fastavro.schemaless_writer(stream, self._schema, datum)
        return stream.getvalue()


def _register(registry: str, subject: str, schema: dict[str, Any]) -> int:
    try:
        response = httpx.post(
            f"{registry.rstrip('/')}/subjects/{subject}/versions",
            json={"schema": json.dumps(schema)},
            headers={"Content-Type": "application/vnd.schemaregistry.v1+json"},
            timeout=20.0,
            trust_env=False,
        )
        response.raise_for_status()
    except httpx.HTTPError as error:
        raise TemporarilyUnavailable(f"the schema registry at {registry} took no schema: {error}") from error
    number: int = response.json()["id"]
    return number
