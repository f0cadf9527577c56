"""Bars of the stream workers: a dead one's visit is finished by another, a
living one keeps its own.
"""

from __future__ import annotations

__all__ = ["stream"]

import random
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.bar import Bar, at_most, none_of, say
from benchmarks.scene import SMALL_CAM, Scene
from benchmarks.stream_workers import StreamWorkers
from config.instruments import load_instrument
from models.outcomes import Result
from models.visits import FannedOutVisit
from simulator.plan import PlannedVisit
from simulator.schedule import plan_simulated
from simulator.servers.everything import ServerSet

#: ``REDIS_CLAIM_IDLE`` here, seconds; the default of 60 s would take an hour.
_CLAIM_IDLE = 5.0
#: The deployment is the same to all workers, whatever becomes of the code
#: while they come and go.
_VARIABLES = {"IMAGE_TIMEOUT": "60", "PP_DEPLOYMENT_ID": "stream-bar"}
#: Rounds of each kind.
_WAITING, _ANYWHERE, _LONG = 10, 10, 5
#: Seconds after the beginning of a visit within which its worker is killed.
_KILL_WITHIN = 1.5
#: Length of a long visit, in units of ``REDIS_CLAIM_IDLE``.
_LENGTH = 2.2


def stream(scratch: Path) -> Iterator[Bar]:
    """Kill workers in mid-visit; let others work for long."""
    plan = plan_simulated(
        seed=6,
        visits=_WAITING + _ANYWHERE + _LONG + 1,
        detectors=1,
        transients=2,
        instrument=load_instrument(SMALL_CAM),
        start=time.time(),
    )
    scene = Scene(scratch / "scene", plan, variables=_VARIABLES)
    visits = iter(plan.visits)
    with ServerSet() as servers:
        workers = StreamWorkers(scene, servers, claim_idle=_CLAIM_IDLE)
        try:
            for _ in range(3):
                workers.start()
            _warm(scene, workers, next(visits))
            yield from _killed(scene, workers, visits)
            yield _kept(scene, workers, visits)
        finally:
            workers.stop()


def _warm(scene: Scene, workers: StreamWorkers, planned: PlannedVisit) -> None:
    workers.wait_ready(2)
    scene.deliver(planned, 0)
    visit = scene.announce(planned, 0)
    workers.announce(visit)
    workers.until(lambda: _finished(workers, visit), 120.0, "a first visit")


def _killed(scene: Scene, workers: StreamWorkers, visits: Iterator[PlannedVisit]) -> Iterator[Bar]:
    longest, faults, results = 0.0, [], []
    for number in range(_WAITING + _ANYWHERE):
        workers.wait_ready(2)
        planned = next(visits)
        visit = scene.announce(planned, 0)
        anywhere = number >= _WAITING
        if anywhere:
            scene.deliver(planned, 0)
        entry = workers.announce(visit)
        workers.until(partial(workers.owner, entry), 30.0, "a worker to take the visit")
        delay = random.uniform(0.0, _KILL_WITHIN)
        time.sleep(delay)
        victim = workers.owner(entry)
        if victim is None:
            say(f"kill {number + 1}: the visit was over after {delay:.2f} s")
            continue
        victim.kill()
        killed = time.monotonic()
        workers.alive.remove(victim)
        workers.start()
        if not anywhere:
            scene.deliver(planned, 0)
        workers.until(partial(workers.is_done, entry), 60.0, "another worker to finish the visit")
        took = time.monotonic() - killed
        record = workers.record(visit)
        state = record.state if record is not None else "not recorded"
        say(f"kill {number + 1}: {delay:.2f} s into the visit, {state} {took:.2f} s later")
        longest = max(longest, took / _CLAIM_IDLE)
        results.append(state)
        faults += _faults(workers, visit, anywhere=anywhere)
    note = f"{len(results)} kills, REDIS_CLAIM_IDLE {_CLAIM_IDLE:g} s, 3 workers; results: " + ", ".join(
        f"{results.count(state)} {state}" for state in sorted(set(results))
    )
    yield at_most("killed stream worker: longest time to the result, in REDIS_CLAIM_IDLE", longest, 2.0, note)
    yield none_of("killed stream worker: visits not finished once", faults)


def _faults(workers: StreamWorkers, visit: FannedOutVisit, *, anywhere: bool) -> list[str]:
    """Say what is wrong with the end of a visit whose worker was killed."""
    record = workers.record(visit)
    successes = sum(worker.successes(visit) for worker in workers.all)
    if record is None or not _finished(workers, visit):
        return [f"{visit.groupId}: no result"]
    # Killed after the APDB had changed, the visit must not be run again.
    right = [Result.PROCESSED, Result.NOT_RETRIABLE] if anywhere else [Result.PROCESSED]
    if record.state not in right:
        return [f"{visit.groupId}: {record.state}: {record.outcome and record.outcome.detail}"]
    if successes != (record.state == Result.PROCESSED) and not anywhere:
        return [f"{visit.groupId}: processed {successes} times"]
    if record.attempts > 2 or successes > 1:
        return [f"{visit.groupId}: {record.attempts} attempts, processed {successes} times"]
    return []


def _kept(scene: Scene, workers: StreamWorkers, visits: Iterator[PlannedVisit]) -> Bar:
    faults = []
    for number in range(_LONG):
        workers.wait_ready(3)
        planned = next(visits)
        visit = scene.announce(planned, 0)
        entry = workers.announce(visit)
        workers.until(partial(workers.owner, entry), 30.0, "a worker to take the visit")
        owner = workers.owner(entry)
        end = time.monotonic() + _LENGTH * _CLAIM_IDLE
        while time.monotonic() < end:
            if workers.owner(entry) is not owner:
                faults.append(f"{visit.groupId}: changed hands")
                break
            time.sleep(0.05)
        scene.deliver(planned, 0)
        workers.until(partial(workers.is_done, entry), 60.0, "the long visit's end")
        faults += _faults(workers, visit, anywhere=False)
        record = workers.record(visit)
        if record is None or record.attempts != 1:
            faults.append(f"{visit.groupId}: begun more than once")
        say(f"long visit {number + 1}: {record.state if record else None}, {len(faults)} faults so far")
    note = f"{_LONG} visits of {_LENGTH:g} times REDIS_CLAIM_IDLE ({_CLAIM_IDLE:g} s), 3 workers"
    return none_of("long visits taken from living stream workers", faults, note)


def _finished(workers: StreamWorkers, visit: FannedOutVisit) -> bool:
    record = workers.record(visit)
    return record is not None and record.finished is not None
