"""Bar of many slots that write to one central repo and one APDB at once."""

from __future__ import annotations

__all__ = ["exports"]

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lsst.daf.butler import Butler

from app.demo.service_process import ServiceProcess
from benchmarks.bar import Bar, none_of, say
from benchmarks.scene import SMALL_CAM, Scene
from config.instruments import load_instrument
from simulator.schedule import plan_simulated

_SLOTS = 8
_VISITS = 25


def exports(scratch: Path) -> Iterator[Bar]:
    """All visits succeed, no lock error shows, everything is readable."""
    plan = plan_simulated(
        seed=11, visits=_VISITS, transients=3, instrument=load_instrument(SMALL_CAM), start=time.time()
    )
    scene = Scene(scratch / "scene", plan, slots=_SLOTS)
    for planned in plan.visits:
        for frame in planned.frames:
            scene.content(frame)
    faults: list[str] = []
    outputs: list[int] = []
    begin = time.monotonic()
    with scene.service() as service:
        threads = [
            threading.Thread(target=_observe_all, args=(scene, service, detector, outputs, faults))
            for detector in range(_SLOTS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    say(f"{_SLOTS * _VISITS} visits took {time.monotonic() - begin:.0f} s")
    note = f"{_SLOTS * _VISITS} visits on {_SLOTS} slots, {sum(outputs)} outputs"
    yield none_of("exports at once: visits not processed", faults, note)
    locked = [line for line in scene.place.log.read_text().splitlines() if "is locked" in line]
    yield none_of("exports at once: lock errors in the log", locked)
    yield none_of("exports at once: outputs missing or not readable", _unreadable(scene, sum(outputs)))


def _observe_all(
    scene: Scene, service: ServiceProcess, detector: int, outputs: list[int], faults: list[str]
) -> None:
    for planned in scene.plan.visits:
        answer = scene.observe(service, planned, detector)
        if answer.status == 200:
            outputs.append(answer.body["outputs"])
        else:
            faults.append(f"{answer.status}: {answer.body.get('detail')}")


def _unreadable(scene: Scene, expected: int) -> list[str]:
    faults: list[str] = []
    count = 0
    with Butler.from_config(str(scene.place.central)) as butler:
        for ref in butler.query_all_datasets("SmallCam/prompt/*", find_first=False, limit=None):
            if "detector" not in ref.datasetType.dimensions:
                continue
            count += 1
            try:
                value: Any = butler.get(ref)
            except Exception as error:  # every formatter has errors of its own
                faults.append(f"{ref}: {type(error).__name__}: {error}")
            else:
                if value is None:
                    faults.append(f"{ref}: nothing")
    if count != expected:
        faults.append(f"{count} datasets are registered, {expected} were said to be exported")
    return faults
