"""What comes in as JSON and goes out as JSON, errors included.

Their form is that of the monitor in the field (Django REST framework): an
object of lists of texts by field for what is wrong with fields, and
``{"detail": text}`` for everything else.
"""

from __future__ import annotations

__all__ = [
    "MAX_BODY",
    "BadFields",
    "answer",
    "answer_parts",
    "asked",
    "faults_of",
    "plain_error",
    "read_body",
    "validated",
    "without_content",
]

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from flask import Response, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import BadRequest, HTTPException, UnsupportedMediaType

from models.errors import InvalidMessage
from models.streaming.strict_json import read_json

#: Largest body, bytes: some ten thousand files at once.
MAX_BODY = 16 * 1024 * 1024

_Model = TypeVar("_Model", bound=BaseModel)
Faults = dict[str, list[str]]


class BadFields(InvalidMessage):
    """Fields of a request are missing or wrong.

    Parameters
    ----------
    faults : `dict` or `list`
        Texts by field; a list of such for a list of objects.
    """

    def __init__(self, faults: Faults | list[Faults]) -> None:
        super().__init__(json.dumps(faults))
        self.faults = faults


def answer(body: Any, status: int = HTTPStatus.OK) -> Response:
    """Return a JSON answer; times and UUIDs may be in it."""
    return Response(json.dumps(body, default=_plain), status, mimetype="application/json")


def answer_parts(parts: Iterable[Sequence[Any]]) -> Response:
    """Return a list as JSON answer, which is written part by part."""

    def text() -> Iterator[str]:
        begun = False
        for part in parts:
            if part:
                lines = json.dumps(part, default=_plain)[1:-1]
                yield f", {lines}" if begun else f"[{lines}"
                begun = True
        yield "]" if begun else "[]"

    return Response(text(), HTTPStatus.OK, mimetype="application/json")


def without_content() -> Response:
    """Return the answer to what needs none."""
    return Response(status=HTTPStatus.NO_CONTENT)


def plain_error(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error that is not about fields."""
    response = answer({"detail": text}, status)
    response.headers.update(headers or {})
    return response


def read_body() -> Any:
    """Return the request's JSON; an empty object for an empty body.

    Raises
    ------
    werkzeug.exceptions.HTTPException
        Raised if it is too large, of another type or no JSON.
    """
    try:
        data = request.get_data(cache=False)
    except HTTPException:
        raise
    except Exception as error:  # the server's own, for example for a broken chunk
        raise BadRequest(f"the body cannot be read: {type(error).__name__}: {error}") from error
    if not data:
        return {}
    # A form of another site cannot send this type without asking first.
    if not request.is_json:
        raise UnsupportedMediaType(f'Unsupported media type "{request.mimetype}" in request.')
    try:
        return read_json(data)
    except ValueError as error:
        raise BadRequest(f"JSON parse error - {error}") from error


def validated(model: type[_Model], values: Any, *, zone: ZoneInfo) -> _Model:
    """Read fields.

    Parameters
    ----------
    model : `type`
        A pydantic model.
    values : `object`
        JSON, or a query.
    zone : `zoneinfo.ZoneInfo`
        That of times without one.

    Raises
    ------
    BadFields
        Raised if one is missing or wrong.
    """
    if not isinstance(values, Mapping):
        text = f"Invalid data. Expected a dictionary, but got {type(values).__name__}."
        raise BadFields({"non_field_errors": [text]})
    try:
        return model.model_validate(dict(values), context={"zone": zone})
    except ValidationError as error:
        raise BadFields(faults_of(error)) from error


def asked(model: type[_Model], *, zone: ZoneInfo) -> _Model:
    """Read the request's query. A parameter without a value is as good as
    none, as in the field.

    Raises
    ------
    BadFields
        Raised if one is wrong.
    """
    return validated(model, {name: value for name, value in request.args.items() if value}, zone=zone)


def faults_of(error: ValidationError) -> Faults:
    """Return what is wrong, by field."""
    faults: Faults = {}
    for fault in error.errors(include_url=False):
        name = str(fault["loc"][0]) if fault["loc"] else "non_field_errors"
        faults.setdefault(name, []).append(_text_of(fault))
    return faults


def _text_of(fault: Mapping[str, Any]) -> str:
    """Return what is wrong in the words of the field, for what it has words."""
    kind, context = fault["type"], fault.get("ctx", {})
    if kind == "missing":
        return "This field is required."
    if fault["input"] is None:
        return "This field may not be null."
    if kind in ("string_too_long", "too_long"):
        return f"Ensure this field has no more than {context['max_length']} characters."
    if kind == "greater_than_equal":
        return f"Ensure this value is greater than or equal to {context['ge']}."
    if kind == "less_than_equal":
        return f"Ensure this value is less than or equal to {context['le']}."
    if kind.startswith("bool_"):
        return "Must be a valid boolean."
    if kind.startswith("float_") or kind == "finite_number":
        return "A valid number is required."
    if kind == "dict_type":
        return f'Expected a dictionary of items but got type "{type(fault["input"]).__name__}".'
    return str(fault["msg"]).removeprefix("Value error, ")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Sequence):
        return [*value]
    raise TypeError(f"{type(value).__name__} has no form in JSON")
