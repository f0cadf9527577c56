"""Reading visits from CloudEvents."""

from __future__ import annotations

__all__ = ["read_visit"]

from collections.abc import Mapping

from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.http import HTTPMessage, from_binary, from_structured
from cloudevents.core.formats.json import JSONFormat

from models.errors import InvalidMessage
from models.visits import FannedOutVisit


def read_visit(headers: Mapping[str, str], body: bytes) -> FannedOutVisit:
    """Read a fanned-out visit from a CloudEvent in structured or binary mode.

    Parameters
    ----------
    headers : mapping [`str`, `str`]
        The request's headers; names in any case.
    body : `bytes`
        The request's body.

    Returns
    -------
    visit : `models.visits.FannedOutVisit`
        From the event's data: a JSON object, or a string or bytes that hold
        one.

    Raises
    ------
    models.errors.InvalidMessage
        Raised if this is not a CloudEvent, has no data, or the data are not a
        valid visit.
    """
    headers = {name.lower(): value for name, value in headers.items()}
    try:
        event = _read_event(HTTPMessage(headers=headers, body=body))
    except InvalidMessage:
        raise
    except Exception as error:  # the library lets any error of its parsing through
        raise InvalidMessage(
            f"not a CloudEvent: {type(error).__name__}: {error}; send a visit as one in structured mode "
            "(Content-Type: application/cloudevents+json) or in binary mode (headers ce-...)"
        ) from error
    data = event.get_data()
    if data is None or data == "" or data == b"":
        raise InvalidMessage("the CloudEvent has no data; it must hold a visit")
    if isinstance(data, bytearray | memoryview):
        data = bytes(data)
    return FannedOutVisit.parse(data)


def _read_event(message: HTTPMessage) -> BaseCloudEvent:
    # The content type decides (CloudEvents HTTP binding 3.1), not the headers:
    # proxies may repeat attributes of a structured event as headers.
    content_type = message.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type.startswith("application/cloudevents-batch"):
        raise InvalidMessage("batches of CloudEvents are not accepted; send one event a request")
    if not content_type.startswith("application/cloudevents") and "ce-specversion" in message.headers:
        return from_binary(message, JSONFormat())
    if not message.body:
        raise InvalidMessage("not a CloudEvent: the body is empty")
    return from_structured(message, JSONFormat())
