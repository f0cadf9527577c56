"""Messages of the streaming workflow against the schemas in ``docs/schemas/streaming``.

``message.schema.json`` has the schemas of all messages in it;
``python -m benchmarks.streaming_schemas`` renews it after one has changed.
"""

from __future__ import annotations

__all__ = ["EXAMPLES", "SCHEMAS", "any_message", "faults", "schema", "validate"]

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

SCHEMAS = Path(__file__).resolve().parents[1] / "docs" / "schemas" / "streaming"
EXAMPLES = SCHEMAS / "examples"
_SUFFIX = ".schema.json"


def schema(name: str) -> dict[str, Any]:
    """Return a schema by the type of message, or ``stf_file``, ``message``."""
    content: dict[str, Any] = json.loads((SCHEMAS / f"{name}{_SUFFIX}").read_text())
    return content


def any_message() -> dict[str, Any]:
    """Return what ``message.schema.json`` has to be: the schemas that it
    names, within itself, so that it needs no other file either.
    """
    content = schema("message")
    names = [entry["$ref"].removesuffix(_SUFFIX) for entry in content["oneOf"]]
    return {**content, "$defs": {name: schema(name) for name in names}}


def faults(body: object, name: str | None = None) -> list[str]:
    """Return what is wrong with a message as it was on the bus.

    Parameters
    ----------
    body : `object`
        The parsed JSON.
    name : `str`, optional
        The schema; that of the message's type if not given.
    """
    if name is None:
        name = str(body.get("msg_type")) if isinstance(body, Mapping) else "message"
        if name in {"message", "stf_file"} or not (SCHEMAS / f"{name}{_SUFFIX}").exists():
            return [f"no schema for a message of type {name!r}"]
    return [
        f"{'.'.join(map(str, error.absolute_path)) or name}: {(best_match(error.context) or error).message}"
        for error in _validator(name).iter_errors(body)
    ]


def validate(body: object, name: str | None = None) -> None:
    """Raise if a message is not as its schema says.

    Raises
    ------
    AssertionError
        Raised with every fault.
    """
    found = faults(body, name)
    assert not found, f"{found}: {json.dumps(body)}"


@functools.cache
def _validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(schema(name))


if __name__ == "__main__":
    (SCHEMAS / f"message{_SUFFIX}").write_text(json.dumps(any_message(), indent=2) + "\n")
