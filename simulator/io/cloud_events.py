"""Sends fanned-out visits to a service, as CloudEvents over HTTP."""

from __future__ import annotations

__all__ = ["EVENT_TYPE", "CloudEventSender"]

import json
import uuid
from datetime import UTC, datetime
from typing import Any

import httpx
from cloudevents.core.bindings.http import to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from models.visits import FannedOutVisit
from simulator.fan_out import Answer

#: Type of the event, as the field sends it.
EVENT_TYPE = "com.example.kafka"
#: Seconds within which a connection must come about.
_CONNECT_TIMEOUT = 10.0


class CloudEventSender:
    """Posts visits and waits for the answers, which takes minutes.

    May be used from several threads at once.

    Parameters
    ----------
    url : `str`
        Of the service, or of its ``/next-visit``.
    token : `str`, optional
        Bearer token, if the service wants one.
    topic : `str`, optional
        Source of the events.
    timeout : `float`, optional
        Seconds to wait for an answer.
    connections : `int`, optional
        Requests at once.
    """

    def __init__(
        self,
        *,
        url: str,
        token: str | None = None,
        topic: str = "next-visit",
        timeout: float = 1800.0,
        connections: int = 1024,
    ) -> None:
        target = httpx.URL(url)
        self._url = target if target.path.rstrip("/") else target.copy_with(path="/next-visit")
        self._topic = topic
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=httpx.Timeout(timeout, connect=_CONNECT_TIMEOUT),
            # A connection is held for as long as its visit takes, so keeping
            # it open for another saves nothing.
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=0),
            # The service is named by its address; a proxy in the environment
            # is for the outside world.
            trust_env=False,
        )

    def __call__(self, visit: FannedOutVisit) -> Answer:
        """Send one visit.

        Returns
        -------
        answer : `simulator.fan_out.Answer`
            Without a status if no answer came.
        """
        event = CloudEvent(
            attributes={
                "id": str(uuid.uuid4()),
                "type": EVENT_TYPE,
                "source": self._topic,
                "time": datetime.now(UTC),
                "datacontenttype": "application/json",
            },
            # In the field the data is a string that holds the JSON.
            data=json.dumps(visit.to_message()),
        )
        message = to_structured(event, JSONFormat())
        try:
            response = self._client.post(self._url, content=message.body, headers=message.headers)
        except httpx.HTTPError as error:
            return Answer(
                status=None, body={"title": "no answer", "detail": f"{self._url}: {error or repr(error)}"}
            )
        return Answer(
            status=response.status_code,
            body=_body(response),
            retry_after=_retry_after(response.headers.get("Retry-After", "")),
        )

    def close(self) -> None:
        """Close all connections."""
        self._client.close()


def _body(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {"detail": response.text}
    return body if isinstance(body, dict) else {"detail": body}


def _retry_after(value: str) -> int | None:
    return int(value) if value.isascii() and value.isdigit() else None
