"""Bars of the framework's own time, and that it changes no output."""

from __future__ import annotations

__all__ = ["equality", "overhead"]

from collections.abc import Iterator
from pathlib import Path

from benchmarks.bar import Bar, at_least, none_of
from benchmarks.equality import differences
from benchmarks.visit_overhead import measure

_VISITS = 8


def overhead(scratch: Path) -> Iterator[Bar]:
    """Ratios of the yardstick's time to ours."""
    figures = measure(_VISITS)
    note = f"yardstick {figures['baseline_ms']:.0f} ms, ours {figures['ours_ms']:.1f} ms"
    yield at_least("visit_overhead ratio", figures["ratio"], 12, note)
    note = f"ours {figures['ours_direct_ms']:.1f} ms"
    yield at_least("visit_overhead ratio_direct", figures["ratio_direct"], 7, note)


def equality(scratch: Path) -> Iterator[Bar]:
    """Our outputs against the yardstick's."""
    for form in ("memory", "full"):
        count, found = differences(scratch / form, form=form)
        yield none_of(f"outputs equal to the baseline's ({form})", found, f"{count} datasets compared")
