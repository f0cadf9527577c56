from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from models.outcomes import VisitOutcome
from models.pipelines import SelectedPipelines
from models.raws import FoundImage, parse_raw_key
from services.slots.attendance import ImageFeed
from services.slots.pool import SlotPool
from services.slots.process import TemplateProcess
from services.slots.protocol import MessagesMade, ProcessVisit
from services.slots.state import PoolConfig, SlotView
from services.slots.supervisor import TemplateSupervisor
from tests.visits import make_visit

FAKE = "tests.services.slots.fake_application:blueprint"


class Clock:
    """The clock of time limits, which a test can put forward."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead

    def advance(self, seconds: float, feed: ImageFeed) -> None:
        """Let time pass, and have whoever follows the feed's visit notice."""
        self._ahead += seconds
        key = "Fake-Cam/0/g/0/1000/r/raw.fits"
        feed.deliver(FoundImage(raw=parse_raw_key(key), location=key))


class PoolUnderTest:
    """A pool whose visits do what they are told."""

    def __init__(self, pool: SlotPool) -> None:
        self.pool = pool
        #: What left before the end of a visit.
        self.made: list[MessagesMade] = []

    def run(self, steps: str, feed: ImageFeed | None = None, **fields: Any) -> VisitOutcome:
        request = ProcessVisit(
            visit=make_visit(survey=steps, **fields),
            pipelines=SelectedPipelines(preprocessing=(), main=("Fake.yaml",)),
            output_date="2026-01-01",
        )
        return self.pool.run(request, feed or ImageFeed(), self.made.append).outcome

    def wait_until(self, condition: Callable[[], Any], timeout: float = 60.0) -> Any:
        deadline = time.monotonic() + timeout
        while not (value := condition()):
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.01)
        return value

    def wait_stage(self, stage: str) -> SlotView:
        """Wait until some visit has reached a stage."""
        slots = self.pool.snapshot
        found: SlotView = self.wait_until(lambda: next((s for s in slots().slots if s.stage == stage), None))
        return found

    def wait_ready(self) -> None:
        self.wait_until(lambda: all(s.state == "free" for s in self.pool.snapshot().slots))

    def pids(self) -> list[int | None]:
        return [s.pid for s in self.pool.snapshot().slots]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    stand_in = SimpleNamespace(monotonic=made.monotonic, time=time.time)
    monkeypatch.setattr("services.slots.attendance.time", stand_in)
    return made


@pytest.fixture
def make_pool() -> Iterator[Callable[..., PoolUnderTest]]:
    pools: list[SlotPool] = []

    def make(application: str = FAKE, *, count: int = 1, **limits: Any) -> PoolUnderTest:
        limits = {"visit_timeout": 250.0, "grace_period": 120.0, "queue_timeout": 120.0, **limits}
        supervisor = TemplateSupervisor(launch=lambda: TemplateProcess.launch(application))
        pool = SlotPool(config=PoolConfig(count=count, **limits), template=supervisor)
        pools.append(pool)
        pool.start()
        return PoolUnderTest(pool)

    yield make
    for pool in pools:
        pool.close()
