"""Messages as they come, over HTTP."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from flask.testing import FlaskClient

from app.streaming.rest.stream import MessageStream
from models.streaming.monitoring import RecordedMessage
from repos.streaming.monitor_store import MonitorStore


def record(store: MonitorStore, kind: str, **fields: Any) -> None:
    body = {"msg_type": kind, **fields}
    now = datetime.now(UTC)
    store.messages.record(
        [
            RecordedMessage(
                message_type=kind, message_content=body, sent_at=now, queue_name="/topic/x", **fields
            )
        ]
    )


def events(chunks: Iterator[bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
    for chunk in chunks:
        lines = dict(line.split(": ", 1) for line in chunk.decode().strip().splitlines())
        yield lines.get("event", "message"), json.loads(lines["data"])


def test_what_comes_is_sent_on(make_client: Callable[..., FlaskClient], store: MonitorStore) -> None:
    client = make_client(stream=MessageStream(store.messages, zone=ZoneInfo("UTC")))
    record(store, "run_imminent")
    response = client.get("/api/messages/stream/?msg_types=start_run,end_run&namespace=n", buffered=False)
    assert response.mimetype == "text/event-stream"
    stream = events(iter(response.response))
    assert next(stream) == ("connected", {"status": "connected"})
    record(store, "start_run", namespace="other")
    record(store, "stf_gen", namespace="n")
    record(store, "start_run", namespace="n", run_id="1")
    record(store, "end_run", namespace="n", run_id="1")
    got = [body for _, body in itertools.islice(stream, 2)]
    assert [body["msg_type"] for body in got] == ["start_run", "end_run"]
    assert datetime.fromisoformat(got[0]["sent_at"]).tzinfo is not None
    response.close()


def test_it_ends_with_the_monitor_and_after_a_while(
    make_client: Callable[..., FlaskClient], store: MonitorStore
) -> None:
    stream = MessageStream(store.messages, zone=ZoneInfo("UTC"), longest=0)
    assert len([*events(iter(make_client(stream=stream).get("/api/messages/stream/").response))]) == 1
    stream = MessageStream(store.messages, zone=ZoneInfo("UTC"))
    stream.stop()
    assert len([*events(iter(make_client(stream=stream).get("/api/messages/stream/").response))]) == 1


def test_not_everybody_may_listen(make_client: Callable[..., FlaskClient], store: MonitorStore) -> None:
    client = make_client(stream=MessageStream(store.messages, zone=ZoneInfo("UTC")))
    listeners = [client.get("/api/messages/stream/", buffered=False) for _ in range(8)]
    assert [response.status_code for response in listeners] == [200] * 8
    refused = client.get("/api/messages/stream/")
    assert refused.status_code == 503 and "Retry-After" in refused.headers
    listeners[0].close()
    again = client.get("/api/messages/stream/", buffered=False)
    assert again.status_code == 200
    for response in [*listeners[1:], again]:
        response.close()
