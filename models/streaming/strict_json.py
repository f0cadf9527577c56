"""JSON as others send it, read so that every database can keep it."""

from __future__ import annotations

__all__ = ["read_json"]

import json
import math
from typing import Any

#: Levels of lists and objects within each other. Who stores them goes down
#: through all of them again, with less room on the stack.
_DEEPEST = 100


def read_json(text: str | bytes) -> Any:
    """Read JSON, and nothing but JSON: no ``NaN``, no ``Infinity``, no number
    that becomes one.

    Raises
    ------
    ValueError
        Raised if it is not JSON, or nested too deeply.
    """
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            child
            for each in level
            if isinstance(each, dict | list)
            for child in (each.values() if isinstance(each, dict) else each)
            if isinstance(child, dict | list)
        ]
        if not level:
            return value
    raise ValueError(f"it is nested more than {_DEEPEST} levels deep")


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number
