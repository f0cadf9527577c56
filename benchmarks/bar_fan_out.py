"""Bar of the fan-out: from the announcement to the last detector's request."""

from __future__ import annotations

__all__ = ["fan_out"]

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from benchmarks.bar import Bar, at_most, say
from models.kafka_access import KafkaAccess
from models.times import tai_from_unix
from models.visits import SummitVisit
from simulator.io.next_visit_topic import NextVisitTopic
from simulator.io.topic_writer import TopicWriter
from simulator.servers.everything import ServerSet
from simulator.servers.process import free_port

#: LSSTCam with its guiders.
_DETECTORS = 205
_LIMIT_MS = 500.0
_ROUNDS = 12
#: Answers come after more than two further visits, as in the field at its
#: slowest: two full cameras are open when the third visit is announced.
_INTERVAL = 2.0
_HOLD = 2.6 * _INTERVAL
#: Rounds that are not counted: the first meets a schema that is not known.
_WARM_UP = 1
_TOPIC = "next-visit"


def fan_out(scratch: Path) -> Iterator[Bar]:
    """205 requests, with the last two visits' answers open."""
    with ServerSet() as servers:
        servers.kafka.create_topic(_TOPIC)
        port = free_port()
        holder = [sys.executable, "-m", "benchmarks.holding_server", str(port), str(_HOLD)]
        with _process(holder), _process(_fan_out_command(), _environment(scratch, servers, port)):
            writer = TopicWriter(address=KafkaAccess(servers.kafka.bootstrap), topic=_TOPIC)
            announce = NextVisitTopic(writer=writer, schema_registry=servers.schema_registry.url)
            _wait(f"http://127.0.0.1:{port}", announce)
            milliseconds, still_open = _rounds(port, announce)
            writer.close()
    each = " ".join(f"{value:.0f}" for value in milliseconds)
    note = f"{len(milliseconds)} visits; up to {still_open} requests open before; ms: {each}"
    name = f"fan-out: Kafka append to last of {_DETECTORS} POSTs received"
    yield at_most(f"{name}, median ms", statistics.median(milliseconds), _LIMIT_MS, note)
    yield at_most(f"{name}, worst ms", max(milliseconds), _LIMIT_MS)


def _rounds(port: int, announce: NextVisitTopic) -> tuple[list[float], int]:
    """Return milliseconds for each round, and how many requests were open."""
    begun: dict[str, float] = {}
    still_open = 0
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30.0) as client:
        for number in range(_WARM_UP + _ROUNDS):
            visit = _visit(f"round-{number}")
            still_open = max(still_open, client.get("/times").json()["open"])
            # Before the append, so that the figure holds a little more.
            begun[visit.groupId] = time.time()
            announce(visit)
            time.sleep(_INTERVAL)
        arrived: dict[str, list[float]] = client.get("/times").json()["times"]
    results = []
    for group in list(begun)[_WARM_UP:]:
        if len(arrived.get(group, [])) != _DETECTORS:
            raise RuntimeError(f"{group}: {len(arrived.get(group, []))} of {_DETECTORS} visits arrived")
        results.append(1000 * (max(arrived[group]) - begun[group]))
    return results, still_open


def _wait(url: str, announce: NextVisitTopic) -> None:
    """Wait until visits come through."""
    say("fan-out starts")
    for number in range(60):
        announce(_visit(f"ready-{number}"))
        time.sleep(1.0)
        if httpx.get(f"{url}/times", trust_env=False, timeout=30.0).json()["times"]:
            time.sleep(_HOLD)
            return
    raise RuntimeError("the fan-out sends nothing")


def _visit(group: str) -> SummitVisit:
    now = time.time()
    return SummitVisit.parse(
        {
            "salIndex": 1,
            "scriptSalIndex": 100_000,
            "groupId": group,
            "coordinateSystem": 2,
            "position": [142.1352, -30.483],
            "startTime": tai_from_unix(now) + 20.0,
            "rotationSystem": 2,
            "cameraAngle": 178.341,
            "filters": "r_57",
            "dome": 2,
            "duration": 35.0,
            "nimages": 1,
            "instrument": "LSSTCam",
            "survey": "BLOCK-365",
            "totalCheckpoints": 1,
            "private_sndStamp": tai_from_unix(now),
            "private_efdStamp": now,
        }
    )


def _fan_out_command() -> list[str]:
    return [sys.executable, "-m", "app.cli", "fan-out"]


def _environment(scratch: Path, servers: ServerSet, port: int) -> dict[str, str]:
    file = scratch / "instruments.yaml"
    routes: dict[str, Any] = {
        "knative-urls": {"LSSTCam": f"http://127.0.0.1:{port}"},
        "detectors": {"LSSTCam": dict.fromkeys(range(_DETECTORS), True)},
    }
    file.write_text(yaml.safe_dump(routes))
    return {
        "SUPPORTED_INSTRUMENTS": "LSSTCam",
        "INSTRUMENT_CONFIG_FILE": str(file),
        "KAFKA_CLUSTER": servers.kafka.bootstrap,
        "KAFKA_SCHEMA_REGISTRY_URL": servers.schema_registry.url,
        "NEXT_VISIT_TOPIC": _TOPIC,
        "CONSUMER_GROUP": "fan-out",
        "OFFSET": "latest",
        "RETRY_KNATIVE_REQUESTS": "1",
        "PP_METRICS_PORT": "0",
        "PP_FAN_OUT_GRACE_PERIOD": "0",
    }


@contextmanager
def _process(command: list[str], variables: dict[str, str] | None = None) -> Iterator[None]:
    process = subprocess.Popen(command, env={**os.environ, **(variables or {})})
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
