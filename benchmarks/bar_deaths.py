"""Bars of slots that die: answered at once, replaced, nothing left behind."""

from __future__ import annotations

__all__ = ["deaths"]

import time
from collections.abc import Iterator
from pathlib import Path

from app.demo.service_process import ServiceProcess
from benchmarks.bar import Bar, at_most, none_of, say
from benchmarks.deaths import KINDS, Ending, death_variables, die
from benchmarks.scene import SMALL_CAM, Scene
from config.instruments import load_instrument
from simulator.plan import PlannedVisit
from simulator.schedule import plan_simulated

#: How often each kind of death is died.
_TIMES = 20
#: Seconds that a visit may take: room for a good one on a busy machine.
_TIMEOUT = 30.0
#: The same where the time limit is what is waited for.
_SHORT_TIMEOUT = 8.0
#: Seconds within which an answer must come.
_LIMIT = 5.0


def deaths(scratch: Path) -> Iterator[Bar]:
    """Each kind of death, many times."""
    plan = plan_simulated(
        seed=5,
        visits=2 * _TIMES * len(KINDS) + 2,
        detectors=1,
        transients=0,
        instrument=load_instrument(SMALL_CAM),
        start=time.time(),
    )
    scene = Scene(scratch / "scene", plan, variables=death_variables(_TIMEOUT))
    visits = iter(plan.visits)
    for kinds, timeout in (
        ([k for k, death in KINDS.items() if not death.by_timeout], _TIMEOUT),
        ([k for k, death in KINDS.items() if death.by_timeout], _SHORT_TIMEOUT),
    ):
        with scene.service(WORKER_TIMEOUT=str(timeout)) as service:
            # So that local repo and caches exist before anything is compared.
            scene.observe(service, next(visits), 0, survey="")
            for kind in kinds:
                yield from _bars(kind, _endings(scene, service, kind, visits, timeout))


def _endings(
    scene: Scene, service: ServiceProcess, kind: str, visits: Iterator[PlannedVisit], timeout: float
) -> list[Ending]:
    endings = []
    for number in range(_TIMES):
        ending = die(scene, service, kind, visits, detector=0, timeout=timeout)
        say(f"{kind} {number + 1}: {ending.answer.status} after {ending.delay:.2f} s, then "
            f"{ending.next_answer.status}; left {ending.left or 'nothing'}")  # fmt: skip
        endings.append(ending)
    return endings


def _bars(kind: str, endings: list[Ending]) -> Iterator[Bar]:
    faults = []
    for ending in endings:
        if ending.answer.status not in KINDS[kind].statuses:
            faults.append(f"answer {ending.answer.status}: {ending.answer.body.get('detail')}")
        if ending.next_answer.status != 200:
            faults.append(f"next visit {ending.next_answer.status}: {ending.next_answer.body.get('detail')}")
        faults += [f"left behind: {count} {what}" for what, count in ending.left.items()]
    statuses = sorted({str(ending.answer.status) for ending in endings})
    note = f"{len(endings)} deaths, answered {', '.join(statuses)}"
    yield at_most(f"{kind}: longest wait for the answer, s", max(e.delay for e in endings), _LIMIT, note)
    yield none_of(f"{kind}: wrong answers, failed next visits, left-overs", faults)
