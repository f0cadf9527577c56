from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.visits import visit_message

CONFIGURATION = "from tests.app.web.fake_service import options\nglobals().update(options())\n"
ROOT = Path(__file__).resolve().parents[3]


def cloud_event(data: Any, **fields: Any) -> dict[str, Any]:
    """Return an event in structured mode, with the data as given."""
    event = {
        "specversion": "1.0",
        "id": "1",
        "source": "rubin-prompt",
        "type": "com.example.kafka",
        "data": data,
    }
    return event | fields


class RunningService:
    """The service under Gunicorn, with the fake slot application."""

    def __init__(self, directory: Path, **variables: object) -> None:
        self.directory = directory
        configuration = directory / "gunicorn.conf.py"
        configuration.write_text(CONFIGURATION)
        own = {f"FAKE_{name.upper()}": str(value) for name, value in variables.items()}
        self._log = (directory / "log").open("wb")
        # A socket that is bound already: nobody can take the port in between.
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            own |= {"FAKE_BIND": f"fd://{listener.fileno()}", "FAKE_DIRECTORY": str(directory)}
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "gunicorn",
                    "-c",
                    str(configuration),
                    "tests.app.web.fake_service:create_wsgi()",
                ],
                cwd=ROOT,
                env={**os.environ, **own},
                pass_fds=[listener.fileno()],
                stdout=self._log,
                stderr=subprocess.STDOUT,
            )
        self.client = httpx.Client(base_url=self.url, timeout=280)
        self.wait_until(lambda: self.is_ready() or self.process.poll() is not None)
        assert self.process.poll() is None, self.log

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def is_ready(self) -> bool:
        try:
            return self.client.get("/ready").status_code == 200
        except httpx.TransportError:
            return False

    def wait_until(self, condition: Callable[[], Any], timeout: float = 120.0) -> Any:
        deadline = time.monotonic() + timeout
        while not (value := condition()):
            assert time.monotonic() < deadline, f"it did not happen in time; the log:\n{self.log}"
            time.sleep(0.02)
        return value

    def post(
        self, steps: str = "", *, headers: dict[str, str] | None = None, **fields: Any
    ) -> httpx.Response:
        """Send a visit as the field does: the data are a string."""
        message = visit_message(survey=steps, **fields)
        return self.client.post(
            "/next-visit",
            content=json.dumps(cloud_event(json.dumps(message))),
            headers={"content-type": "application/cloudevents+json", **(headers or {})},
        )

    def busy_slots(self) -> list[dict[str, Any]]:
        return [s for s in self.client.get("/ready").json().get("slots", ()) if s["state"] == "busy"]

    def processes(self) -> list[psutil.Process]:
        me = psutil.Process(self.process.pid)
        return [me, *me.children(recursive=True)]

    def worker(self) -> psutil.Process:
        """The parent: the child of Gunicorn's master that is no template."""
        children = psutil.Process(self.process.pid).children()
        (worker,) = [c for c in children if "services.slots.template" not in c.cmdline()]
        return worker

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(200)
        self.client.close()
        self._log.close()
        return code


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """One service for all tests that leave it as it was."""
    running = RunningService(tmp_path_factory.mktemp("service"), slots=2)
    yield running
    running.stop()


@pytest.fixture
def start_service(tmp_path: Path) -> Iterator[Callable[..., RunningService]]:
    """Start services of one's own."""
    started: list[RunningService] = []

    def start(**variables: object) -> RunningService:
        started.append(RunningService(tmp_path, **variables))
        return started[-1]

    yield start
    for running in started:
        running.stop()
