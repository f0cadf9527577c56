"""What goes over the wire, seen by a real server."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_structured
from cloudevents.core.formats.json import JSONFormat

from config.instruments import find_instrument_file, load_instrument
from models.visits import FannedOutVisit
from simulator.io.cloud_events import EVENT_TYPE, CloudEventSender
from simulator.schedule import plan_simulated
from tests.simulator.conftest import START


class Server(http.server.ThreadingHTTPServer):
    """Remembers requests and gives one kind of answer."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.answer: tuple[int, dict[str, str], bytes] = (200, {}, b"{}")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    """Asks the server what to answer."""

    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, dict(self.headers), body))
        status, headers, content = self.server.answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def visit() -> FannedOutVisit:
    camera = load_instrument(find_instrument_file("DemoCam"))
    return (
        plan_simulated(seed=1, visits=1, transients=0, start=START, instrument=camera)
        .visits[0]
        .visit.fan_out(3)
    )


def test_a_visit_is_a_structured_event_with_json_in_a_string(server: Server, visit: FannedOutVisit) -> None:
    sender = CloudEventSender(url=server.url, token="secret", topic="summit.nextVisit")
    server.answer = (200, {"Content-Type": "application/json"}, b'{"title": "processed"}')
    answer = sender(visit)
    sender.close()
    assert (answer.status, answer.body) == (200, {"title": "processed"})
    path, headers, body = server.requests[0]
    assert path == "/next-visit"
    headers = {name.lower(): value for name, value in headers.items()}
    assert headers["authorization"] == "Bearer secret"
    assert headers["content-type"].startswith("application/cloudevents+json")
    event = from_structured(HTTPMessage(headers=headers, body=body), JSONFormat())
    assert event.get_type() == EVENT_TYPE == "com.example.kafka"
    assert event.get_source() == "summit.nextVisit"
    data = json.loads(body)["data"]
    assert isinstance(data, str)
    assert json.loads(data) == visit.to_message()


def test_the_path_may_be_given(server: Server, visit: FannedOutVisit) -> None:
    sender = CloudEventSender(url=f"{server.url}/behind/a/proxy")
    sender(visit)
    path, headers, _ = server.requests[0]
    assert path == "/behind/a/proxy"
    assert "Authorization" not in headers


@pytest.mark.parametrize(("value", "expected"), [("7", 7), ("", None), ("soon", None), ("-1", None)])
def test_retry_after_is_a_whole_number(
    server: Server, visit: FannedOutVisit, value: str, expected: int | None
) -> None:
    server.answer = (503, {"Retry-After": value}, b'{"title": "busy"}')
    answer = CloudEventSender(url=server.url)(visit)
    assert (answer.status, answer.retry_after) == (503, expected)


@pytest.mark.parametrize(("content", "expected"), [(b"<html>", "<html>"), (b"[1]", [1])])
def test_an_answer_that_is_no_object_is_kept(
    server: Server, visit: FannedOutVisit, content: bytes, expected: Any
) -> None:
    server.answer = (500, {}, content)
    assert CloudEventSender(url=server.url)(visit).body == {"detail": expected}


def test_a_service_that_is_not_there_is_named(server: Server, visit: FannedOutVisit) -> None:
    server.server_close()
    answer = CloudEventSender(url=server.url)(visit)
    assert answer.status is None
    assert server.url in answer.body["detail"]
