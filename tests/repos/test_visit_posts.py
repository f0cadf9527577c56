"""Posting visits: what is on the wire, and what answers mean."""

from __future__ import annotations

import asyncio
import json
from email.utils import formatdate
from typing import Any

import pytest

from app.web.events import read_visit
from models.errors import TemporarilyUnavailable
from models.fan_out import Answer
from models.visits import FannedOutVisit
from repos.visit_posts import CloudEventPoster, parse_retry_after
from simulator.servers.process import free_port
from tests.models.test_visits import MESSAGE
from tests.repos.answering_server import answer, answering_server

VISIT = FannedOutVisit.parse(MESSAGE)


def post(*answers: bytes | None, path: str = "/next-visit", **options: Any) -> tuple[Answer, Any, list[str]]:
    """Post a visit to a server with these answers."""

    async def run() -> tuple[Answer, Any, list[str]]:
        events: list[str] = []
        async with answering_server(*answers) as server:
            server.before_answer = lambda: events.append("received")
            poster = CloudEventPoster(topic="next-visit", **options)
            said = await poster.post(
                f"http://127.0.0.1:{server.port}{path}", VISIT, on_sent=lambda: events.append("sent")
            )
            return said, server.requests, events

    return asyncio.run(run())


def test_a_structured_event_whose_data_is_a_string_with_the_visit() -> None:
    _, [(line, headers, body)], _ = post(answer())
    assert line == "POST /next-visit HTTP/1.1"
    assert headers["content-type"].startswith("application/cloudevents+json")
    assert headers["host"].startswith("127.0.0.1:")
    assert "authorization" not in headers
    event = json.loads(body)
    assert event["type"] == "com.example.kafka"
    assert event["source"] == "next-visit"
    assert event["specversion"] == "1.0"
    assert isinstance(event["data"], str)
    assert json.loads(event["data"]) == MESSAGE
    assert read_visit(headers, body) == VISIT


def test_a_token_and_another_path() -> None:
    _, [(line, headers, _)], _ = post(answer(), path="/prefix/next-visit?a=b", token="hush")
    assert line == "POST /prefix/next-visit?a=b HTTP/1.1"
    assert headers["authorization"] == "Bearer hush"


def test_every_event_has_an_id_of_its_own() -> None:
    ids = {json.loads(post(answer())[1][0][2])["id"] for _ in range(2)}
    assert len(ids) == 2


@pytest.mark.parametrize(
    "status", ["200 OK", "409 Conflict", "422 Unprocessable", "500 Internal Server Error"]
)
def test_the_status_is_told(status: str) -> None:
    said, _, events = post(answer(status))
    assert said.status == int(status[:3])
    assert said.retry_after is None
    assert sorted(events) == ["received", "sent"]


def test_what_the_answer_says_is_kept_short() -> None:
    problem = {"title": "failed", "status": 500, "detail": "no image arrived " + "x" * 1000}
    said = post(answer("500 x", json.dumps(problem).encode()))[0]
    assert said.detail.startswith("failed: 500: no image arrived")
    assert len(said.detail) <= 300
    assert post(answer("502 x", b"<html>\xff"))[0].detail == "<html>\ufffd"
    assert post(answer("200 x", b"[" * 70_000))[0].status == 200


@pytest.mark.parametrize(
    ("value", "seconds"), [("30", 30.0), ("0", 0.0), ("", None), ("soon", None), ("-3", None), ("1.5", None)]
)
def test_retry_after(value: str, seconds: float | None) -> None:
    assert post(answer("503 x", Retry_After=value))[0].retry_after == seconds


def test_retry_after_may_be_a_date() -> None:
    assert parse_retry_after(formatdate(1000.0, usegmt=True), clock=lambda: 970.5) == 29.5
    assert parse_retry_after(formatdate(1000.0, usegmt=True), clock=lambda: 2000.0) == 0.0


def test_provisional_answers_are_passed_over() -> None:
    said = post(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + answer("201 Created"))[0]
    assert said.status == 201


def test_an_answer_without_length_ends_with_the_connection() -> None:
    assert post(b"HTTP/1.1 200 OK\r\n\r\nfine")[0] == Answer(200, None, "fine")


def test_an_answer_that_breaks_off_after_its_status_is_one() -> None:
    assert post(b"HTTP/1.1 503 x\r\nRetry-After: 7\r\nContent-Length: 90\r\n\r\n{")[0].retry_after == 7.0


@pytest.mark.parametrize("said", [None, b"", b"HTTP/1.1 2", b"nonsense\r\n\r\n", b"\x00" * 100])
def test_a_connection_that_breaks_leaves_it_open_what_became_of_the_visit(said: bytes | None) -> None:
    result, _, events = post(said)
    assert result.status is None
    assert "the connection broke" in result.detail
    assert sorted(events) == ["received", "sent"]


def test_an_answer_is_not_waited_for_without_end() -> None:
    async def run() -> Answer:
        async with answering_server(answer()) as server:
            server.release.clear()
            poster = CloudEventPoster(topic="t", answer_timeout=0.05)
            return await poster.post(f"http://127.0.0.1:{server.port}/", VISIT, on_sent=lambda: None)

    said = asyncio.run(run())
    assert said.status is None
    assert "no answer in 0.05 s" in said.detail


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/", "http://nowhere.invalid/"])
def test_without_a_connection_nothing_was_accepted(url: str) -> None:
    async def run() -> None:
        poster = CloudEventPoster(topic="t")
        sent: list[bool] = []
        target = url.format(port=free_port())
        for _ in range(2):  # also when the address is remembered
            with pytest.raises(TemporarilyUnavailable, match=target):
                await poster.post(target, VISIT, on_sent=lambda: sent.append(True))
        assert sent == []

    asyncio.run(run())


def test_an_address_that_is_silent_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = asyncio.open_connection

    async def open_connection(address: str, port: int) -> Any:
        if address == "silent":
            await asyncio.sleep(60)
        return await connect(address, port)

    async def look_up(_host: str, _port: int) -> list[str]:
        return ["silent", "127.0.0.1"]

    async def run() -> Answer:
        async with answering_server(answer()) as server:
            poster = CloudEventPoster(topic="t")
            return await poster.post(f"http://service:{server.port}/", VISIT, on_sent=lambda: None)

    monkeypatch.setattr("repos.visit_posts._CONNECT_TIMEOUT", 3.0)
    monkeypatch.setattr("repos.visit_posts._look_up", look_up)
    monkeypatch.setattr(asyncio, "open_connection", open_connection)
    assert asyncio.run(run()).status == 200


def test_many_requests_are_open_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repos.visit_posts._CONNECT_TIMEOUT", 120.0)

    async def run() -> None:
        async with answering_server(answer()) as server:
            full = asyncio.Event()
            server.before_answer = lambda: full.set() if len(server.requests) == 410 else None
            server.release.clear()
            poster = CloudEventPoster(topic="t")
            url = f"http://localhost:{server.port}/next-visit"
            tasks = [asyncio.create_task(poster.post(url, VISIT, on_sent=lambda: None)) for _ in range(410)]
            async with asyncio.timeout(60):
                await full.wait()
            assert not any(task.done() for task in tasks)
            server.release.set()
            assert {said.status for said in await asyncio.gather(*tasks)} == {200}

    asyncio.run(run())
