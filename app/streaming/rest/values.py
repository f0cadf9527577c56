"""Values of fields, as they come in."""

from __future__ import annotations

__all__ = ["Count", "Free", "Integer", "Json", "Label", "Moment", "Name", "Number", "Uuid"]

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from models.streaming.strict_json import LONGEST_NAME

#: Integers that the databases have.
_MAX = 2**63 - 1
#: Times that the databases have, wherever they are.
_FIRST = datetime(1, 1, 3, tzinfo=UTC)
_LAST = datetime(9999, 12, 30, tzinfo=UTC)


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("Null characters are not allowed.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("Not a valid string.") from None
    return text


def _string(value: Any) -> Any:
    # As in the field, numbers are taken for text.
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise ValueError("Not a valid string.")
    return value


def _not_blank(text: str) -> str:
    if not text:
        raise ValueError("This field may not be blank.")
    return text


def _integer(value: Any) -> int:
    try:
        if isinstance(value, bool):
            raise ValueError
        number = int(str(value)) if isinstance(value, str | int) else None
    except ValueError:
        number = None
    if number is None:
        raise ValueError("A valid integer is required.")
    if not -_MAX <= number <= _MAX:
        raise ValueError("Integer value too large to convert to 64 bits.")
    return number


def _not_negative(number: int) -> int:
    if number < 0:
        raise ValueError("Ensure this value is greater than or equal to 0.")
    return number


def _moment(value: Any, info: ValidationInfo) -> datetime:
    """Read a time; one without a zone is in the monitor's."""
    try:
        if not isinstance(value, str):
            raise ValueError
        # After date and time, a space was a plus sign before a URL had it.
        day, time = value.strip()[:10], value.strip()[10:]
        moment = datetime.fromisoformat(f"{day}{time[:1]}{time[1:].replace(' ', '+')}")
        if moment.tzinfo is None:
            zone: ZoneInfo = (info.context or {})["zone"]
            moment = moment.replace(tzinfo=zone)
        moment = moment.astimezone(UTC)
        # The first and the last day are in no year elsewhere, and a database
        # may show times as they are elsewhere.
        if not _FIRST <= moment < _LAST:
            raise ValueError
        return moment
    except (ValueError, OverflowError):
        raise ValueError(
            "Datetime has wrong format. Use one of these formats instead: "
            "YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z]."
        ) from None


def _uuid(value: Any) -> UUID:
    try:
        return UUID(str(value))
    except ValueError:
        raise ValueError("Must be a valid UUID.") from None


#: Text that names something.
Name = Annotated[
    str,
    BeforeValidator(_string),
    AfterValidator(_not_blank),
    AfterValidator(_storable),
    Field(max_length=LONGEST_NAME, json_schema_extra={"minLength": 1}),
]
#: Text that may name something.
Label = Annotated[str, BeforeValidator(_string), AfterValidator(_storable), Field(max_length=LONGEST_NAME)]
#: Text of any length.
Free = Annotated[str, BeforeValidator(_string), AfterValidator(_storable)]
Integer = Annotated[
    int, BeforeValidator(_integer), Field(json_schema_extra={"minimum": -_MAX, "maximum": _MAX})
]
Count = Annotated[
    int,
    BeforeValidator(_integer),
    AfterValidator(_not_negative),
    Field(json_schema_extra={"minimum": 0, "maximum": _MAX}),
]
Number = Annotated[float, Field(allow_inf_nan=False)]
#: Aware, UTC.
Moment = Annotated[datetime, BeforeValidator(_moment)]
Uuid = Annotated[UUID, BeforeValidator(_uuid)]
#: Whatever JSON may be.
Json = Any
