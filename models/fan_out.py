"""What goes into and comes back from the fan-out, besides visits."""

from __future__ import annotations

__all__ = ["Answer", "NextVisitRecord", "SkipReason"]

from dataclasses import dataclass
from enum import StrEnum


class SkipReason(StrEnum):
    """Why a nextVisit is not fanned out."""

    MALFORMED = "malformed"
    UNKNOWN_SCHEMA = "unknown-schema"
    NO_INSTRUMENT = "no-instrument"
    UNSUPPORTED_INSTRUMENT = "unsupported-instrument"
    UNUSABLE = "unusable"
    STALE = "stale"
    NO_DETECTORS = "no-detectors"
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class NextVisitRecord:
    """A nextVisit as it lies on its topic.

    Attributes
    ----------
    partition, offset : `int`
        Where it lies.
    value : `bytes` or `None`
        The message.
    timestamp : `float`
        When it was put there, UTC unix seconds.
    """

    partition: int
    offset: int
    value: bytes | None
    timestamp: float

    def __str__(self) -> str:
        return f"nextVisit at partition {self.partition} offset {self.offset}"


@dataclass(frozen=True)
class Answer:
    """What came back for a visit that was sent.

    Attributes
    ----------
    status : `int` or `None`
        HTTP status; None if the connection broke before an answer, so that
        nobody knows what became of the visit.
    retry_after : `float` or `None`
        Seconds after which to send it again, as the answer says.
    detail : `str`
        What the answer says, shortened; or what went wrong.
    """

    status: int | None
    retry_after: float | None = None
    detail: str = ""
