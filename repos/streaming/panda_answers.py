"""What PanDA's answers about jobs mean."""

from __future__ import annotations

__all__ = ["panda_diagnosis", "panda_time"]

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

#: Fields of a job that may say what went wrong.
_DIAGNOSES = (
    "pilotErrorDiag",
    "exeErrorDiag",
    "taskBufferErrorDiag",
    "jobDispatcherErrorDiag",
    "ddmErrorDiag",
    "brokerageErrorDiag",
    "supErrorDiag",
)


def panda_diagnosis(job: Mapping[str, Any]) -> str | None:
    """Return what went wrong with a job; None if nobody said."""
    return "; ".join(str(job[name]) for name in _DIAGNOSES if job.get(name)) or None


def panda_time(value: Any) -> datetime | None:
    """Return a time of PanDA's, which are UTC without saying so; None if it is
    none.
    """
    try:
        time = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
