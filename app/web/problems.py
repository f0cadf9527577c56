"""How failures look over HTTP: one table of statuses, and RFC 9457 bodies."""

from __future__ import annotations

__all__ = ["PROBLEM_TYPE", "STATUSES", "Problem", "problem_for_error", "problem_for_outcome"]

from http import HTTPStatus
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from models.errors import (
    AlreadyInProgress,
    Disposition,
    InvalidMessage,
    NoPipelineApplies,
    PromptProcessingError,
    StaleVisit,
    UnusableVisit,
)
from models.outcomes import Result, VisitOutcome
from models.visits import FannedOutVisit

#: Media type of every error (RFC 9457).
PROBLEM_TYPE = "application/problem+json"

#: Seconds after which a retriable visit may come again, if nobody knows better.
_RETRY_AFTER = 30

_NOT_RETRIABLE = "This visit should NOT be retried."


class _Status(NamedTuple):
    status: HTTPStatus
    name: str


#: The one table: rejected requests by the error, accepted visits by result.
STATUSES: dict[type[PromptProcessingError] | Result, _Status] = {
    InvalidMessage: _Status(HTTPStatus.BAD_REQUEST, "invalid-message"),
    StaleVisit: _Status(HTTPStatus.FORBIDDEN, "stale-visit"),
    AlreadyInProgress: _Status(HTTPStatus.CONFLICT, "already-in-progress"),
    UnusableVisit: _Status(HTTPStatus.UNPROCESSABLE_ENTITY, "unusable-visit"),
    NoPipelineApplies: _Status(HTTPStatus.UNPROCESSABLE_ENTITY, "no-pipeline-applies"),
    Result.INTERRUPTED: _Status(HTTPStatus.SERVICE_UNAVAILABLE, "interrupted"),
    Result.FAILED: _Status(HTTPStatus.INTERNAL_SERVER_ERROR, "failed"),
    Result.NOT_RETRIABLE: _Status(HTTPStatus.INTERNAL_SERVER_ERROR, "not-retriable"),
}


class Problem(BaseModel):
    """A problem details object (RFC 9457)."""

    model_config = ConfigDict(extra="forbid")

    type: str = Field(description="Identifies the kind of problem.")
    title: str = Field(description="Short name of the kind of problem.")
    status: int = Field(ge=400, le=599)
    detail: str = Field(description="What was wrong, and what to do.")
    reason: str | None = Field(None, description="The error's class, for accepted visits.")
    instrument: str | None = None
    group: str | None = None
    detector: int | None = None
    exposures: tuple[int, ...] | None = Field(None, description="Exposures that were processed.")
    outputs: int | None = Field(None, description="Partial outputs that were exported.")
    alerts: int | None = Field(None, description="Alerts that were sent.")
    warnings: tuple[str, ...] | None = None
    retry_after: int | None = Field(None, exclude=True)

    @classmethod
    def make(cls, status: HTTPStatus | int, name: str, detail: str, **fields: object) -> Problem:
        """Build a problem from its short name."""
        return cls.model_validate(
            {
                "type": f"urn:prompt-processing:problem:{name}",
                "title": name,
                "status": int(status),
                "detail": detail,
                **fields,
            }
        )

    def about(self, visit: FannedOutVisit | None) -> Problem:
        """Return the problem with the visit that it is about."""
        if visit is None:
            return self
        return self.model_copy(
            update={"instrument": visit.instrument, "group": visit.groupId, "detector": visit.detector}
        )


def problem_for_error(error: PromptProcessingError) -> Problem:
    """Describe a visit that was not accepted.

    Parameters
    ----------
    error : `models.errors.PromptProcessingError`
        Found in `STATUSES` by its class or the nearest base, otherwise by its
        disposition.
    """
    for base in type(error).__mro__:
        if base in STATUSES:
            status, name = STATUSES[base]
            return Problem.make(status, name, str(error))
    disposition = getattr(error, "disposition", Disposition.FAILED)
    if disposition is Disposition.NOT_OURS:
        return Problem.make(HTTPStatus.UNPROCESSABLE_ENTITY, "rejected", str(error))
    status, name = STATUSES[Result.from_disposition(disposition)]
    retry_after = _RETRY_AFTER if status is HTTPStatus.SERVICE_UNAVAILABLE else None
    return Problem.make(status, name, str(error), reason=type(error).__name__, retry_after=retry_after)


def problem_for_outcome(outcome: VisitOutcome) -> Problem:
    """Describe an accepted visit that did not succeed."""
    status, name = STATUSES[outcome.result]
    detail = outcome.detail or outcome.title or name
    if outcome.result is Result.NOT_RETRIABLE:
        detail = f"{detail}. {_NOT_RETRIABLE}"
    retry_after = None
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        retry_after = _RETRY_AFTER if outcome.retry_after is None else outcome.retry_after
    return Problem.make(
        status,
        name,
        detail,
        reason=outcome.title or None,
        exposures=outcome.exposures,
        outputs=outcome.outputs,
        alerts=outcome.alerts,
        warnings=outcome.warnings,
        retry_after=retry_after,
    )
