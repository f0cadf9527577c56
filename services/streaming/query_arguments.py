"""What people ask about workflows with: times, levels, numbers, windows."""

from __future__ import annotations

__all__ = ["Window", "bounded", "database_number", "database_text", "file_status", "log_level", "read_time"]

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from models.errors import InvalidMessage
from models.streaming.monitoring import StfStatus
from models.streaming.strict_json import storable_text

#: Numbers beyond this are in no database (64-bit integers).
_MAX_NUMBER = 2**63 - 1
_LEVELS = {**logging.getLevelNamesMapping(), "NOTSET": 0}


def read_time(name: str, text: str | None) -> datetime | None:
    """Read a time; one without zone is UTC, a date is its beginning.

    Parameters
    ----------
    name : `str`
        Of the argument, for the error.
    text : `str` or `None`
        ISO 8601.

    Raises
    ------
    models.errors.InvalidMessage
        Raised if it is no time.
    """
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text.strip())
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidMessage(
            f"{name}: {text!r} is no time; write it like 2026-03-14T09:26:53+00:00"
        ) from error


def log_level(text: str | int | None) -> int | None:
    """Read the name or the number of a level.

    Raises
    ------
    models.errors.InvalidMessage
        Raised if there is no such level.
    """
    if text is None or text == "":
        return None
    name = str(text).strip().upper()
    if name.isascii() and name.isdigit():
        return min(int(name), _MAX_NUMBER)
    if name not in _LEVELS:
        raise InvalidMessage(
            f"level: there is no {text!r}; take one of DEBUG, INFO, WARNING, ERROR, CRITICAL"
        )
    return _LEVELS[name]


def database_number(name: str, value: int | None) -> int | None:
    """Return a number that a database can be asked for.

    Raises
    ------
    models.errors.InvalidMessage
        Raised if it is negative or has more than 64 bits.
    """
    if value is not None and not 0 <= value <= _MAX_NUMBER:
        raise InvalidMessage(f"{name}: there can be no {value}")
    return value


def file_status(text: str | None) -> str | None:
    """Read the status of STF files.

    Raises
    ------
    models.errors.InvalidMessage
        Raised if there is no such status.
    """
    if not text:
        return None
    status = text.strip().lower()
    if status not in [*StfStatus]:
        raise InvalidMessage(f"status: there is no {text!r}; take one of {', '.join(StfStatus)}")
    return status


def database_text(text: str | None) -> str | None:
    """Return text that a database can be asked for, None if there is none.

    Characters that no database takes are those that stand for them in what
    was stored.
    """
    return storable_text(text) if text else None


def bounded(limit: int | None, *, default: int, most: int) -> int:
    """Return how many may be returned.

    Raises
    ------
    models.errors.InvalidMessage
        Raised if less than one is asked for.
    """
    if limit is not None and limit < 1:
        raise InvalidMessage(f"limit: {limit} is less than 1")
    return min(default if limit is None else limit, most)


@dataclass(frozen=True)
class Window:
    """Between which times something is looked for.

    Attributes
    ----------
    start, end : `datetime.datetime` or `None`
        Aware; no bound if None.
    assumed : `bool`
        Whether nobody asked for it, so that what is outside must be told.
    """

    start: datetime | None
    end: datetime | None
    assumed: bool

    @classmethod
    def read(cls, start_time: str | None, end_time: str | None, *, hours: float, named: bool) -> Window:
        """Read a window's arguments.

        Parameters
        ----------
        start_time, end_time : `str` or `None`
            ISO 8601.
        hours : `float`
            How far back it goes if neither is given.
        named : `bool`
            Whether what is asked for was named, a run or an execution for
            example: then there is no window that was not asked for.

        Raises
        ------
        models.errors.InvalidMessage
            Raised if one is no time, or the end is before the start.
        """
        start, end = read_time("start_time", start_time), read_time("end_time", end_time)
        if start is not None and end is not None and end < start:
            raise InvalidMessage(f"end_time: {end_time} is before start_time {start_time}")
        if start is not None or end is not None or named:
            return cls(start, end, assumed=False)
        return cls(datetime.now(UTC) - timedelta(hours=hours), None, assumed=True)

    @property
    def bounds(self) -> dict[str, datetime | None]:
        """``start`` and ``end``, as arguments."""
        return {"start": self.start, "end": self.end}
