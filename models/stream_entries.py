"""Fanned-out visits as entries of a Redis stream.

An entry is a flat map of strings with the fields of the message. Numbers are
written as Python's `repr` does, a position as ``"[ra, dec]"``; both are JSON
too, and that is how they are read.
"""

from __future__ import annotations

__all__ = ["from_stream_entry", "to_stream_entry"]

import json
from collections.abc import Mapping
from typing import Any

from models.errors import InvalidMessage
from models.versions import VERSION_FIELD
from models.visits import FannedOutVisit


def to_stream_entry(visit: FannedOutVisit) -> dict[str, str]:
    """Write a visit as an entry.

    Parameters
    ----------
    visit : `models.visits.FannedOutVisit`

    Returns
    -------
    entry : `dict` [`str`, `str`]
        Exactly the fields that are sent.
    """
    fields = visit.to_message()
    return {name: value if isinstance(value, str) else repr(value) for name, value in fields.items()}


def from_stream_entry(entry: Mapping[bytes, bytes] | Mapping[str, str]) -> FannedOutVisit:
    """Read a visit from an entry.

    Parameters
    ----------
    entry : mapping
        Names and values, as `bytes` or `str`. Unknown ones are ignored.

    Returns
    -------
    visit : `models.visits.FannedOutVisit`

    Raises
    ------
    models.errors.InvalidMessage
        Raised if a field is missing or wrong; the text names it.
    """
    fields: dict[str, Any] = {}
    for raw_name, raw_value in entry.items():
        name = _text(raw_name)
        # What is unknown today may be needed to translate the version before.
        fields[name] = _value(name, raw_value)
    return FannedOutVisit.parse(fields)


def _value(name: str, raw: bytes | str) -> Any:
    value = _text(raw)
    model_field = FannedOutVisit.model_fields.get(name)
    if model_field is not None:
        if model_field.annotation is str:
            return value
    elif name != VERSION_FIELD:
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise InvalidMessage(f"{name}: {value[:50]!r} is not a number or a list of numbers") from None


def _text(raw: bytes | str) -> str:
    # Not UTF-8 means that the value is wrong; which one the visit's own check
    # tells, if it matters at all.
    return raw.decode(errors="surrogateescape") if isinstance(raw, bytes) else raw
