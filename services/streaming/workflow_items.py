"""Rows of the monitor as lists of the MCP tools show them."""

from __future__ import annotations

__all__ = ["file_item", "log_item", "message_item", "plain"]

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

Row = Mapping[str, Any]
Answer = dict[str, Any]

#: How much of a message a list shows, characters.
_SUMMARY = 200
#: How much of a line of the log, half of it from the beginning.
_LINE = 4000

_FILE_FIELDS = (
    "file_id",
    "stf_filename",
    "run_number",
    "status",
    "machine_state",
    "file_size_bytes",
    "checksum",
    "created_at",
)
_MESSAGE_FIELDS = ("message_type", "sender_agent", "namespace", "sent_at", "execution_id", "run_id")
_LOG_FIELDS = (
    "id",
    "timestamp",
    "app_name",
    "instance_name",
    "message",
    "module",
    "funcname",
    "lineno",
    "extra_data",
)


def message_item(row: Row) -> Answer:
    """Return a message, with the beginning of what it says."""
    content = row["message_content"]
    if content is None:
        # What could not be read is kept as it came.
        known = row["message_metadata"]
        text = str(known.get("text", "")) if isinstance(known, Mapping) else ""
    else:
        text = json.dumps(content)
    return {**_chosen(row, _MESSAGE_FIELDS), "payload_summary": text[:_SUMMARY]}


def file_item(row: Row) -> Answer:
    """Return an STF file."""
    return {**_chosen(row, _FILE_FIELDS), "tf_file_count": row["tf_count"]}


def log_item(row: Row) -> Answer:
    """Return a line of the log; of a very long one, beginning and end."""
    item = {**_chosen(row, _LOG_FIELDS), "level": row["levelname"]}
    if (more := len(item["message"]) - _LINE) > 0:
        half = _LINE // 2
        text = item["message"]
        item["message"] = f"{text[:half]}\n... {more} characters are left out ...\n{text[-half:]}"
    return item


def _chosen(row: Row, names: Sequence[str]) -> Answer:
    return {name: plain(row[name]) for name in names}


def plain(value: Any) -> Any:
    """Return a value as JSON has it; times get the zone UTC."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value if value is None or isinstance(value, bool | int | float) else str(value)
