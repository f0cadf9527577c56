"""Bodies of successful answers, and what is asked for in queries."""

from __future__ import annotations

__all__ = ["Health", "Readiness", "SlotReport", "VisitAnswer", "VisitList", "VisitQuery", "VisitReport"]

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from models.ledger import VisitRecord
from models.outcomes import Timings
from services.admission import Answer


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class VisitAnswer(_Body):
    """What became of a visit that was processed, now or before."""

    status: Literal["processed", "already-processed"]
    instrument: str
    group: str
    detector: int
    detail: str = ""
    pipeline: str | None = Field(None, description="Main pipeline that ran.")
    preprocessing_pipeline: str | None = None
    exposures: tuple[int, ...] = Field((), description="Exposures that were processed.")
    outputs: int = Field(0, description="Datasets exported.")
    alerts: int = Field(0, description="Alerts sent.")
    alert_files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    timings: Timings = Field(default_factory=Timings)

    @classmethod
    def of(cls, answer: Answer) -> VisitAnswer:
        """Build the body from an answer whose result is ``processed``."""
        outcome, visit = answer.outcome, answer.visit
        return cls(
            status="already-processed" if answer.repeated else "processed",
            instrument=visit.instrument,
            group=visit.groupId,
            detector=visit.detector,
            **outcome.model_dump(exclude={"result", "title", "retry_after"}),
        )


class VisitReport(_Body):
    """A visit as the ledger has it; times are UTC unix seconds."""

    instrument: str
    group: str
    detector: int
    deployment_id: str
    day_obs: int
    state: str = Field(description="running, or the result.")
    attempts: int = 1
    survey: str = ""
    filter: str = ""
    began: float | None = None
    ended: float | None = None
    title: str = ""
    detail: str = ""
    pipeline: str | None = None
    exposures: tuple[int, ...] = ()
    outputs: int = 0
    alerts: int = 0
    warnings: tuple[str, ...] = ()
    timings: Timings = Field(default_factory=Timings)

    @classmethod
    def of(cls, record: VisitRecord) -> VisitReport:
        """Build the report from the ledger's record."""
        visit, outcome = record.visit, record.outcome
        known = {"result", "preprocessing_pipeline", "alert_files", "retry_after"}
        return cls(
            instrument=visit.instrument,
            group=visit.groupId,
            detector=visit.detector,
            deployment_id=record.deployment_id,
            day_obs=record.day_obs,
            state=record.state,
            attempts=record.attempts,
            survey=visit.survey,
            filter=visit.filters,
            began=record.started.timestamp(),
            ended=record.finished.timestamp() if record.finished is not None else None,
            **(outcome.model_dump(exclude=known) if outcome is not None else {}),
        )


class VisitList(_Body):
    """Visits, the latest first."""

    visits: list[VisitReport]


class Health(_Body):
    """The process can answer."""

    status: Literal["ok"] = "ok"


class SlotReport(_Body):
    """One slot."""

    number: int
    state: str
    visit: str = ""
    stage: str = ""
    visits: int = Field(0, description="Visits it has had.")


class Readiness(_Body):
    """The service can accept a visit."""

    status: Literal["ready"] = "ready"
    deployment_id: str | None = None
    waiting: int = Field(0, description="Visits that wait for a slot.")
    slots: list[SlotReport] = []
    degraded: list[str] = Field([], description="Dependencies that are not well, and why.")


def _digits(value: Any) -> Any:
    # Stricter than int(): a query is text, and int() takes "1_0" and " 1".
    if isinstance(value, str):
        if not (value.isascii() and value.isdigit()):
            raise ValueError("must be digits only")
        return int(value[:20])
    return value


class VisitQuery(BaseModel):
    """Query of the list of visits."""

    model_config = ConfigDict(extra="ignore")

    day_obs: Annotated[int, BeforeValidator(_digits), Field(ge=10000101, le=99991231)] | None = None
    limit: Annotated[int, BeforeValidator(_digits), Field(ge=1, le=10000)] = 200
