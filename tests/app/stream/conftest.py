from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from models.ledger import VisitRecord
from models.stream_entries import to_stream_entry
from models.visits import VisitKey
from repos.ledger import Ledger
from repos.ledger_database import create_ledger_engine
from simulator.servers.postgresql import PostgreSQLServer
from simulator.servers.redis import RedisServer
from tests.servers import unique_name
from tests.visits import make_visit

ROOT = Path(__file__).resolve().parents[3]
GROUP = "workers"
INSTRUMENT = "Fake-Cam"


class Worker:
    """One worker process, with the fake slot application."""

    def __init__(self, log: Path, environment: dict[str, str]) -> None:
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.app.stream.fake_worker"],
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def tree(self) -> list[psutil.Process]:
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def kill_tree(self) -> None:
        """End everything at once, as when a machine fails."""
        for process in self.tree():
            # A child may end with its parent before it is its turn.
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        self.process.wait()

    def ends(self) -> int:
        return self.process.wait(120)


class Scene:
    """A stream, a ledger, and the workers between them."""

    def __init__(self, directory: Path, server: RedisServer, ledger_url: str) -> None:
        self.directory = directory
        self.client: Any = redis.Redis(port=server.port, decode_responses=True)
        self.name = unique_name("stream")
        self.ledger = Ledger(create_ledger_engine(ledger_url, read_only=True))
        self.workers: list[Worker] = []
        self._variables = {
            "RUBIN_INSTRUMENT": INSTRUMENT,
            "PP_INSTRUMENT_PATH": str(directory),
            "SKYMAP": "fake",
            "CENTRAL_REPO": str(directory / "central"),
            "CONFIG_APDB": "apdb.yaml",
            "MAIN_PIPELINES_CONFIG": "- {pipelines: [A.yaml]}",
            "PREPROCESSING_PIPELINES_CONFIG": "- {pipelines: null}",
            "PP_IMAGE_DIRECTORY": str(directory / "images"),
            "PP_STATE_DIR": str(directory / "state"),
            "PP_LEDGER_URL": ledger_url,
            "PP_METRICS_PORT": "0",
            "PP_SLOT_MEMORY_LIMIT": "512",
            "WORKER_GRACE_PERIOD": "60",
            "REDIS_STREAM_HOST": server.host_port,
            "REDIS_STREAM_NAME": self.name,
            "REDIS_STREAM_CONSUMER_GROUP": GROUP,
            "REDIS_RETRY_DELAY": "0.3",
            "REDIS_CLAIM_IDLE": "3",
            "FANNED_OUT_MSG_LISTEN_TIMEOUT": "120",
        }
        (directory / "images").mkdir()
        camera = (ROOT / "config/instruments/DemoCam.yaml").read_text()
        (directory / f"{INSTRUMENT}.yaml").write_text(camera.replace("name: DemoCam", f"name: {INSTRUMENT}"))
        self.client.xgroup_create(self.name, GROUP, id="$", mkstream=True)

    def start(self, **variables: str) -> Worker:
        environment = {**os.environ, **self._variables, **variables}
        worker = Worker(self.directory / f"worker-{len(self.workers)}.log", environment)
        self.workers.append(worker)
        return worker

    def add(self, survey: str = "", **fields: Any) -> str:
        """Announce a visit whose survey is what it does; return its group."""
        visit = make_visit(survey=survey, groupId=unique_name("g"), **fields)
        self.client.xadd(self.name, to_stream_entry(visit))
        return visit.groupId

    def record(self, group: str) -> VisitRecord | None:
        return self.ledger.visit(VisitKey(INSTRUMENT, group, 0))

    def state(self, group: str) -> str | None:
        record = self.record(group)
        return None if record is None else record.state

    def attempts(self, group: str) -> int:
        record = self.record(group)
        return 0 if record is None else record.attempts

    def was_begun(self, group: str, times: int) -> bool:
        return self.attempts(group) == times

    def pending(self) -> list[int]:
        """Deliveries of what is pending."""
        found = self.client.xpending_range(self.name, GROUP, "-", "+", 100)
        return [f["times_delivered"] for f in found]

    def silence(self) -> float:
        """Seconds since the last sign of life for the only entry that is pending."""
        (found,) = self.client.xpending_range(self.name, GROUP, "-", "+", 100)
        return float(found["time_since_delivered"]) / 1000

    def all_read(self) -> bool:
        (group,) = self.client.xinfo_groups(self.name)
        return bool(group["lag"] == 0)

    def consumers(self) -> int:
        return len(self.client.xinfo_consumers(self.name, GROUP))

    def until(self, condition: Callable[[], Any], timeout: float = 120.0) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, "\n".join(worker.log for worker in self.workers)
            time.sleep(0.03)

    def close(self) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.kill_tree()
        self.client.delete(self.name)


@pytest.fixture(scope="session")
def stream_ledger(postgresql: PostgreSQLServer) -> str:
    return postgresql.create_database(unique_name("ledger"))


@pytest.fixture
def scene(tmp_path: Path, redis_server: RedisServer, stream_ledger: str) -> Iterator[Scene]:
    # The workers make the tables; the tests only look.
    create_ledger_engine(stream_ledger).dispose()
    made = Scene(tmp_path, redis_server, stream_ledger)
    yield made
    made.close()
