from __future__ import annotations

import inspect

import pytest

from app.web.problems import problem_for_error, problem_for_outcome
from models import errors
from models.errors import Disposition, NotInitialised, PromptProcessingError, ServiceBusy
from models.outcomes import Result, VisitOutcome
from tests.visits import make_visit

ERRORS = [
    error
    for _, error in inspect.getmembers(errors, inspect.isclass)
    if issubclass(error, PromptProcessingError) and hasattr(error, "disposition")
]


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_has_a_status_that_fits_its_disposition(error: type[PromptProcessingError]) -> None:
    problem = problem_for_error(error("why"))
    ours = {
        Disposition.NOT_OURS: range(400, 500),
        Disposition.RETRIABLE: [503],
        Disposition.FAILED: [500],
        Disposition.NOT_RETRIABLE: [500],
    }
    assert problem.status in ours[error.disposition]  # type: ignore[attr-defined]
    assert problem.detail.startswith("why")
    assert (problem.retry_after is not None) == (problem.status == 503)


@pytest.mark.parametrize("result", [r for r in Result if r is not Result.PROCESSED])
def test_only_what_is_not_retriable_says_so(result: Result) -> None:
    problem = problem_for_outcome(VisitOutcome(result=result, detail="why"))
    assert ("should NOT be retried" in problem.detail) == (result is Result.NOT_RETRIABLE)
    assert problem.title == result.value


def test_outcome_may_say_when_to_come_again() -> None:
    outcome = VisitOutcome(result=Result.INTERRUPTED, retry_after=7)
    assert problem_for_outcome(outcome).retry_after == 7


def test_reason_is_told() -> None:
    assert problem_for_error(ServiceBusy("")).reason == "ServiceBusy"
    assert problem_for_error(NotInitialised("")).reason == "NotInitialised"


def test_problem_names_its_visit() -> None:
    visit = make_visit(groupId="g", detector=4)
    problem = problem_for_outcome(VisitOutcome(result=Result.FAILED)).about(visit)
    assert (problem.instrument, problem.group, problem.detector) == ("Fake-Cam", "g", 4)
    assert problem.about(None) == problem
