"""Messages of the bus as they come: server-sent events."""

from __future__ import annotations

__all__ = ["MessageStream"]

import json
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any
from zoneinfo import ZoneInfo

from flask import Blueprint, Response

from app.streaming.rest.answers import asked, plain_error
from app.streaming.rest.queries import StreamQuery
from models.errors import TemporarilyUnavailable
from repos.streaming.monitor_messages import MessageStore

#: Who may listen at once; each has a thread of the server.
_LISTENERS = 8
#: Seconds between looks for messages, between signs of life, and that anybody
#: may listen until they have to ask again.
_LOOK = 0.5
_ALIVE = 15.0
_LONGEST = 900.0
#: Messages that are sent at once.
_HANDFUL = 500


class MessageStream:
    """Sends messages of the bus to who listens.

    Parameters
    ----------
    messages : `repos.streaming.monitor_messages.MessageStore`
    zone : `zoneinfo.ZoneInfo`
    longest : `float`, optional
        Seconds that anybody may listen.
    """

    def __init__(self, messages: MessageStore, *, zone: ZoneInfo, longest: float = _LONGEST) -> None:
        self._messages = messages
        self._zone = zone
        self._longest = longest
        self._places = threading.BoundedSemaphore(_LISTENERS)
        self._stopping = threading.Event()

    def register(self, blueprint: Blueprint) -> None:
        """Add the view to a blueprint."""
        blueprint.add_url_rule("/messages/stream/", "message-stream", self.listen, strict_slashes=False)

    def stop(self) -> None:
        """Let nobody listen any more."""
        self._stopping.set()

    def listen(self) -> Response:
        """Send messages that come from now on."""
        query = asked(StreamQuery, zone=self._zone)
        start = self._messages.latest()
        if not self._places.acquire(blocking=False):
            return plain_error(
                HTTPStatus.SERVICE_UNAVAILABLE, f"{_LISTENERS} others listen already.", {"Retry-After": "30"}
            )
        events = _Listener(self._places, self._events(query, start))
        response = Response(events, mimetype="text/event-stream")
        response.headers["Cache-Control"] = "no-cache"
        response.headers["X-Accel-Buffering"] = "no"
        return response

    def _events(self, query: StreamQuery, after: int) -> Iterator[str]:
        yield _event({"status": "connected"}, name="connected")
        begun = alive = time.monotonic()
        kinds = _split(query.msg_types)
        agents, runs = _split(query.agents), _split(query.run_ids)
        while time.monotonic() - begun < self._longest and not self._stopping.wait(_LOOK):
            try:
                page = self._messages.following(
                    after,
                    message_types=kinds,
                    sender_agents=agents,
                    run_ids=runs,
                    namespace=query.namespace,
                    execution_id=query.execution_id,
                    limit=_HANDFUL,
                )
            except TemporarilyUnavailable:
                continue
            for row in page:
                after = row["received_order"]
                alive = time.monotonic()
                yield _event(
                    {**(row["message_content"] or {}), "sent_at": row["sent_at"].isoformat()},
                )
            if time.monotonic() - alive > _ALIVE:
                alive = time.monotonic()
                yield _event({"status": "alive"}, name="heartbeat")


class _Listener:
    """Events for one who listens; gives the place back at the end, also if it
    went away before the first.
    """

    def __init__(self, places: threading.BoundedSemaphore, events: Iterator[str]) -> None:
        self._places = places
        self._events = events
        self._closed = False

    def __iter__(self) -> Iterator[str]:
        return self._events

    def close(self) -> None:
        """Give the place back; the server calls this."""
        if not self._closed:
            self._closed = True
            self._places.release()


def _event(body: dict[str, Any], *, name: str | None = None) -> str:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(body)}\n\n"


def _split(text: str | None) -> list[str] | None:
    return [part.strip() for part in text.split(",") if part.strip()] if text else None
