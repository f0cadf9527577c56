"""JSON and text as others send them, so that every database can keep them."""

from __future__ import annotations

__all__ = ["LONGEST_NAME", "read_json", "storable_text"]

import json
import math
from typing import Any

#: Levels of lists and objects within each other. Who stores them goes down
#: through all of them again, with less room on the stack.
_DEEPEST = 100

#: Characters of a name. PostgreSQL has no index for much longer ones.
LONGEST_NAME = 255


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


def storable_text(text: str, *, longest: int | None = None) -> str:
    """Return text without the characters that a database does not take, and
    no more of it than so many.

    Parameters
    ----------
    text : `str`
    longest : `int`, optional
        Characters.
    """
    return text[:longest].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number
