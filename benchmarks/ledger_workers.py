"""Two thousand workers share a ledger on PostgreSQL.

Each logical worker has an engine of its own, as a worker in a pod of its own
has; twenty processes hold a hundred of them each. A survey camera's detectors
are announced together, 205 at a time, and the results come back one by one.
"""

from __future__ import annotations

__all__ = ["Load", "Measured", "ledger_workers", "measure"]

import argparse
import gc
import multiprocessing
import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from benchmarks.bar import Bar, at_most, say
from models.outcomes import Result, VisitOutcome
from models.visits import FannedOutVisit
from repos.ledger import Ledger
from repos.ledger_database import create_ledger_engine
from repos.postgresql import use_installed_driver
from simulator.servers.everything import ServerSet

#: Seconds between two looks at the server.
_LOOK = 0.05


@dataclass(frozen=True)
class Load:
    """What the workers do.

    Attributes
    ----------
    processes, workers_each : `int`
    visits : `int`
        Visits of each worker.
    burst : `int`
        Workers that are given a visit together, within `spread` seconds: the
        fan-out sends for half a second, and the way to a worker varies.
    interval : `float`
        Seconds between two bursts, a quarter of a survey's; 0 for no pace at all.
    work : `tuple` [`float`, `float`]
        Shortest and longest time from claim to result, seconds.
    """

    processes: int = 20
    workers_each: int = 100
    visits: int = 2
    burst: int = 205
    spread: float = 1.0
    interval: float = 8.0
    work: tuple[float, float] = (2.0, 10.0)

    @property
    def workers(self) -> int:
        """Number of logical workers."""
        return self.processes * self.workers_each


@dataclass(frozen=True)
class Measured:
    """What came of it; times in milliseconds."""

    claims: np.ndarray
    finishes: np.ndarray
    connections: int
    errors: list[str]

    def p99(self) -> float:
        """Return the 99th percentile of the claims' times."""
        return float(np.percentile(self.claims, 99))

    def summary(self) -> str:
        """Return the figures in one line."""
        return (
            f"{self.connections} connections; {len(self.claims)} claims, "
            f"median {np.median(self.claims):.1f}, p99 {self.p99():.1f}, max {self.claims.max():.0f} ms; "
            f"{len(self.finishes)} results, p99 {np.percentile(self.finishes, 99):.1f} ms; "
            f"{len(self.errors)} errors {self.errors[:1]}"
        )


def measure(url: str, load: Load) -> Measured:
    """Let the workers loose on an empty ledger, and look at the server.

    Parameters
    ----------
    url : `str`
        SQLAlchemy URL of the ledger's database, of a user who sees all of
        ``pg_stat_activity``.
    load : `Load`
    """
    create_ledger_engine(url).dispose()
    context = multiprocessing.get_context("spawn")
    results: Queue[tuple[list[float], list[float], list[str]]] = context.Queue()
    begin = context.Value("d", 0.0)
    ready = context.Barrier(load.processes + 1)
    crowd = [
        context.Process(target=_run_process, args=(url, load, n, ready, begin, results), daemon=True)
        for n in range(load.processes)
    ]
    for process in crowd:
        process.start()
    ready.wait(300)
    begin.value = time.time() + 1.0
    ready.wait(300)
    over = threading.Event()
    with ThreadPoolExecutor(1) as looker:
        looked = looker.submit(_most_connections, url, over)
        answers = [results.get(timeout=1800) for _ in crowd]
        over.set()
        most = looked.result()
    for process in crowd:
        process.join()
    claims, finishes, errors = (list(chain.from_iterable(lists)) for lists in zip(*answers, strict=True))
    return Measured(1000 * np.array(claims), 1000 * np.array(finishes), most, errors)


def ledger_workers(scratch: Path) -> Iterator[Bar]:
    """Measure the bars."""
    load = Load()
    # The server admits many more, so that it is the workers' own restraint
    # that is measured.
    with ServerSet(durable=True, max_connections=400) as servers:
        found = measure(servers.postgresql.create_database("ledger"), load)
    note = (
        f"{load.workers} workers in {load.processes} processes, {load.visits} visits each, {load.burst} "
        f"of them within {load.spread:g} s every {load.interval:g} s: {found.summary()}; load of the machine "
        f"{os.getloadavg()[0]:.1f}"
    )
    say(note)
    yield at_most("ledger: server connections of 2000 workers", found.connections, 100, note)
    yield at_most("ledger: p99 claim of 2000 workers (ms)", None if found.errors else found.p99(), 100)


def _run_process(url: str, load: Load, number: int, ready: Any, begin: Any, results: Any) -> None:
    own = range(number * load.workers_each, (number + 1) * load.workers_each)
    workers = [_Worker(url, load, n) for n in own]
    # A hundred workers in one process are not to wait for each other's rubbish.
    gc.collect()
    gc.freeze()
    ready.wait(300)
    ready.wait(300)
    threads = [threading.Thread(target=w.run, args=(begin.value,)) for w in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [w.claims for w in workers], [w.finishes for w in workers], [w.errors for w in workers]
    results.put(tuple(list(chain.from_iterable(lists)) for lists in found))


class _Worker:
    def __init__(self, url: str, load: Load, number: int) -> None:
        self._load = load
        self._number = number
        self._random = random.Random(number)
        # In service each does this when it starts.
        self._ledger = Ledger(create_ledger_engine(url), owner=str(number))
        self._ledger.rehearse()
        self.claims: list[float] = []
        self.finishes: list[float] = []
        self.errors: list[str] = []

    def run(self, begin: float) -> None:
        load = self._load
        for n in range(load.visits):
            if load.interval:
                burst = (n * load.workers + self._number) // load.burst
                _sleep_until(begin + burst * load.interval + self._random.uniform(0, load.spread))
            elif n == 0:
                _sleep_until(begin)
            try:
                self._process(_visit(f"g{n}", self._number))
            except Exception as error:  # a figure is worth nothing if visits were lost
                self.errors.append(f"{type(error).__name__}: {error}")

    def _process(self, visit: FannedOutVisit) -> None:
        start = time.perf_counter()
        claim = self._ledger.claim(visit, "deployment", 20260101)
        self.claims.append(time.perf_counter() - start)
        if not claim.granted:
            raise RuntimeError(f"{visit} was refused")
        if self._load.interval:
            time.sleep(self._random.uniform(*self._load.work))
        start = time.perf_counter()
        self._ledger.finish(
            visit, "deployment", 20260101, VisitOutcome(result=Result.PROCESSED, title="", detail="")
        )
        self.finishes.append(time.perf_counter() - start)


def _most_connections(url: str, over: threading.Event) -> int:
    """Return the most connections of others that were ever seen at once."""
    query = sa.text(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    use_installed_driver()
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    most = 0
    with engine.connect() as connection:
        while not over.wait(_LOOK):
            most = max(most, int(connection.execute(query).scalar_one()))
    engine.dispose()
    return most


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.time()))


def _visit(group: str, detector: int) -> FannedOutVisit:
    return FannedOutVisit(
        salIndex=1,
        scriptSalIndex=2,
        groupId=group,
        coordinateSystem=2,
        position=(10.0, -5.0),
        startTime=1.7e9,
        rotationSystem=2,
        cameraAngle=0.0,
        filters="r",
        dome=2,
        duration=30.0,
        nimages=1,
        instrument="DemoCam",
        survey="deep",
        totalCheckpoints=1,
        private_sndStamp=1.7e9,
        detector=detector,
    )


def main() -> int:
    """Run against a server that is there; print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.ledger_workers")
    parser.add_argument("url", help="SQLAlchemy URL of an empty database")
    parser.add_argument("--storm", action="store_true", help="no pace")
    options = parser.parse_args()
    found = measure(options.url, Load(interval=0.0) if options.storm else Load())
    print(found.summary())
    return 0 if not found.errors else 1


if __name__ == "__main__":
    sys.exit(main())
