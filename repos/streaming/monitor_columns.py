"""Columns of the monitor's tables, as JSON has them."""

from __future__ import annotations

__all__ = ["column_schemas"]

from typing import Any

import sqlalchemy as sa

from repos.ledger_tables import UtcDateTime
from repos.streaming.monitor_rows import Resource

Schema = dict[str, Any]

_TYPES: list[tuple[type[Any], Schema]] = [
    (UtcDateTime, {"type": "string", "format": "date-time"}),
    (sa.Uuid, {"type": "string", "format": "uuid"}),
    (sa.Boolean, {"type": "boolean"}),
    (sa.Integer, {"type": "integer"}),
    (sa.Double, {"type": "number"}),
    (sa.Text, {"type": "string"}),
]


def column_schemas(resource: Resource) -> dict[str, Schema]:
    """Return the JSON Schema of each column of a resource, by name."""
    return {column.name: _schema(column) for column in resource.table.columns}


def _schema(column: sa.Column[Any]) -> Schema:
    # What is JSON may be anything.
    schema = next((dict(schema) for kind, schema in _TYPES if isinstance(column.type, kind)), {})
    if column.nullable and "type" in schema:
        schema["type"] = [schema["type"], "null"]
    return schema
