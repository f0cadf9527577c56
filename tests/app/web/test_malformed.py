"""No request, however malformed, is answered with a 5xx or disturbs the next."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from tests.app.web.conftest import RunningService, cloud_event
from tests.visits import visit_message

_EVENT = "application/cloudevents+json"


def _event(**fields: Any) -> str:
    return json.dumps(cloud_event(visit_message(), **fields))


def _data(**fields: Any) -> str:
    return json.dumps(cloud_event(json.dumps(visit_message(**fields))))


#: Name -> (content type, other headers, body).
MALFORMED: dict[str, tuple[str | None, dict[str, str], bytes | str]] = {
    "empty": (_EVENT, {}, b""),
    "no content type": (None, {}, b"hello"),
    "not json": (_EVENT, {}, b"{"),
    "not utf-8": (_EVENT, {}, b"\xff\xfe\x00{"),
    "utf-16": (_EVENT, {}, _event().encode("utf-16")),
    "nul": (_EVENT, {}, b"\0" * 100),
    "list": (_EVENT, {}, b"[]"),
    "number": (_EVENT, {}, b"1"),
    "null": (_EVENT, {}, b"null"),
    "string": (_EVENT, {}, b'"text"'),
    "deep": (_EVENT, {}, b"[" * 30_000 + b"]" * 30_000),
    "deep object": (_EVENT, {}, b'{"a":' * 9_000 + b"1" + b"}" * 9_000),
    "deep data": (_EVENT, {}, json.dumps(cloud_event("[" * 30_000))),
    "empty object": (_EVENT, {}, b"{}"),
    "no data": (_EVENT, {}, json.dumps({k: v for k, v in cloud_event(1).items() if k != "data"})),
    "null data": (_EVENT, {}, json.dumps(cloud_event(None))),
    "empty data": (_EVENT, {}, json.dumps(cloud_event(""))),
    "list data": (_EVENT, {}, json.dumps(cloud_event([1]))),
    "number data": (_EVENT, {}, json.dumps(cloud_event(5))),
    "false data": (_EVENT, {}, json.dumps(cloud_event(False))),
    "text data": (_EVENT, {}, json.dumps(cloud_event("hello"))),
    "bad base64": (_EVENT, {}, json.dumps({**cloud_event(None), "data_base64": "!!"})),
    "base64 number": (_EVENT, {}, json.dumps({**cloud_event(None), "data_base64": 7})),
    "no id": (_EVENT, {}, _event(id="")),
    "odd id": (_EVENT, {}, _event(id=[1])),
    "odd specversion": (_EVENT, {}, _event(specversion="9.9")),
    "listed specversion": (_EVENT, {}, _event(specversion=["1.0"])),
    "object specversion": (_EVENT, {}, _event(specversion={"a": 1})),
    "odd time": (_EVENT, {}, _event(time="yesterday")),
    "number time": (_EVENT, {}, _event(time=5)),
    "odd extension": (_EVENT, {}, _event(**{"UPPER-case": 1})),
    "batch": ("application/cloudevents-batch+json", {}, f"[{_event()}]"),
    "avro": ("application/cloudevents+avro", {}, b"\x00\x01"),
    "html": ("text/html", {}, b"<p>"),
    "form": ("application/x-www-form-urlencoded", {}, b"a=b&c=d"),
    "multipart": ("multipart/form-data; boundary=x", {}, b"--x\r\n\r\n--x--"),
    "odd charset": (_EVENT + "; charset=klingon", {}, b"{"),
    "bare visit": ("application/json", {}, json.dumps(visit_message())),
    "binary without attributes": ("application/json", {"ce-specversion": "1.0"}, json.dumps(visit_message())),
    "binary with an odd time": ("application/json", {"ce-specversion": "1.0", "ce-time": "?"}, b"{}"),
    "nan": (_EVENT, {}, _data(cameraAngle=float("nan"))),
    "infinity": (_EVENT, {}, _data(startTime=float("-inf"))),
    "huge float": (_EVENT, {}, _event().replace('"duration": 30.0', '"duration": 1e999')),
    "huge int": (_EVENT, {}, _event().replace('"duration": 30.0', f'"duration": {"9" * 400}')),
    "endless int": (_EVENT, {}, _event().replace('"salIndex": 1', f'"salIndex": {"9" * 9000}')),
    "bool": (_EVENT, {}, _data(nimages="true")),
    "surrogate": (_EVENT, {}, _data(survey="\udfff")),
    "object group": (_EVENT, {}, _data(groupId={"a": 1})),
    "enum": (_EVENT, {}, _data(dome=17)),
    "position": (_EVENT, {}, _data(position="[1, 2]")),
    "version": (_EVENT, {}, _data(schemaVersion="two")),
    "huge version": (_EVENT, {}, _data(schemaVersion=10**400)),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_body_is_a_bad_request(service: RunningService, kind: str) -> None:
    content_type, headers, body = MALFORMED[kind]
    if content_type is not None:
        headers = {**headers, "content-type": content_type}
    rows = service.client.get("/api/visits").json()
    response = service.client.post("/next-visit", content=body, headers=headers)
    assert response.status_code == 400, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["title"] == "invalid-message"
    assert service.client.get("/api/visits").json() == rows


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/next-visit", 405),
        ("PUT", "/next-visit", 405),
        ("HEAD", "/next-visit", 405),
        ("OPTIONS", "/next-visit", 405),
        ("POST", "/health", 405),
        ("DELETE", "/api/visits", 405),
        ("BREW", "/health", 405),
        ("GET", "/nowhere", 404),
        ("POST", "/next-visit/", 404),
        ("GET", "//api/visits", 404),
        ("GET", "/api/visits/a/b/c", 404),
        ("GET", "/api/visits/a/b/-1", 404),
        ("GET", f"/api/visits/a/b/{2**63}", 404),
        ("GET", "/api/visits/Fake-Cam/%00/0", 404),
        ("GET", "/api/visits/Fake-Cam/%ff%fe/0", 404),
        ("GET", "/static/../../etc/passwd", 404),
        ("GET", "/api/visits?limit=0", 400),
        ("GET", "/api/visits?limit=many", 400),
        ("GET", "/api/visits?day_obs=1", 400),
        ("GET", f"/api/visits?day_obs={'9' * 3000}", 400),
    ],
)
def test_wrong_request(service: RunningService, method: str, path: str, status: int) -> None:
    response = service.client.request(method, path)
    assert response.status_code == status
    if method != "HEAD":
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["status"] == status
    if status == 405:
        assert response.headers["allow"]


@pytest.mark.parametrize(
    "request_text",
    [
        b"\x16\x03\x01\x02\x00",
        b"GET\r\n\r\n",
        b"POST /next-visit HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
        b"POST /next-visit HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /next-visit HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nshort",
        b"POST /next-visit HTTP/9.9\r\n\r\n",
    ],
)
def test_broken_http_disturbs_nobody(service: RunningService, request_text: bytes) -> None:
    host, _, port = service.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(request_text)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(4096)
    assert not answer.startswith((b"HTTP/1.1 2", b"HTTP/1.1 500"))
    assert service.client.get("/health").status_code == 200
