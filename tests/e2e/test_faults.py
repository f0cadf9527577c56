"""Slots that die in the middle of a visit cost that visit an answer, and
nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from app.demo.service_process import ServiceProcess
from benchmarks.deaths import KINDS, death_variables, die
from benchmarks.scene import SMALL_CAM, Scene
from config.instruments import load_instrument
from simulator.plan import PlannedVisit
from simulator.schedule import plan_simulated

pytestmark = pytest.mark.slow

#: Seconds a visit may take: many times what a good one needs.
_TIMEOUT = 12.0
#: Those that always end the same way.
_CERTAIN = [kind for kind, death in KINDS.items() if len(death.statuses) == 1]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    plan = plan_simulated(
        seed=5,
        visits=2 * len(_CERTAIN) + 1,
        detectors=1,
        transients=0,
        instrument=load_instrument(SMALL_CAM),
        start=time.time(),
    )
    variables = death_variables(_TIMEOUT)
    return Scene(tmp_path_factory.mktemp("faults") / "scene", plan, variables=variables)


@pytest.fixture(scope="module")
def service(scene: Scene) -> Iterator[ServiceProcess]:
    with scene.service() as running:
        yield running


@pytest.fixture(scope="module")
def visits(scene: Scene, service: ServiceProcess) -> Iterator[PlannedVisit]:
    planned = iter(scene.plan.visits)
    # So that local repo and caches exist before anything is compared.
    assert scene.observe(service, next(planned), 0, survey="").status == 200
    return planned


@pytest.mark.parametrize("kind", _CERTAIN)
def test_visit_is_answered_and_the_next_succeeds(
    scene: Scene, service: ServiceProcess, visits: Iterator[PlannedVisit], kind: str
) -> None:
    ending = die(scene, service, kind, visits, detector=0, timeout=_TIMEOUT)
    assert ending.answer.status in KINDS[kind].statuses, ending.answer.body
    assert (ending.answer.retry_after is not None) == (ending.answer.status == 503)
    assert ending.next_answer.status == 200, ending.next_answer.body
    assert ending.left == {}
    if kind == "memory":
        assert "MemoryError" in ending.answer.body["detail"]
