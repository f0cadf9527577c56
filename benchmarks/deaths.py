"""Ways for a slot to die in the middle of a visit, and what must follow."""

from __future__ import annotations

__all__ = ["KINDS", "Death", "Ending", "death_variables", "die"]

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from app.demo.service_process import ServiceProcess
from benchmarks.scene import PROJECT, Answered, Scene, by_survey
from benchmarks.watch import Watch
from services.slots.protocol import Stage
from simulator.plan import PlannedVisit

_FAULTS = PROJECT / "benchmarks" / "faults"

#: Seconds from the request to stop until the slot is killed.
GRACE_PERIOD = 1.0
#: MiB that a slot may take: room for ISR of a small frame, not for much more.
_MEMORY_LIMIT = 600


@dataclass(frozen=True)
class Death:
    """A way to die.

    Attributes
    ----------
    survey : `str`
        Survey of the visits that are meant to die so.
    statuses : `tuple` [`int`, ...]
        Answers that are right.
    kill_within : `float` or `None`
        Seconds within which, at random, the slot is killed from outside.
    when_begun : `bool`
        Whether they are counted from when the slot has the visit in hand. A
        slot that dies just as it gets one costs it nothing: another has it
        then, and need not die.
    by_timeout : `bool`
        Whether the visit's time limit makes the end.
    dies : `bool`
        Whether the slot does die; a task that runs out of memory only fails.
    """

    survey: str
    statuses: tuple[int, ...]
    kill_within: float | None = None
    when_begun: bool = False
    by_timeout: bool = False
    dies: bool = True


#: By name.
KINDS = {
    "sigkill": Death("slow", (503,), kill_within=1.5, when_begun=True),
    # At any moment of an ordinary visit, export and the time after included.
    "sigkill-anywhere": Death("", (200, 500, 503), kill_within=0.6),
    "segfault": Death("segfault", (503,)),
    "memory": Death("memory", (500,), dies=False),
    "deaf": Death("deaf", (503,), by_timeout=True),
}


@dataclass
class Ending:
    """How one visit ended.

    Attributes
    ----------
    answer, next_answer : `benchmarks.scene.Answered`
        To the visit, and to the next on the same detector.
    delay : `float`
        Seconds from the slot's death, or the end of its time, to the answer;
        less those of the next visit if this one was processed all the same,
        by another slot.
    left : `dict` [`str`, `int`]
        What was left behind.
    """

    answer: Answered
    next_answer: Answered
    delay: float
    left: dict[str, int] = field(default_factory=dict)


def death_variables(timeout: float) -> dict[str, str]:
    """Return settings for a service in which slots die.

    Parameters
    ----------
    timeout : `float`
        Seconds that a visit may take.
    """
    surveys = [death.survey for death in KINDS.values() if death.survey]
    pipelines = {survey: _FAULTS / f"{survey}.yaml" for survey in surveys}
    return {
        "MAIN_PIPELINES_CONFIG": by_survey(pipelines, default=_FAULTS / "none.yaml"),
        "PREPROCESSING_PIPELINES_CONFIG": "- pipelines: null",
        # The form that leaves the most behind.
        "PP_LOCAL_REPO_FORM": "full",
        "PP_SLOT_MEMORY_LIMIT": str(_MEMORY_LIMIT),
        "WORKER_TIMEOUT": str(timeout),
        "WORKER_GRACE_PERIOD": str(GRACE_PERIOD),
    }


def die(
    scene: Scene,
    service: ServiceProcess,
    kind: str,
    visits: Iterator[PlannedVisit],
    *,
    detector: int,
    timeout: float,
) -> Ending:
    """Let a slot die once; the service must have a single one.

    Parameters
    ----------
    scene, service
        See `benchmarks.scene`.
    kind : `str`
        One of `KINDS`.
    visits : iterator of `simulator.plan.PlannedVisit`
        Two are taken from it.
    detector : `int`
    timeout : `float`
        Seconds that a visit may take, as the service was told.
    """
    death = KINDS[kind]
    watch = Watch(scene, service)
    (slot,) = watch.slots()
    before = watch.traces()
    died: list[float] = []
    watcher = watch.on_death(slot, died.append) if death.dies else None
    planned = next(visits)
    scene.deliver(planned, detector)
    begin = time.monotonic()
    answered = threading.Event()
    killer = threading.Thread(target=_kill, args=(scene, service, slot, death, answered))
    if death.kill_within is not None:
        killer.start()
    answer = scene.send(service, scene.announce(planned, detector, survey=death.survey))
    answered.set()
    if death.kill_within is not None:
        killer.join()
    if watcher is not None:
        watcher.join(10.0)
    end = begin + timeout + GRACE_PERIOD if death.by_timeout else died[0] if died else begin
    began = time.monotonic()
    next_answer = scene.observe(service, next(visits), detector, survey="")
    delay = answer.at - end
    if answer.status == 200:
        delay -= next_answer.at - began
    return Ending(answer=answer, next_answer=next_answer, delay=max(0.0, delay), left=watch.settle(before))


def _kill(scene: Scene, service: ServiceProcess, slot: int, death: Death, answered: threading.Event) -> None:
    """Kill a slot as its kind of death says; not if its visit is over before
    it has begun.
    """
    assert death.kill_within is not None
    while death.when_begun and not _is_begun(scene, service):
        if answered.wait(0.02):
            return
    time.sleep(random.uniform(0.0, death.kill_within))
    os.kill(slot, signal.SIGKILL)


def _is_begun(scene: Scene, service: ServiceProcess) -> bool:
    # The first stage is there before the slot has said anything.
    slots = scene.get(service, "/ready").json().get("slots", [])
    return any(slot["stage"] not in ("", Stage.PREPARING) for slot in slots)
