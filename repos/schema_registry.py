"""Reading nextVisits: Avro with a schema registry, or plain JSON."""

from __future__ import annotations

__all__ = ["NextVisitReader", "SchemaRegistry"]

import asyncio
import io
import json
import logging
import ssl
import struct
from typing import Any

import fastavro
import httpx
from fastavro.types import Schema

from models.errors import InvalidMessage, TemporarilyUnavailable, UnknownSchema

_log = logging.getLogger(__name__)

#: Framing of the registry: a zero byte and the schema's id, big-endian.
_FRAME = struct.Struct(">bI")
_MAGIC = 0
#: Seconds to wait for the registry.
_TIMEOUT = 5.0
#: Under which name an envelope has the visit.
_ENVELOPE = "message"


class SchemaRegistry:
    """Schemas by id, each fetched once; ids are never used again.

    Parameters
    ----------
    url : `str`
        Of the registry; may hold user and password.
    """

    def __init__(self, *, url: str) -> None:
        self._shown = str(httpx.URL(url).copy_with(userinfo=b""))
        # Made now, because making a TLS context takes a moment.
        # It trusts whom the system trusts, the observatory's own authority too.
        tls = ssl.create_default_context()
        self._client = httpx.AsyncClient(base_url=url, timeout=_TIMEOUT, trust_env=False, verify=tls)
        self._schemas: dict[int, Schema] = {}
        self._locks: dict[int, asyncio.Lock] = {}

    async def schema(self, schema_id: int) -> Schema:
        """Return a schema.

        Parameters
        ----------
        schema_id : `int`

        Raises
        ------
        models.errors.UnknownSchema
            Raised if the registry has no such schema, or cannot use it.
        models.errors.TemporarilyUnavailable
            Raised if the registry does not answer, or with an error.
        """
        lock = self._locks.setdefault(schema_id, asyncio.Lock())
        async with lock:
            if schema_id not in self._schemas:
                self._schemas[schema_id] = await self._fetch(schema_id)
        return self._schemas[schema_id]

    async def _fetch(self, schema_id: int) -> Schema:
        try:
            response = await self._client.get(f"/schemas/ids/{schema_id}")
        except httpx.HTTPError as error:
            raise TemporarilyUnavailable(
                f"the schema registry {self._shown} does not answer: {error or repr(error)}; "
                "check KAFKA_SCHEMA_REGISTRY_URL and that it runs"
            ) from error
        if response.status_code == httpx.codes.NOT_FOUND:
            raise UnknownSchema(f"the schema registry {self._shown} has no schema {schema_id}")
        if response.status_code != httpx.codes.OK:
            raise TemporarilyUnavailable(
                f"the schema registry {self._shown} answers {response.status_code} for schema {schema_id}: "
                f"{response.text[:200]}"
            )
        try:
            answer = response.json()
            if answer.get("schemaType", "AVRO") != "AVRO":
                raise ValueError(f"it is {answer['schemaType']}")
            schema = fastavro.parse_schema(json.loads(answer["schema"]))
        except Exception as error:  # fastavro raises whatever a schema leads it to
            raise UnknownSchema(
                f"schema {schema_id} of the registry {self._shown} is no Avro schema: {error!r}"
            ) from error
        _log.info("Schema %d is known now.", schema_id)
        return schema

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class NextVisitReader:
    """A `services.fan_out.NextVisitDecoder`.

    Parameters
    ----------
    registry : `SchemaRegistry`, optional
        Without one only JSON is understood.
    """

    def __init__(self, *, registry: SchemaRegistry | None = None) -> None:
        self._registry = registry

    async def decode(self, value: bytes) -> Any:
        """Return what a message holds, without its envelope.

        Parameters
        ----------
        value : `bytes`
            Avro in the registry's framing, with the nextVisit under
            ``message``, or JSON.

        Raises
        ------
        models.errors.InvalidMessage
            Raised if it is neither, or its schema is not known.
        models.errors.TemporarilyUnavailable
            Raised if the registry is needed and away.
        """
        content = await self._decode_avro(value) if value[:1] == b"\0" else _decode_json(value)
        if isinstance(content, dict) and isinstance(content.get(_ENVELOPE), dict):
            return content[_ENVELOPE]
        return content

    async def _decode_avro(self, value: bytes) -> Any:
        if len(value) < _FRAME.size:
            raise InvalidMessage("it begins like Avro and ends before the schema's id")
        if self._registry is None:
            raise InvalidMessage("it is Avro, and KAFKA_SCHEMA_REGISTRY_URL is not set")
        _, schema_id = _FRAME.unpack_from(value)
        schema = await self._registry.schema(schema_id)
        data = io.BytesIO(value[_FRAME.size :])
        try:
            content = fastavro.schemaless_reader(data, schema, None)
        except Exception as error:  # fastavro raises whatever the bytes lead it to
            raise InvalidMessage(f"it is not Avro in schema {schema_id}: {error!r}") from error
        if data.read(1):
            raise InvalidMessage(f"it is not Avro in schema {schema_id}: it goes on after its end")
        return content


def _decode_json(value: bytes) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise InvalidMessage(f"it is neither Avro nor JSON: {error}") from error
