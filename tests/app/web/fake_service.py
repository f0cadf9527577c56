"""A service with the fake slot application.

Run under Gunicorn by the tests, which set ``FAKE_*`` variables.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from flask import Flask

from app.logging import log_labels
from app.web.application import create_app
from app.web.metrics import ServiceMetrics
from app.web.server import ServerConfig, gunicorn_settings
from app.web.service import PromptService
from models.errors import NoPipelineApplies, TemporarilyUnavailable
from models.ledger import Claim
from models.pipelines import SelectedPipelines
from models.times import day_obs, tai_from_unix
from models.visits import FannedOutVisit
from repos.ledger import Ledger
from repos.ledger_database import create_ledger_engine
from services.admission import VisitAdmission
from services.slots.pool import SlotPool
from services.slots.process import TemplateProcess
from services.slots.state import PoolConfig
from services.slots.supervisor import TemplateSupervisor

INSTRUMENT = "Fake-Cam"
SLOT_APPLICATION = "tests.services.slots.fake_application:blueprint"


def tai_now() -> float:
    return tai_from_unix(time.time())


class ShakyLedger(Ledger):
    """A ledger in a file of its own, which is away while another file exists."""

    def __init__(self, directory: Path) -> None:
        super().__init__(create_ledger_engine(f"sqlite:///{directory}/ledger.sqlite3"))
        self._away = directory / "away"

    def claim(self, visit: FannedOutVisit, deployment_id: str, day_obs: int) -> Claim:
        self._check()
        return super().claim(visit, deployment_id, day_obs)

    def send(self, *arguments: Any) -> bool:
        self._check()
        return super().send(*arguments)

    def finish(self, *arguments: Any) -> None:
        self._check()
        super().finish(*arguments)

    def _check(self) -> None:
        if self._away.exists():
            raise TemporarilyUnavailable("the ledger is away")


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


def pool_config() -> PoolConfig:
    env = os.environ
    return PoolConfig(
        count=int(env.get("FAKE_SLOTS", "2")),
        visit_timeout=float(env.get("FAKE_TIMEOUT", "250")),
        grace_period=float(env.get("FAKE_GRACE", "60")),
        queue_timeout=float(env.get("FAKE_QUEUE_TIMEOUT", "120")),
        queue_length=int(env.get("FAKE_QUEUE_LENGTH", "8")),
        memory_limit=300 << 20,
    )


def create_service() -> PromptService:
    ledger = ShakyLedger(Path(os.environ["FAKE_DIRECTORY"]))
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
        start_timeout=120.0,
        record_timeout=0.3,
        tai_now=tai_now,
        labels=log_labels,
    )
    return PromptService(
        instrument=INSTRUMENT,
        admission=admission,
        slots=pool,
        history=ledger,
        metrics=metrics,
        day_obs=lambda: day_obs(tai_now()),
        version="0",
        dependencies={"ledger": lambda: admission.ledger_trouble},
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
