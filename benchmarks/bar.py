"""One promised figure, and how it is reported."""

from __future__ import annotations

__all__ = ["Bar", "BarGroup", "at_least", "at_most", "none_of", "say", "skipped"]

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Bar:
    """A figure and its limit.

    Attributes
    ----------
    bar : `str`
        Its name.
    value : `float` or `None`
        What was measured.
    limit : `str`
        What is promised.
    passed : `bool` or `None`
        Whether it holds; None if it could not be measured here.
    note : `str`
        What else a reader wants to know.
    """

    bar: str
    value: float | None
    limit: str
    passed: bool | None
    note: str = ""

    def line(self) -> str:
        """Return the figure as a line of JSON."""
        value = round(self.value, 4) if isinstance(self.value, float) else self.value
        fields = {"bar": self.bar, "value": value, "limit": self.limit, "pass": self.passed}
        return json.dumps({**fields, "note": self.note} if self.note else fields)


#: Measures some bars, with an empty directory to work in.
BarGroup = Callable[[Path], Iterator[Bar]]


def at_least(bar: str, value: float | None, limit: float, note: str = "") -> Bar:
    """Return a figure that must not be below its limit."""
    return Bar(bar, value, f">= {limit:g}", value is not None and value >= limit, note)


def at_most(bar: str, value: float | None, limit: float, note: str = "") -> Bar:
    """Return a figure that must not be above its limit."""
    return Bar(bar, value, f"<= {limit:g}", value is not None and value <= limit, note)


def none_of(bar: str, faults: list[str], note: str = "") -> Bar:
    """Return the number of faults, of which there must be none."""
    shown = "; ".join(dict.fromkeys(faults))[:500]
    return Bar(bar, len(faults), "== 0", not faults, ". ".join(filter(None, (note, shown))))


def skipped(bar: str, limit: str, why: str) -> Bar:
    """Return a figure that cannot be measured here."""
    return Bar(bar, None, limit, None, why)


def say(text: str) -> None:
    """Report progress."""
    print(text, file=sys.stderr, flush=True)
