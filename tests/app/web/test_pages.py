from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.app.web.conftest import RunningService
from tests.gates import Gate


def metrics(service: RunningService) -> dict[str, float]:
    text = service.client.get("/metrics").text
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    return {s.name + "".join(f":{v}" for v in s.labels.values()): s.value for s in samples}


def test_health_and_ready(service: RunningService) -> None:
    service.wait_until(service.is_ready)
    assert service.client.get("/health").json() == {"status": "ok"}
    ready = service.client.get("/ready").json()
    assert ready["status"] == "ready"
    assert ready["deployment_id"] == "fake-1"
    assert [s["number"] for s in ready["slots"]] == [0, 1]


def test_metrics_have_the_names_of_the_field(service: RunningService, tmp_path: Path) -> None:
    before = metrics(service)
    service.post("")
    service.post("raise")
    service.post("nothing")
    after = metrics(service)

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grown("fake_cam_next_visit_messages") == 3
    assert after["fake_cam_prompt_processing_in_process_requests"] == 0
    assert grown("request_processing_seconds_count") == 2
    assert grown("prompt_processing_visits_total:processed") == 1
    assert grown("prompt_processing_visits_total:failed") == 1
    assert grown("prompt_processing_visits_total:no-pipeline-applies") == 1
    assert grown("prompt_processing_alerts_total") == 2
    with ThreadPoolExecutor(1) as threads, Gate(tmp_path) as gate:
        running = threads.submit(service.post, gate.step)
        service.wait_until(service.busy_slots)
        busy = metrics(service)
        gate.open()
        running.result()
    assert busy["fake_cam_prompt_processing_instances_running"] == 2
    assert busy["fake_cam_prompt_processing_instances_processing"] == 1
    assert busy["fake_cam_prompt_processing_in_process_requests"] == 1


def test_visits(service: RunningService) -> None:
    service.post("raise", groupId="2026/11/20 a?b", detector=1)
    newest = service.client.get("/api/visits", params={"limit": 1}).json()["visits"]
    assert [(v["group"], v["detector"], v["state"]) for v in newest] == [("2026/11/20 a?b", 1, "failed")]
    (visit,) = newest
    assert visit["detail"] == "ValueError('a task raised')"
    assert service.client.get("/api/visits/Fake-Cam/2026/11/20%20a%3Fb/1").json() == visit
    day = visit["day_obs"]
    assert visit in service.client.get(f"/api/visits?day_obs={day}").json()["visits"]
    assert service.client.get(f"/api/visits?day_obs={day - 10000}").json() == {"visits": []}


def test_status_page(service: RunningService) -> None:
    service.post("raise", groupId="<script>alert(1)</script>")
    page = service.client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert re.search(r"<h1>(READY|ATTENTION)</h1>", page.text)
    assert "&lt;script&gt;alert(1)" in page.text
    assert "<script>" not in page.text
    assert "ValueError" in page.text
    # Nothing is fetched from anywhere else.
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", page.text)
    assert "MB" in page.text


def test_status_page_and_refusal_without_slots(
    start_service: Callable[..., RunningService], tmp_path: Path
) -> None:
    service = start_service(slots=1, queue_length=0)
    with ThreadPoolExecutor(1) as threads, Gate(tmp_path) as gate:
        running = threads.submit(service.post, gate.step)
        service.wait_until(lambda: service.client.get("/ready").status_code == 503)
        ready = service.client.get("/ready")
        assert ready.json()["title"] == "not-ready"
        assert int(ready.headers["retry-after"]) > 0
        assert "<h1>FULL</h1>" in service.client.get("/").text
        assert service.client.get("/health").status_code == 200
        gate.open()
        running.result()


def test_health_answers_while_every_slot_is_busy(service: RunningService, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as threads, Gate(tmp_path) as gate:
        running = [threads.submit(service.post, f"burn:{gate.path}", detector=d) for d in (0, 1)]
        service.wait_until(lambda: len(service.busy_slots()) == 2)
        for _ in range(20):
            assert service.client.get("/health").status_code == 200
        assert len(service.busy_slots()) == 2
        gate.open()
        assert [r.result().status_code for r in running] == [200, 200]


def test_slow_clients_keep_nobody_waiting(service: RunningService) -> None:
    host, _, port = service.url.removeprefix("http://").partition(":")
    connections = [socket.create_connection((host, int(port)), timeout=60) for _ in range(12)]
    try:
        for connection in connections:
            connection.sendall(b"POST /next-visit HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n")
        time.sleep(0.2)
        assert service.client.get("/health").status_code == 200
    finally:
        for connection in connections:
            connection.close()
