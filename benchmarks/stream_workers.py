"""Stream workers at a small observatory, looked at from outside."""

from __future__ import annotations

__all__ = ["StreamWorkers", "WorkerProcess"]

import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import redis

from app.demo.service_process import free_port
from benchmarks.scene import PROJECT, Scene
from benchmarks.service_scene import Program
from config.child_environment import child_environment
from models.ledger import VisitRecord
from models.stream_entries import to_stream_entry
from models.visits import FannedOutVisit
from repos.ledger import Ledger
from repos.ledger_database import create_ledger_engine
from simulator.servers.everything import ServerSet

_GROUP = "workers"


class WorkerProcess(Program):
    """One worker.

    Parameters
    ----------
    environment : `dict` [`str`, `str`]
    log : `pathlib.Path`
    """

    def __init__(self, *, environment: dict[str, str], log: Path) -> None:
        self._metrics = f"http://127.0.0.1:{environment['PP_METRICS_PORT']}/metrics"
        super().__init__("worker", environment=environment, log=log)

    @property
    def ready(self) -> bool:
        """Whether its slot could process a visit."""
        with suppress(httpx.TransportError):
            text = httpx.get(self._metrics, timeout=5.0, trust_env=False).text
            return "instances_running 1.0" in text
        return False

    def successes(self, visit: FannedOutVisit) -> int:
        """Return how often it says that it has processed a visit."""
        lines = self.log.read_text(errors="replace").splitlines()
        return sum("Success after" in line and f" group {visit.groupId} " in line for line in lines)

    def kill(self) -> None:
        """Kill it with its template process and its slot, all at once."""
        own = psutil.Process(self.process.pid)
        for process in [*own.children(recursive=True), own]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()


class StreamWorkers:
    """Workers, their stream and their ledger.

    Parameters
    ----------
    scene : `benchmarks.scene.Scene`
        Whose central repo and settings they have.
    servers : `simulator.servers.everything.ServerSet`
    claim_idle : `float`
        ``REDIS_CLAIM_IDLE``, seconds.
    """

    def __init__(self, scene: Scene, servers: ServerSet, *, claim_idle: float) -> None:
        self._scene = scene
        self._stream = f"stream-{uuid.uuid4().hex}"
        ledger_url = servers.postgresql.create_database(f"ledger{uuid.uuid4().hex}")
        self._variables = {
            **scene.variables,
            "PP_LEDGER_URL": ledger_url,
            "REDIS_STREAM_HOST": servers.redis.host_port,
            "REDIS_STREAM_NAME": self._stream,
            "REDIS_STREAM_CONSUMER_GROUP": _GROUP,
            "REDIS_CLAIM_IDLE": str(claim_idle),
            "REDIS_RETRY_DELAY": "1",
            "FANNED_OUT_MSG_LISTEN_TIMEOUT": "3600",
            "PYTHONPATH": str(PROJECT),
        }
        self._ledger = Ledger(create_ledger_engine(ledger_url))
        self._client: Any = redis.Redis(port=servers.redis.port, decode_responses=True)
        self._client.xgroup_create(self._stream, _GROUP, mkstream=True)
        self.alive: list[WorkerProcess] = []
        self.all: list[WorkerProcess] = []

    def start(self) -> None:
        """Start another worker; do not wait for it."""
        environment = child_environment({**self._variables, "PP_METRICS_PORT": str(free_port())})
        log = self._scene.place.root / f"worker-{len(self.all)}.log"
        self.alive.append(WorkerProcess(environment=environment, log=log))
        self.all.append(self.alive[-1])

    def wait_ready(self, count: int) -> None:
        """Wait until so many workers could process a visit."""
        self.until(lambda: sum(worker.ready for worker in self.alive) >= count, 180.0, "workers to start")

    def announce(self, visit: FannedOutVisit) -> str:
        """Put a visit into the stream; return the entry's id."""
        entry_id: str = self._client.xadd(self._stream, to_stream_entry(visit))
        return entry_id

    def owner(self, entry_id: str) -> WorkerProcess | None:
        """Return the worker that has an entry, if one has."""
        for found in self._client.xpending_range(self._stream, _GROUP, entry_id, entry_id, 1):
            for worker in self.alive:
                if f"-{worker.process.pid}-" in found["consumer"]:
                    return worker
        return None

    def is_done(self, entry_id: str) -> bool:
        """Whether an entry is acknowledged, if it was read at all."""
        return not self._client.xpending_range(self._stream, _GROUP, entry_id, entry_id, 1)

    def record(self, visit: FannedOutVisit) -> VisitRecord | None:
        """Return what the ledger says of a visit."""
        return self._ledger.visit(visit.key)

    def until(self, condition: Callable[[], object], timeout: float, what: str) -> None:
        """Wait for something.

        Raises
        ------
        RuntimeError
            Raised if it does not come in time.
        """
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                logs = "\n".join(worker.tail(5) for worker in self.alive)
                raise RuntimeError(f"waited {timeout:g} s in vain for {what}:\n{logs}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End all of them."""
        for worker in self.alive:
            worker.process.terminate()
        for worker in self.alive:
            worker.stop()
