from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.app.web.conftest import RunningService
from tests.waiting import still_there


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_visits_are_answered_before_the_end(
    start_service: Callable[..., RunningService], number: signal.Signals
) -> None:
    service = start_service()
    processes = service.processes()
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(service.post, "stage:waiting sleep:600", groupId="last")
        service.wait_until(lambda: [s for s in service.busy_slots() if s["stage"] == "waiting"])
        service.process.send_signal(number)
        response = running.result()
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 0
    assert "shutting down" in response.json()["detail"]
    assert service.process.wait(120) == 0
    assert still_there(processes) == []
    with pytest.raises(httpx.TransportError):
        service.client.get("/health")


def test_visit_that_does_not_stop_is_answered_too(start_service: Callable[..., RunningService]) -> None:
    service = start_service(grace=1)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(service.post, "ignore-sigterm stage:executing=1 sleep:600")
        service.wait_until(lambda: [s for s in service.busy_slots() if s["stage"] == "executing"])
        service.process.send_signal(signal.SIGTERM)
        response = running.result()
    assert response.status_code == 503
    assert "the APDB holds nothing" in response.json()["detail"]


def test_nothing_outlives_a_killed_server(start_service: Callable[..., RunningService]) -> None:
    service = start_service()
    processes = service.processes()
    assert len(processes) == 5
    service.process.kill()
    assert still_there(processes) == []


def test_parent_is_light(start_service: Callable[..., RunningService]) -> None:
    """The parent has neither the middleware nor astropy in its memory."""
    service = start_service()
    service.post("")
    mapped = {m.path for m in service.worker().memory_maps() if m.path.startswith(sys.prefix)}
    assert any("pydantic_core" in path for path in mapped)
    assert not [path for path in mapped if "/lsst/" in path or "/astropy/" in path]
