"""Notifications of an object store: what has arrived in which bucket.

The form is that of S3 events, which Ceph and MinIO send too. A message may
hold several records; each is judged for itself.
"""

from __future__ import annotations

__all__ = ["CreatedObject", "read_notification", "same_bucket"]

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_plus

from pydantic import BaseModel, Field, ValidationError, field_validator

_log = logging.getLogger(__name__)

#: What the names of events begin with that bring an object. MinIO, and older
#: Ceph, put the service's name before it.
_CREATED = re.compile(r"(s3:)?ObjectCreated")
#: What separates a tenant from its bucket: in S3 requests, and as Ceph prints it.
_TENANT = re.compile(r"[:/]")
#: Bytes of a message that are shown when it is malformed.
_SHOWN = 300


@dataclass(frozen=True)
class CreatedObject:
    """An object that has come to be, as a notification tells.

    Attributes
    ----------
    bucket : `str`
        As sent; a tenant may be part of it.
    key : `str`
        As sent; it may be URL-encoded.
    time : `float` or `None`
        When the object was complete, UTC unix time in seconds.
    version : `tuple` [`str`, ...]
        Changes when an object is replaced; empty strings if not told.
    """

    bucket: str
    key: str
    time: float | None
    version: tuple[str, ...]

    @property
    def decoded_key(self) -> str | None:
        """The key URL-decoded; None if that is the same or no text."""
        try:
            decoded = unquote_plus(self.key, errors="strict")
        except UnicodeDecodeError:
            return None
        return decoded if decoded != self.key else None


class _Object(BaseModel):
    key: str = Field(min_length=1)
    eTag: Any = None
    sequencer: Any = None

    @field_validator("key")
    @classmethod
    def _is_text(cls, value: str) -> str:
        # JSON can spell halves of characters, which no server can be asked
        # for, and what no file can be named.
        value.encode()
        if "\0" in value:
            raise ValueError("the key holds a NUL")
        return value


class _Bucket(BaseModel):
    name: str


class _Storage(BaseModel):
    bucket: _Bucket
    object: _Object


class _Record(BaseModel):
    eventName: str
    eventTime: Any = None
    s3: _Storage


def read_notification(message: bytes | None) -> Iterator[CreatedObject]:
    """Read a message of a bucket's topic.

    Parameters
    ----------
    message : `bytes` or `None`

    Yields
    ------
    created : `CreatedObject`
        One for each record of a new object. Records of other events are
        skipped, and malformed ones with a warning, one by one.
    """
    try:
        content = json.loads(message or b"")
    except (ValueError, RecursionError) as error:
        _skip("a message that is not JSON", message, error)
        return
    records = content.get("Records") if isinstance(content, dict) else None
    if not isinstance(records, list):
        if isinstance(content, dict) and content.get("Event") == "s3:TestEvent":
            _log.debug("The bucket's notifications were set up or tested.")
        else:
            _skip("a message without Records", message, None)
        return
    for record in records:
        try:
            parsed = _Record.model_validate(record)
        except (ValidationError, RecursionError) as error:
            if not _is_other_event(record):
                _skip("a malformed record", message, error)
            continue
        if _CREATED.match(parsed.eventName):
            stored = parsed.s3.object
            yield CreatedObject(
                bucket=parsed.s3.bucket.name,
                key=stored.key,
                time=_unix_time(parsed.eventTime),
                version=tuple(map(_text, (stored.eTag, stored.sequencer, parsed.eventTime))),
            )
        else:
            _log.debug("Not an arrival: %s of %r", parsed.eventName, parsed.s3.object.key)


def same_bucket(sent: str, wanted: str) -> bool:
    """Say whether a notification is about a bucket.

    Parameters
    ----------
    sent : `str`
        As the notification names it: not all servers tell the tenant.
    wanted : `str`
        As configured, ``bucket`` or ``tenant:bucket``.
    """
    *sent_tenant, sent_name = _TENANT.split(sent)
    *wanted_tenant, wanted_name = _TENANT.split(wanted)
    if sent_name != wanted_name:
        return False
    return not sent_tenant or sent_tenant == wanted_tenant or (sent_tenant == [""] and not wanted_tenant)


def _is_other_event(record: Any) -> bool:
    name = record.get("eventName") if isinstance(record, dict) else None
    return isinstance(name, str) and _CREATED.match(name) is None


def _skip(what: str, message: bytes | None, error: Exception | None) -> None:
    shown = (message or b"")[:_SHOWN]
    reason = f" ({' '.join(str(error).split())[:_SHOWN]})" if error else ""
    _log.warning("Skipped %s on the topic of bucket notifications%s: %r", what, reason, shown)


def _unix_time(value: Any) -> float | None:
    try:
        time = datetime.fromisoformat(value)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
