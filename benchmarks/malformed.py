"""Requests that are wrong, each in its own way."""

from __future__ import annotations

__all__ = ["KINDS", "Request"]

import json
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from models.times import tai_from_unix

_EVENT = "application/cloudevents+json"


@dataclass(frozen=True)
class Request:
    """A request to ``/next-visit``.

    Attributes
    ----------
    body : `bytes`
    headers : mapping [`str`, `str`]
    """

    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": _EVENT})


def _visit(of: str, **fields: Any) -> dict[str, Any]:
    now = tai_from_unix(time.time())
    visit = {
        "salIndex": 1,
        "scriptSalIndex": 1,
        "groupId": str(uuid.uuid4()),
        "coordinateSystem": 2,
        "position": [10.0, -5.0],
        "startTime": now,
        "rotationSystem": 2,
        "cameraAngle": 30.0,
        "filters": "r_01",
        "dome": 2,
        "duration": 1.0,
        "nimages": 1,
        "instrument": of,
        "survey": "bars",
        "totalCheckpoints": 1,
        "private_sndStamp": now,
        "detector": 0,
    }
    return {name: value for name, value in {**visit, **fields}.items() if value is not _MISSING}


_MISSING = object()


def _event(data: Any, **fields: Any) -> bytes:
    event = {"specversion": "1.0", "id": str(uuid.uuid4()), "source": "bars", "type": "com.example.kafka"}
    return json.dumps({**event, "datacontenttype": "application/json", "data": data, **fields}).encode()


def _with(**fields: Any) -> Callable[[str, int], Request]:
    """Return what makes a visit with some fields wrong, its data a string."""
    return lambda instrument, _: Request(_event(json.dumps(_visit(instrument, **fields))))


def _data(data: Any) -> Callable[[str, int], Request]:
    """Return what makes an event with these data."""
    return lambda _instrument, _number: Request(_event(data))


def _field_missing(instrument: str, number: int) -> Request:
    """Return a visit without one field or another."""
    names = sorted(_visit(instrument))
    return Request(_event(_visit(instrument, **{names[number % len(names)]: _MISSING})))


def _field_of_wrong_type(instrument: str, number: int) -> Request:
    """Return a visit with one field or another an object."""
    names = sorted(_visit(instrument))
    return Request(_event(json.dumps(_visit(instrument, **{names[number % len(names)]: {"a": number}}))))


def _enum_out_of_range(instrument: str, number: int) -> Request:
    name = ("coordinateSystem", "rotationSystem", "dome")[number % 3]
    return Request(_event(_visit(instrument, **{name: number + 5})))


def _raw(body: bytes, content_type: str = _EVENT) -> Callable[[str, int], Request]:
    return lambda _instrument, _number: Request(body, {"Content-Type": content_type})


def _cut(instrument: str, number: int) -> Request:
    """Return an event that breaks off somewhere else each time."""
    whole = _event(json.dumps(_visit(instrument)))
    return Request(whole[: 1 + number * (len(whole) - 2) // 100])


def _random_bytes(_instrument: str, number: int) -> Request:
    return Request(bytes((number * 37 + n * n * 11) % 256 for n in range(200)))


def _binary(instrument: str, _number: int) -> Request:
    """Return binary mode without the required attributes."""
    body = json.dumps(_visit(instrument)).encode()
    return Request(body, {"Content-Type": "application/json", "ce-specversion": "1.0"})


#: The listed table: makes a request of each kind from the service's instrument
#: and a running number, and says which statuses are right.
KINDS: dict[str, tuple[Callable[[str, int], Request], frozenset[int]]] = {
    "empty body": (_raw(b""), frozenset({400})),
    "no event: plain text": (_raw(b"hello", "text/plain"), frozenset({400})),
    "no event: HTML form": (_raw(b"a=b", "application/x-www-form-urlencoded"), frozenset({400})),
    "not JSON": (_raw(b"{"), frozenset({400})),
    "not UTF-8": (_raw(b"\xff\xfe{"), frozenset({400})),
    "random bytes": (_random_bytes, frozenset({400})),
    "cut off": (_cut, frozenset({400})),
    "JSON list": (_raw(b"[]"), frozenset({400})),
    "JSON null": (_raw(b"null"), frozenset({400})),
    "deeply nested": (_raw(b"[" * 30_000 + b"]" * 30_000), frozenset({400})),
    "event without attributes": (_raw(b"{}"), frozenset({400})),
    "binary mode without attributes": (_binary, frozenset({400})),
    "wrong specversion": (lambda i, _: Request(_event(_visit(i), specversion="9")), frozenset({400})),
    "no data": (_data(None), frozenset({400})),
    "data: empty string": (_data(""), frozenset({400})),
    "data: list": (_data([1]), frozenset({400})),
    "data: string that is no JSON": (_data("visit"), frozenset({400})),
    "missing field": (_field_missing, frozenset({400})),
    "empty group": (_with(groupId=""), frozenset({400})),
    "field of a wrong type": (_field_of_wrong_type, frozenset({400})),
    "negative snaps": (_with(nimages=-1), frozenset({400})),
    "enum out of range": (_enum_out_of_range, frozenset({400})),
    "NaN": (_with(cameraAngle=float("nan")), frozenset({400})),
    "infinity": (_with(duration=float("inf")), frozenset({400})),
    "position with one number": (_with(position=[1.0]), frozenset({400})),
    "declination beyond the pole": (_with(position=[0.0, 91.0]), frozenset({400})),
    "unknown schema version": (_with(schemaVersion=99), frozenset({400})),
    "detector beyond all integers": (_with(detector=10**30), frozenset({400})),
    "more than 64 KiB": (_with(survey="x" * 70_000), frozenset({413})),
    "published long ago": (_with(private_sndStamp=1.0e9), frozenset({403})),
    "another instrument": (_with(instrument="OtherCam"), frozenset({422})),
    "no instrument": (_with(instrument=""), frozenset({422})),
    "unknown detector": (_with(detector=999), frozenset({422})),
    "horizontal coordinates": (_with(coordinateSystem=3), frozenset({422})),
    "mount rotation": (_with(rotationSystem=4), frozenset({422})),
    "no pipeline for it": (_with(survey="nobody's"), frozenset({422})),
    "pipelines say to run nothing": (_with(survey="nothing"), frozenset({422})),
}
