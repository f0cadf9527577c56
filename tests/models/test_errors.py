"""Errors: every class says what its sender may do."""

from __future__ import annotations

import inspect
import pickle

import pytest

from models import errors
from models.errors import Disposition, ProcessingError, PromptProcessingError, Rejected
from models.outcomes import Result

CLASSES = [
    item
    for name in errors.__all__
    if inspect.isclass(item := getattr(errors, name)) and issubclass(item, PromptProcessingError)
]

#: The one table; a new class needs a decision here.
DISPOSITIONS = {
    "Rejected": "not-ours",
    "InvalidMessage": "not-ours",
    "UnknownSchema": "not-ours",
    "StaleVisit": "not-ours",
    "UnusableVisit": "not-ours",
    "NoPipelineApplies": "not-ours",
    "AlreadyInProgress": "not-ours",
    "ProcessingError": "failed",
    "NoImageArrived": "failed",
    "ImagesUnusable": "failed",
    "UnreadableImage": "failed",
    "PipelineFailed": "failed",
    "NoPipelineBuilt": "failed",
    "PipelineUnreadable": "failed",
    "TaskFailed": "failed",
    "Interrupted": "retriable",
    "TemporarilyUnavailable": "retriable",
    "ServiceBusy": "retriable",
    "NotInitialised": "retriable",
    "NotRetriable": "not-retriable",
    "ExportFailed": "not-retriable",
}
#: About a whole process, so there is no sender.
OF_A_PROCESS = {"PromptProcessingError", "InvalidConfiguration", "Superseded"}


def test_every_class_is_in_the_table() -> None:
    defined = {
        name
        for name, item in vars(errors).items()
        if inspect.isclass(item) and issubclass(item, PromptProcessingError)
    }
    assert defined == {kind.__name__ for kind in CLASSES}
    decided = {c.__name__: str(c.disposition) for c in CLASSES if hasattr(c, "disposition")}
    assert decided == DISPOSITIONS
    assert defined - set(decided) == OF_A_PROCESS


@pytest.mark.parametrize("kind", [c for c in CLASSES if hasattr(c, "disposition")])
def test_what_is_refused_is_not_processed(kind: type[PromptProcessingError]) -> None:
    assert issubclass(kind, Rejected) != issubclass(kind, ProcessingError)
    assert issubclass(kind, Rejected) == (DISPOSITIONS[kind.__name__] == "not-ours")


@pytest.mark.parametrize("kind", CLASSES)
def test_errors_explain_themselves_and_survive_a_pipe(kind: type[PromptProcessingError]) -> None:
    assert kind.__doc__
    again = pickle.loads(pickle.dumps(kind("what was wrong")))
    assert type(again) is kind
    assert str(again) == "what was wrong"


@pytest.mark.parametrize("disposition", Disposition)
def test_a_failure_leaves_its_result(disposition: Disposition) -> None:
    if disposition is Disposition.NOT_OURS:
        with pytest.raises(KeyError):
            Result.from_disposition(disposition)
        return
    expected = {"retriable": "interrupted", "failed": "failed", "not-retriable": "not-retriable"}
    assert Result.from_disposition(disposition) == expected[disposition]
