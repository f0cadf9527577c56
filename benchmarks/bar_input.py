"""Bars of requests that are wrong."""

from __future__ import annotations

__all__ = ["malformed", "openapi"]

import os
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from pathlib import Path

import httpx
import yaml

from benchmarks.bar import Bar, none_of, say
from benchmarks.malformed import KINDS
from benchmarks.scene import PROJECT, SMALL_CAM, Scene
from config.instruments import load_instrument
from repos.streaming.database import create_streaming_engine
from simulator.schedule import plan_simulated
from simulator.servers.process import free_port

_EACH = 100
#: What schemathesis checks: no 5xx, and that answers are as described.
_CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
_EXAMPLES = 200
#: Of the monitor's operations, which are many.
_EXAMPLES_OF_EACH = 20


def malformed(scratch: Path) -> Iterator[Bar]:
    """A hundred requests of each kind."""
    scene = _scene(scratch)
    instrument = scene.plan.instrument.name
    faults: list[str] = []
    with scene.service() as service, httpx.Client(base_url=service.url, trust_env=False) as client:
        assert scene.observe(service, scene.plan.visits[0], 0, survey="bars").status == 200
        before = _rows(scene)
        for kind, (make, expected) in KINDS.items():
            statuses: Counter[int] = Counter()
            for number in range(_EACH):
                request = make(instrument, number)
                response = client.post("/next-visit", content=request.body, headers=dict(request.headers))
                statuses[response.status_code] += 1
            faults += [f"{kind}: {s} ({n} times)" for s, n in statuses.items() if s not in expected]
        after = _rows(scene)
        next_visit = scene.observe(service, scene.plan.visits[1], 0, survey="bars").status
    note = f"{len(KINDS)} kinds, {_EACH} each: {', '.join(KINDS)}"
    yield none_of("malformed requests: wrong statuses (5xx or others)", faults, note)
    changed = [f"{table}: {before.get(table)} -> {n}" for table, n in after.items() if before.get(table) != n]
    note = f"{sum(after.values())} rows in {len(after)} tables"
    yield none_of("malformed requests: changed row counts of registry, datastore, ledger", changed, note)
    bad = [] if next_visit == 200 else [f"status {next_visit}"]
    yield none_of("malformed requests: next good visit not processed", bad)


def openapi(scratch: Path) -> Iterator[Bar]:
    """What schemathesis finds."""
    scene = _scene(scratch, main=[{"survey": "a survey that no generator thinks of", "pipelines": None}])
    with scene.service() as service:
        yield _conform("schemathesis on /openapi.json", service.url, scratch)
    with _monitor(scratch / "monitor") as url:
        # What it sends of messages lasts for a quarter of an hour.
        options = "--exclude-path=/api/messages/stream/", f"--max-examples={_EXAMPLES_OF_EACH}"
        yield _conform("schemathesis on the monitor's /openapi.json", url, scratch, *options)


def _conform(name: str, url: str, scratch: Path, *options: str) -> Bar:
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("st")),
            "run",
            f"{url}/openapi.json",
            f"--checks={','.join(_CHECKS)}",
            *(options or (f"--max-examples={_EXAMPLES}",)),
            "--continue-on-failure",
            "--suppress-health-check=all",
            "--seed=7",
            "--generation-database=:memory:",
        ],
        cwd=scratch,
        capture_output=True,
        text=True,
        check=False,
    )
    for line in done.stdout.splitlines():
        say(line[:300])
    lines = [line.strip(" =") for line in done.stdout.splitlines() if line.strip(" =")]
    return Bar(
        name,
        int(done.returncode != 0),
        "== 0",
        done.returncode == 0,
        lines[-1] if lines else done.stderr[-300:],
    )


@contextmanager
def _monitor(directory: Path) -> Iterator[str]:
    """Run a monitor; gives its URL."""
    for place in (directory, directory / "embedded"):
        # Without an agent's database there are no jobs to ask for.
        place.mkdir(parents=True, exist_ok=True)
        create_streaming_engine(f"sqlite:///{place}/processing-agent.db").dispose()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "app.cli", "monitor", "--port", str(port)]
    environment = {**os.environ, "PP_TESTBED_DIRECTORY": str(directory)}
    with (directory / "monitor.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=PROJECT, env=environment, stderr=log)
        try:
            while not _answers(url):
                if process.poll() is not None:
                    raise RuntimeError(f"the monitor ended with {process.returncode}; see {log.name}")
                time.sleep(0.1)
            yield url
        finally:
            process.terminate()
            process.wait(60)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready", trust_env=False).status_code == HTTPStatus.OK
    except httpx.HTTPError:
        return False


def _scene(scratch: Path, main: list[dict[str, object]] | None = None) -> Scene:
    plan = plan_simulated(
        seed=5,
        visits=2,
        detectors=1,
        transients=0,
        instrument=load_instrument(SMALL_CAM),
        start=time.time(),
    )
    isr = str(PROJECT / "pipelines" / "Isr.yaml")
    entries = main or [{"survey": "nothing", "pipelines": None}, {"survey": "bars", "pipelines": [isr]}]
    return Scene(scratch / "scene", plan, variables={"MAIN_PIPELINES_CONFIG": yaml.safe_dump(entries)})


def _rows(scene: Scene) -> dict[str, int]:
    """Count the rows of every table of registry, datastore and ledger."""
    counts = {}
    for name, path in {
        "central": scene.place.central / "gen3.sqlite3",
        "ledger": scene.place.state / "ledger.sqlite3",
        "apdb": scene.place.apdb.with_suffix(".db"),
    }.items():
        with closing(sqlite3.connect(path)) as database:
            tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            for (table,) in tables:
                (counts[f"{name}.{table}"],) = database.execute(f'SELECT count(*) FROM "{table}"').fetchone()
    return counts
