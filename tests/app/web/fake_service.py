"""A service with the fake slot application, and a ledger in memory.

Run under Gunicorn by the tests, which set ``FAKE_*`` variables.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from flask import Flask

from app.web.application import create_app
from app.web.metrics import ServiceMetrics
from app.web.schemas import VisitReport
from app.web.server import ServerConfig, gunicorn_settings
from app.web.service import PromptService
from models.errors import NoPipelineApplies, TemporarilyUnavailable
from models.events import OutboxMessage
from models.outcomes import Result, VisitOutcome
from models.pipelines import SelectedPipelines
from models.times import day_obs, tai_from_unix
from models.visits import FannedOutVisit
from services.admission import Claim, VisitAdmission
from services.slots.pool import SlotPool
from services.slots.process import TemplateProcess
from services.slots.state import PoolConfig
from services.slots.supervisor import TemplateSupervisor

INSTRUMENT = "Fake-Cam"
SLOT_APPLICATION = "tests.services.slots.fake_application:blueprint"


def tai_now() -> float:
    return tai_from_unix(time.time())


class MemoryLedger:
    """Remembers visits while the process lives."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.rows: dict[tuple[str, str, int], VisitReport] = {}
        self.outcomes: dict[tuple[str, str, int], VisitOutcome] = {}
        self.away = False

    def claim(self, visit: FannedOutVisit, deployment_id: str, day_obs: int) -> Claim:
        with self._lock:
            if self.away:
                raise TemporarilyUnavailable("the ledger is away")
            row, last = self.rows.get(visit.key), self.outcomes.get(visit.key)
            if row is not None and row.state == "running":
                return Claim(granted=False)
            if last is not None and last.result in (Result.PROCESSED, Result.NOT_RETRIABLE):
                return Claim(granted=False, outcome=last)
            attempts = 1 if row is None else row.attempts + 1
            self.rows[visit.key] = VisitReport(
                instrument=visit.instrument,
                group=visit.groupId,
                detector=visit.detector,
                deployment_id=deployment_id,
                day_obs=day_obs,
                state="running",
                attempts=attempts,
                survey=visit.survey,
                began=time.time(),
            )
            return Claim(granted=True, attempt=attempts)

    def finish(
        self,
        visit: FannedOutVisit,
        deployment_id: str,
        day_obs: int,
        outcome: VisitOutcome,
        outbox: Sequence[OutboxMessage],
    ) -> None:
        with self._lock:
            if self.away:
                raise TemporarilyUnavailable("the ledger is away")
            self.outcomes[visit.key] = outcome
            self.rows[visit.key] = self.rows[visit.key].model_copy(
                update={"state": outcome.result.value, "detail": outcome.detail, "ended": time.time()}
            )

    def visits(self, day_obs: int | None, limit: int) -> Sequence[VisitReport]:
        with self._lock:
            rows = [r for r in self.rows.values() if day_obs is None or r.day_obs == day_obs]
            return rows[::-1][:limit]

    def visit(self, instrument: str, group: str, detector: int) -> VisitReport | None:
        return self.rows.get((instrument, group, detector))


class FakeSelector:
    def select(self, visit: FannedOutVisit) -> SelectedPipelines:
        if visit.survey == "nothing" or os.environ.get("FAKE_NOTHING"):
            raise NoPipelineApplies(f"no entry of the configuration matches survey {visit.survey!r}")
        return SelectedPipelines(preprocessing=(), main=("Fake.yaml",))


class FakeWatch:
    def start(self) -> None: ...

    def stop(self) -> None: ...

    def subscribe(self, *arguments: Any) -> FakeWatch:
        return self

    def close(self) -> None: ...


def labels(values: Mapping[str, object]) -> AbstractContextManager[object]:
    return nullcontext()


def pool_config() -> PoolConfig:
    env = os.environ
    return PoolConfig(
        count=int(env.get("FAKE_SLOTS", "2")),
        visit_timeout=float(env.get("FAKE_TIMEOUT", "30")),
        grace_period=float(env.get("FAKE_GRACE", "5")),
        queue_timeout=float(env.get("FAKE_QUEUE_TIMEOUT", "1")),
        queue_length=int(env.get("FAKE_QUEUE_LENGTH", "8")),
        memory_limit=300 << 20,
    )


def create_service(ledger: MemoryLedger | None = None) -> PromptService:
    ledger = ledger or MemoryLedger()
    pool = SlotPool(
        config=pool_config(),
        template=TemplateSupervisor(launch=lambda: TemplateProcess.launch(SLOT_APPLICATION)),
    )
    metrics = ServiceMetrics(instrument=INSTRUMENT, snapshot=pool.snapshot)
    admission = VisitAdmission(
        instrument=INSTRUMENT,
        detectors=dict.fromkeys(range(8), "det"),
        selector=FakeSelector(),
        ledger=ledger,
        images=FakeWatch(),
        slots=pool,
        observer=metrics,
        message_expiration=3600.0,
        start_timeout=20.0,
        record_timeout=0.3,
        tai_now=tai_now,
        labels=labels,
    )
    return PromptService(
        instrument=INSTRUMENT,
        admission=admission,
        slots=pool,
        history=ledger,
        metrics=metrics,
        day_obs=lambda: day_obs(tai_now()),
        version="0",
        token=os.environ.get("FAKE_TOKEN"),
    )


def create_wsgi() -> Flask:
    return create_app(create_service())


def options() -> dict[str, Any]:
    """Gunicorn's settings, for a configuration file of one line."""
    config = pool_config()
    return gunicorn_settings(
        ServerConfig(
            bind=os.environ["FAKE_BIND"],
            visits=config.count + config.queue_length,
            grace_period=config.grace_period,
            slot_application=SLOT_APPLICATION,
        )
    )
