"""Times, sizes and states as pages show them."""

from __future__ import annotations

__all__ = [
    "age",
    "day_and_clock",
    "duration",
    "file_counts",
    "file_mood",
    "files_in_words",
    "mapping",
    "size",
    "status_mood",
]

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

_MOODS = {
    "running": "good",
    "completed": "good",
    "processed": "good",
    "done": "good",
    "finished": "good",
    "OK": "good",
    "terminated": "warn",
    "WARNING": "warn",
    "cancelled": "warn",
    "closed": "warn",
    "failed": "bad",
    "ERROR": "bad",
    "CRITICAL": "bad",
}


def status_mood(status: object) -> str:
    """Return the colour of a status: ``good``, ``warn``, ``bad`` or none."""
    return _MOODS.get(str(status), "")


def file_mood(status: str, count: int) -> str:
    """Return the colour of a number of files."""
    return "bad" if count and status == "failed" else ""


def day_and_clock(time: datetime | None) -> str:
    """Return the UTC date and time of day."""
    return "" if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def age(time: datetime | None, now: datetime) -> str:
    """Return how long ago something was."""
    return "never" if time is None else duration((now - time).total_seconds())


def duration(seconds: float | None) -> str:
    """Return a duration in a unit that suits it."""
    if seconds is None:
        return ""
    seconds = max(0.0, seconds)
    for limit, unit, divisor in ((120, "s", 1), (7200, "min", 60), (172800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / divisor:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


def size(count: int | None) -> str:
    """Return a number of bytes."""
    if count is None:
        return ""
    for unit, divisor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= 10 * divisor:
            return f"{count / divisor:.0f} {unit}"
    return f"{count} B"


def file_counts(files: Mapping[str, Any]) -> dict[str, int]:
    """Return numbers of files by status, in the order of their life."""
    known = ("registered", "processing", "processed", "failed", "done")
    names = [*known[:4], *(name for name in files if name not in known[:4])]
    return {name: int(files.get(name, 0)) for name in names}


def files_in_words(count: int) -> str:
    """Return a number of files as it is said."""
    return f"{count} file{'' if count == 1 else 's'}"


def mapping(value: object) -> Mapping[str, Any]:
    """Return a JSON value that should be an object; an empty one if it is
    none: anybody may have sent it.
    """
    return value if isinstance(value, Mapping) else {}
