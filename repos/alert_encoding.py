"""Alerts as bytes: one datum an alert, made once, in whatever wrapping.

The same alerts go into a file, into messages and into a dataset of the central
repo; only the wrapping differs.
"""

from __future__ import annotations

__all__ = ["alert_datums", "alert_file_bytes", "datums_to_file", "with_schema_id"]

import hashlib
import io
import struct
from collections.abc import Iterable, Sequence

import fastavro
from fastavro.io.binary_encoder import BinaryEncoder

from models.alerts import AlertPackets
from repos.alert_schema import load_alert_schema


def alert_datums(packets: AlertPackets) -> Sequence[bytes]:
    """Return each alert as a bare Avro datum, encoding them at most once."""
    schema = load_alert_schema(packets.schema_version)

    def encode(packet: object) -> bytes:
        buffer = io.BytesIO()
        fastavro.schemaless_writer(buffer, schema, packet)
        return buffer.getvalue()

    return packets.encoded(encode)


def alert_file_bytes(packets: AlertPackets) -> bytes:
    """Return alerts as the bytes of an Avro object container file; equal
    alerts give equal bytes.
    """
    return datums_to_file(alert_datums(packets), packets.schema_version)


def datums_to_file(datums: Iterable[bytes], schema_version: str) -> bytes:
    """Return encoded alerts as an Avro object container file.

    The header, with the schema, is written by fastavro; a block is a number
    of objects, a number of bytes, the bytes, and the file's marker (Avro 1.11
    specification, "Object Container Files").

    Parameters
    ----------
    datums : iterable of `bytes`
    schema_version : `str`
        Version of their schema, ``major.minor``.
    """
    buffer = io.BytesIO()
    # A marker that depends on the version alone: equal alerts, equal bytes.
    marker = hashlib.md5(schema_version.encode(), usedforsecurity=False).digest()
    fastavro.writer(buffer, load_alert_schema(schema_version), [], sync_marker=marker)
    encoder = BinaryEncoder(buffer)
    for datum in datums:
        encoder.write_long(1)
        encoder.write_long(len(datum))
        buffer.write(datum)
        buffer.write(marker)
    return buffer.getvalue()


def with_schema_id(datum: bytes, schema_id: int) -> bytes:
    """Return a datum in Confluent's wire format: a zero byte, the schema's id
    in four bytes, most significant first, and the datum.
    """
    return struct.pack(">bI", 0, schema_id) + datum
