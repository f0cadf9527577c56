"""The monitor as it is served: health, silent agents, messages of a broker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from flask.testing import FlaskClient

from app.streaming import monitor_service
from app.streaming.bus_factory import create_stomp_bus
from app.streaming.monitor_app import SERVICE, create_monitor_app
from app.streaming.monitor_service import MonitorService
from app.streaming.rest.stream import MessageStream
from config.streaming.settings import load_streaming_settings
from models.errors import TemporarilyUnavailable
from models.streaming.messages import RUN_TOPIC, naive_timestamp
from models.streaming.monitoring import RecordedMessage
from repos.streaming.database import create_streaming_engine
from repos.streaming.local_bus import LocalBroker
from repos.streaming.monitor_client import MonitorClient
from repos.streaming.monitor_http import MonitorHttp
from repos.streaming.monitor_store import MonitorStore
from services.streaming.bus import Bus
from simulator.servers.activemq import ActiveMQServer
from simulator.servers.process import free_port


def until(condition: Callable[[], Any], seconds: float = 120.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return result


@pytest.fixture
def store(tmp_path: Path) -> MonitorStore:
    return MonitorStore.on(create_streaming_engine(f"sqlite:///{tmp_path}/monitor.db"))


def make(store: MonitorStore, bus: Bus | None = None, **options: Any) -> tuple[FlaskClient, MonitorService]:
    stream = MessageStream(store.messages, zone=ZoneInfo("UTC"))
    service = MonitorService(store=store, stream=stream, bus=bus, topic=RUN_TOPIC, **options)
    app = create_monitor_app(store, service=service, stream=stream, zone=ZoneInfo("UTC"))
    assert app.extensions[SERVICE] is service
    return app.test_client(), service


class TestApplication:
    def test_health_and_readiness(self, store: MonitorStore, monkeypatch: pytest.MonkeyPatch) -> None:
        client, _ = make(store)
        assert client.get("/health").json == {"status": "healthy"}
        assert client.get("/ready").json == {"status": "ready", "bus": "none"}

        def away() -> int:
            raise TemporarilyUnavailable("the database is away")

        monkeypatch.setattr(store.messages, "latest", away)
        response = client.get("/ready")
        assert response.status_code == 503 and "is away" in response.json["detail"]

    def test_what_is_not_there(self, store: MonitorStore) -> None:
        client, _ = make(store)
        assert client.get("/api/nothing/").json == {"detail": "Not found."}
        response = client.put("/api/runs/", json={})
        assert response.status_code == 405 and "GET" in response.headers["Allow"]

    def test_the_bus_is_heard(self, store: MonitorStore) -> None:
        broker = LocalBroker()
        client, service = make(store, broker.connect())
        service.start()
        try:
            sender = broker.connect()
            sender.start()
            sender.send(RUN_TOPIC, json.dumps({"msg_type": "start_run", "run_id": "1", "state": "run"}))
            until(lambda: store.messages.listed().total == 1)
            assert client.get("/ready").json["bus"] == "connected"
            assert client.get("/api/run-states/1/").json["phase"] == "physics"
            sender.stop(5)
        finally:
            service.close()

    def test_silent_agents_are_noted(self, store: MonitorStore, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(monitor_service, "_SWEEP", 0.01)
        row, _ = store.agents.heartbeat({"instance_name": "a", "agent_type": "DATA"})
        store.agents.change(row["id"], {"last_heartbeat": datetime(2026, 1, 1, tzinfo=UTC)})
        _, service = make(store)
        service.start()
        try:
            until(lambda: store.agents.listed(status="EXITED").total)
        finally:
            service.close()

    def test_what_is_old_is_forgotten(self, store: MonitorStore, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(monitor_service, "_SWEEP", 0.01)
        monkeypatch.setattr(monitor_service, "_HANDFUL", 2)
        now = datetime.now(UTC)
        for days in (40, 31, 30.1, 29):
            at = now - timedelta(days=days)
            store.messages.record([RecordedMessage(sent_at=at, queue_name="q")])
            line = {"app_name": "a", "instance_name": "i", "timestamp": at, "message": "m"}
            store.logs.add({**line, "level": 20, "levelname": "INFO"})
        _, forever = make(store)
        _, service = make(store, keep=timedelta(days=30))
        forever.start()
        service.start()
        try:
            until(lambda: store.messages.listed().total == 1 and store.logs.listed().total == 1)
        finally:
            forever.close()
            service.close()
        assert store.messages.find()[0]["sent_at"] > now - timedelta(days=30)


class _Process:
    """``prompt-processing monitor``."""

    def __init__(self, directory: Path, **environment: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = (directory / "monitor.log").open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "monitor", "--port", str(self.port)],
            env={**os.environ, "PP_TESTBED_DIRECTORY": str(directory), **environment},
            cwd=Path(__file__).resolve().parents[3],
            stderr=self._log,
        )

    def ready(self) -> dict[str, Any] | None:
        assert self._process.poll() is None
        try:
            response = httpx.get(f"{self.url}/ready")
        except httpx.HTTPError:
            return None
        return dict(response.json()) if response.status_code == 200 else None

    def stop(self) -> int:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(120)
        self._log.close()
        return code


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., _Process]]:
    started: list[_Process] = []

    def begin(**environment: str) -> _Process:
        started.append(_Process(tmp_path, **environment))
        return started[-1]

    yield begin
    for process in started:
        process.stop()


@pytest.mark.slow
def test_under_gunicorn(start: Callable[..., _Process]) -> None:
    process = start(SWF_API_TOKEN="secret")
    until(process.ready)
    client = MonitorClient(MonitorHttp(process.url, token="secret"))
    assert client.next_agent_id() == 1
    with httpx.stream("GET", f"{process.url}/api/messages/stream/") as response:
        assert next(response.iter_lines()) == "event: connected"
        # Who listens does not hold it up.
        assert process.stop() == 0


@pytest.mark.slow
def test_answers_conform(start: Callable[..., _Process], tmp_path: Path) -> None:
    """Schemathesis finds no 5xx and no answer that is not described."""
    for directory in (tmp_path, tmp_path / "embedded"):
        # Without an agent's database there are no jobs to ask for.
        directory.mkdir(exist_ok=True)
        create_streaming_engine(f"sqlite:///{directory}/processing-agent.db").dispose()
    process = start(SWF_API_TOKEN="secret")
    until(process.ready, 60.0)
    checks = ("status_code", "content_type", "response_headers", "response_schema")
    command = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "run",
        f"{process.url}/openapi.json",
        f"--checks=not_a_server_error,{','.join(f'{check}_conformance' for check in checks)}",
        # It lasts for a quarter of an hour.
        "--exclude-path=/api/messages/stream/",
        "--phases=fuzzing",
        "--max-examples=2",
        "--suppress-health-check=all",
        "--generation-database=:memory:",
        "--seed=1",
        "--no-color",
        "--header=Authorization: Bearer secret",
    ]
    ran = subprocess.run(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout[-5000:]


@pytest.mark.slow
@pytest.mark.servers
def test_with_a_broker_nothing_is_missed(start: Callable[..., _Process], activemq: ActiveMQServer) -> None:
    topic = f"/topic/monitor{time.time_ns()}"
    environment = {**activemq.environment, "ACTIVEMQ_HEARTBEAT_TOPIC": topic}
    first = start(**environment)
    until(lambda: (state := first.ready()) and state["bus"] == "connected", 40)
    settings = load_streaming_settings(env=activemq.environment)
    bus = create_stomp_bus(settings, client_id=f"test-{time.time_ns()}")
    bus.start()
    until(lambda: bus.connected)

    def send(count: int, begin: int) -> None:
        for number in range(begin, begin + count):
            body = {"msg_type": "stf_gen", "run_id": "5", "execution_id": "e", "sequence": number}
            bus.send(topic, json.dumps({**body, "timestamp": naive_timestamp()}))

    try:
        send(20, 1)
        client = MonitorClient(MonitorHttp(first.url))
        until(lambda: len(client.messages("e")) == 20)
        assert first.stop() == 0
        # Sent while it is down.
        send(20, 21)
        second = start(**environment)
        until(second.ready)
        client = MonitorClient(MonitorHttp(second.url))
        until(lambda: len(client.messages("e")) >= 40)
        assert [body["sequence"] for body in client.messages("e")] == [*range(1, 41)]
        assert second.stop() == 0
    finally:
        bus.stop(5)
