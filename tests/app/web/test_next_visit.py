"""Every status of the contract, over a socket."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from models.times import tai_from_unix
from tests.app.web.conftest import RunningService, cloud_event
from tests.gates import Gate
from tests.visits import visit_message

STRUCTURED = {"content-type": "application/cloudevents+json"}
BINARY = {
    "ce-specversion": "1.0",
    "ce-id": "1",
    "ce-source": "rubin-prompt",
    "ce-type": "com.example.kafka",
    "content-type": "application/json",
}


def assert_problem(response: httpx.Response, status: int, title: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert body["title"] == title
    assert body["type"].endswith(title)
    assert body["detail"]
    if status == 503:
        assert int(response.headers["retry-after"]) >= 0
    return body


def test_processed(service: RunningService) -> None:
    response = service.post("a survey", groupId="processed", detector=3)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body["status"] == "processed"
    assert (body["instrument"], body["group"], body["detector"]) == ("Fake-Cam", "processed", 3)
    assert (body["outputs"], body["alerts"], body["exposures"]) == (3, 2, [1])
    assert body["timings"]["total"] == 0.1


@pytest.mark.parametrize("form", ["object", "string", "base64"])
def test_structured_mode(service: RunningService, form: str) -> None:
    message = visit_message()
    text = json.dumps(message)
    event = {
        "object": cloud_event(message),
        "string": cloud_event(text),
        "base64": {k: v for k, v in cloud_event("").items() if k != "data"}
        | {"data_base64": base64.b64encode(text.encode()).decode()},
    }[form]
    assert service.client.post("/next-visit", json=event, headers=STRUCTURED).status_code == 200


@pytest.mark.parametrize("content_type", ["application/json", "application/octet-stream", "text/plain"])
@pytest.mark.parametrize("twice", [False, True])
def test_binary_mode(service: RunningService, content_type: str, twice: bool) -> None:
    text = json.dumps(visit_message())
    body = json.dumps(text) if twice else text
    if twice and content_type != "application/json":
        pytest.skip("a string within text is text")
    headers = BINARY | {"content-type": content_type}
    assert service.client.post("/next-visit", content=body, headers=headers).status_code == 200


def test_unknown_fields_are_ignored(service: RunningService) -> None:
    message = visit_message(private_efdStamp=1.0, something_new={"a": [1]})
    response = service.client.post("/next-visit", json=cloud_event(message), headers=STRUCTURED)
    assert response.status_code == 200


def test_already_processed(service: RunningService) -> None:
    first = service.post("visits", groupId="twice")
    again = service.post("visits", groupId="twice")
    assert again.status_code == 200
    assert again.json() == {**first.json(), "status": "already-processed"}
    assert service.post("visits", groupId="twice", detector=1).json()["status"] == "processed"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"detector": None}, "detector"),
        ({"detector": "one"}, "detector"),
        ({"coordinateSystem": 9}, "coordinateSystem"),
        ({"position": [1.0]}, "position"),
        ({"position": [1.0, 91.0]}, "position"),
        ({"cameraAngle": float("nan")}, "cameraAngle"),
        ({"position": [float("inf"), 0.0]}, "position"),
        ({"duration": -1.0}, "duration"),
        ({"groupId": ""}, "groupId"),
        ({"groupId": "\ud800"}, "groupId"),
        ({"salIndex": 1.5}, "salIndex"),
        ({"schemaVersion": 3}, "schemaVersion"),
    ],
)
def test_wrong_field_is_named(service: RunningService, fields: dict[str, Any], named: str) -> None:
    message = visit_message(**fields)
    for data in (message, json.dumps(message)):
        content = json.dumps(cloud_event(data))
        response = service.client.post("/next-visit", content=content, headers=STRUCTURED)
        assert named in assert_problem(response, 400, "invalid-message")["detail"]


def test_missing_fields_are_all_named(service: RunningService) -> None:
    message = visit_message()
    del message["survey"], message["dome"]
    response = service.client.post("/next-visit", json=cloud_event(message), headers=STRUCTURED)
    detail = assert_problem(response, 400, "invalid-message")["detail"]
    assert "survey" in detail
    assert "dome" in detail


def test_stale(service: RunningService) -> None:
    response = service.post("", private_sndStamp=tai_from_unix(time.time()) - 3610)
    body = assert_problem(response, 403, "stale-visit")
    assert body["group"].startswith("group-")
    # The stamp is TAI. Taken for UTC, this one would not be stale yet.
    assert service.post("", private_sndStamp=time.time() - 3600 + 10).status_code == 403
    assert service.post("", private_sndStamp=time.time() - 3600 + 300).status_code == 200


def test_in_progress(service: RunningService, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as threads, Gate(tmp_path) as gate:
        first = threads.submit(service.post, gate.step, groupId="slow")
        service.wait_until(service.busy_slots)
        assert_problem(service.post(gate.step, groupId="slow"), 409, "already-in-progress")
        gate.open()
        assert first.result().status_code == 200


@pytest.mark.parametrize(
    ("fields", "title"),
    [
        ({"coordinateSystem": 3}, "unusable-visit"),
        ({"rotationSystem": 4}, "unusable-visit"),
        ({"instrument": "OtherCam"}, "unusable-visit"),
        ({"instrument": ""}, "unusable-visit"),
        ({"detector": 99}, "unusable-visit"),
        ({"steps": "nothing"}, "no-pipeline-applies"),
    ],
)
def test_unusable(service: RunningService, fields: dict[str, Any], title: str) -> None:
    assert_problem(service.post(**fields), 422, title)


def test_refused_visits_leave_no_row(service: RunningService) -> None:
    service.post("nothing", groupId="refused")
    assert service.client.get("/api/visits/Fake-Cam/refused/0").status_code == 404


def test_failed(service: RunningService) -> None:
    body = assert_problem(service.post("raise", groupId="bad"), 500, "failed")
    assert body["outputs"] == 1
    assert body["reason"] == "TaskFailed"
    assert "NOT" not in body["detail"]
    # It may be sent again.
    assert service.post("", groupId="bad").status_code == 200
    assert service.client.get("/api/visits/Fake-Cam/bad/0").json()["attempts"] == 2


def test_memory_error_is_failed(service: RunningService) -> None:
    assert_problem(service.post("eat"), 500, "failed")


@pytest.mark.parametrize("death", ["kill-self", "segfault", "abort"])
def test_dead_slot_is_interrupted(service: RunningService, death: str) -> None:
    body = assert_problem(service.post(f"stage:waiting {death}", groupId=death), 503, "interrupted")
    assert body["group"] == death
    assert service.post("", groupId=death).status_code == 200


def test_not_initialised_is_interrupted(service: RunningService) -> None:
    body = assert_problem(service.post("not-initialised"), 503, "interrupted")
    assert "prompt-processing init" in body["detail"]


def test_not_retriable_stays_so(service: RunningService) -> None:
    first = service.post("stage:executing=2 kill-self", groupId="spoilt")
    body = assert_problem(first, 500, "not-retriable")
    assert "should NOT be retried" in body["detail"]
    assert service.post("", groupId="spoilt").json() == body


def test_too_large(service: RunningService) -> None:
    big = json.dumps(cloud_event(visit_message(survey="x" * 70_000)))
    assert_problem(service.client.post("/next-visit", content=big, headers=STRUCTURED), 413, "too-large")

    def chunks() -> Any:
        for start in range(0, len(big), 8192):
            yield big[start : start + 8192].encode()

    chunked = service.client.post("/next-visit", content=chunks(), headers=STRUCTURED)
    assert_problem(chunked, 413, "too-large")
    small = [json.dumps(cloud_event(visit_message())).encode()]
    assert service.client.post("/next-visit", content=iter(small), headers=STRUCTURED).status_code == 200


def test_token(start_service: Callable[..., RunningService]) -> None:
    service = start_service(token="s3cret")
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic s3cret"}):
        response = service.post("", headers=headers)
        assert_problem(response, 401, "unauthorised")
        assert response.headers["www-authenticate"] == "Bearer"
    strange = {"Authorization": "Bearer sécret".encode("latin-1")}
    assert service.client.post("/next-visit", headers=strange).status_code == 401
    assert service.post("", headers={"Authorization": "Bearer s3cret"}).status_code == 200
    assert service.client.get("/ready").status_code == 200


def test_a_token_beyond_ascii(start_service: Callable[..., RunningService]) -> None:
    service = start_service(token="sésame")
    for presented, status in (("sésame", 200), ("sesame", 401)):
        headers = {b"Authorization": f"Bearer {presented}".encode()}
        assert service.post("", headers=headers).status_code == status


def test_busy(start_service: Callable[..., RunningService], tmp_path: Path) -> None:
    service = start_service(slots=1, queue_timeout=0.2, queue_length=1)
    with ThreadPoolExecutor(1) as threads, Gate(tmp_path) as gate:
        first = threads.submit(service.post, gate.step)
        service.wait_until(service.busy_slots)
        body = assert_problem(service.post("", groupId="late"), 503, "interrupted")
        assert body["reason"] == "ServiceBusy"
        assert service.client.get("/api/visits/Fake-Cam/late/0").json()["state"] == "interrupted"
        gate.open()
        assert first.result().status_code == 200
    assert service.post("", groupId="late").status_code == 200


def test_time_limit(start_service: Callable[..., RunningService]) -> None:
    service = start_service(timeout=0.4, grace=0.4)
    for steps in ("sleep:600", "ignore-sigterm sleep:600"):
        body = assert_problem(service.post(steps), 503, "interrupted")
        assert "0.4 s" in body["detail"]
    # A machine may be too busy for a visit in 0.4 s.
    service.wait_until(lambda: service.post("").status_code == 200)


def test_ledger_away(start_service: Callable[..., RunningService]) -> None:
    service = start_service()
    away = service.directory / "away"
    away.touch()
    body = assert_problem(service.post("", groupId="lost"), 500, "not-retriable")
    assert "could not be recorded" in body["detail"]
    assert service.client.get("/ready").json()["degraded"] == ["ledger: the ledger is away"]
    # Nothing was changed by this one, and it says so all the same.
    assert_problem(service.post("kill-self"), 503, "interrupted")
    away.unlink()
    assert service.post("").status_code == 200
    assert service.client.get("/ready").json()["degraded"] == []


def test_next_visit_after_the_parent_died(start_service: Callable[..., RunningService]) -> None:
    service = start_service(slots=1)
    worker = service.worker()
    worker.kill()
    service.wait_until(lambda: not worker.is_running())
    service.wait_until(service.is_ready)
    assert service.post("").status_code == 200
    # Master, template, worker and one slot: nothing of the old ones.
    service.wait_until(lambda: len(service.processes()) == 4)
