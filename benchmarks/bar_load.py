"""Bars of a service whose slots are all busy."""

from __future__ import annotations

__all__ = ["load"]

import http.client
import json
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from app.demo.service_process import ServiceProcess
from benchmarks.bar import Bar, at_most, none_of, say
from benchmarks.scene import Scene
from benchmarks.watch import Watch
from services.slots.memory_limit import measure
from simulator.schedule import plan_simulated

#: Slots, and detectors.
_SLOTS = 4
#: Visits of each detector, and so of each slot.
_VISITS = 10
_REQUESTS = 500
#: Seconds between two requests: as many fit into the time of the visits.
_PAUSE = 0.02
_MB = 1e6


def load(scratch: Path) -> Iterator[Bar]:
    """Health checks while every slot works, and the slots' memory after."""
    plan = plan_simulated(seed=7, visits=_VISITS, transients=12, start=time.time())
    scene = Scene(scratch / "scene", plan, slots=_SLOTS)
    say(f"rendering {_VISITS * _SLOTS} frames")
    for planned in plan.visits:
        for frame in planned.frames:
            scene.content(frame)
    with scene.service() as service:
        faults: list[str] = []
        threads = [
            threading.Thread(target=_observe_all, args=(scene, service, detector, faults))
            for detector in range(_SLOTS)
        ]
        for thread in threads:
            thread.start()
        delays, busy = _ask_for_health(service, threads)
        for thread in threads:
            thread.join()
        yield none_of("load: visits not processed", faults, f"{_SLOTS} slots, {_VISITS} ApPipe visits each")
        note = f"{len(delays)} requests, {busy} of them while visits ran; median {_ms(delays, 50):.1f}"
        bar = at_most("GET /health under load: p99, ms", _ms(delays, 99), 100, note)
        yield bar if busy >= _REQUESTS else Bar(bar.bar, bar.value, bar.limit, passed=False, note=note)
        yield _memory(scene, service)


def _observe_all(scene: Scene, service: ServiceProcess, detector: int, faults: list[str]) -> None:
    for planned in scene.plan.visits:
        answer = scene.observe(service, planned, detector)
        if answer.status != 200:
            faults.append(f"{answer.status}: {answer.body.get('detail')}")


def _ask_for_health(service: ServiceProcess, visits: list[threading.Thread]) -> tuple[list[float], int]:
    """Return the seconds that each request took, and how many were sent while
    all visits ran.
    """
    address = urlsplit(service.url)
    delays, busy = [], 0
    for _ in range(_REQUESTS):
        begin = time.perf_counter()
        # A connection each, as Kubernetes does it.
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
        connection.request("GET", "/health")
        assert connection.getresponse().read()
        connection.close()
        delays.append(time.perf_counter() - begin)
        busy += any(thread.is_alive() for thread in visits)
        time.sleep(_PAUSE)
    return delays, busy


def _ms(delays: list[float], percent: int) -> float:
    return 1e3 * statistics.quantiles(delays, n=100, method="inclusive")[percent - 1]


def _memory(scene: Scene, service: ServiceProcess) -> Bar:
    watch = Watch(scene, service)
    caches = _pixel_caches(scene.place.log)
    # An idle slot gives memory back right after its visit.
    time.sleep(1.0)
    private, cached = [], []
    for pid in watch.slots():
        use = measure(pid)
        if use is not None:
            private.append(use.uss)
            cached.append(caches.get(pid, 0))
    template = measure(watch.template)
    own = [(uss - cache) / _MB for uss, cache in zip(private, cached, strict=True)]
    note = (
        f"pixel cache apart: {statistics.median(cached) / _MB:.0f} MB "
        f"(USS with it {statistics.median(private) / _MB:.0f}); "
        f"template's RSS {0 if template is None else template.rss / _MB:.0f} MB"
    )
    return at_most(f"USS of a slot after {_VISITS} ApPipe visits, MB", statistics.median(own), 150, note)


def _pixel_caches(log: Path) -> dict[int, int]:
    """Return by process what each slot last said of its pixel cache, bytes."""
    found = {}
    for line in log.read_text().splitlines():
        if "bytes of pixels are kept" in line:
            entry = json.loads(line)
            found[int(entry["process"])] = int(entry["message"].split()[0])
    return found
