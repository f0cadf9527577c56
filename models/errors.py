"""Every failure that the system distinguishes, and what it means to a caller.

`Disposition` is the one table in which it is decided whether a visit may be
sent again. Raise the most specific class; the entry points translate
(``app.web.problems`` into HTTP statuses).
"""

from __future__ import annotations

__all__ = [
    "AlreadyInProgress",
    "Disposition",
    "ExportFailed",
    "ImagesUnusable",
    "InterruptSignal",
    "Interrupted",
    "InvalidConfiguration",
    "InvalidMessage",
    "NoImageArrived",
    "NoPipelineApplies",
    "NoPipelineBuilt",
    "NotInitialised",
    "NotRetriable",
    "PipelineFailed",
    "PipelineUnreadable",
    "ProcessingError",
    "PromptProcessingError",
    "Rejected",
    "ServiceBusy",
    "StaleVisit",
    "Superseded",
    "TaskFailed",
    "TemporarilyUnavailable",
    "UnknownSchema",
    "UnreadableImage",
    "UnusableVisit",
]

from enum import StrEnum


class Disposition(StrEnum):
    """What the sender of a visit may do about a failure."""

    NOT_OURS = "not-ours"
    """The request itself cannot be served; no work was begun."""
    RETRIABLE = "retriable"
    """Nothing was exported, APDB and alerts are untouched: send it again."""
    FAILED = "failed"
    """It would fail the same way again; the APDB is untouched."""
    NOT_RETRIABLE = "not-retriable"
    """APDB or alerts changed, or may have: it should NOT be retried."""


class PromptProcessingError(Exception):
    """Base of every error that this project raises on purpose."""


class InvalidConfiguration(PromptProcessingError):
    """A setting, a configuration file or a camera file is missing or wrong.

    Raised at start, never in the middle of a visit.
    """


class Superseded(PromptProcessingError):
    """Another process has taken the place of this one, which must end."""


class Rejected(PromptProcessingError):
    """The request is not ours to process. No ledger row is written."""

    disposition = Disposition.NOT_OURS


class InvalidMessage(Rejected):
    """A message is malformed, or a field of it is missing or wrong."""


class UnknownSchema(InvalidMessage):
    """A message is in a schema that the registry does not have."""


class StaleVisit(Rejected):
    """The visit was published longer ago than ``MESSAGE_EXPIRATION``."""


class UnusableVisit(Rejected):
    """Coordinates that cannot be processed, or another instrument's visit."""


class NoPipelineApplies(Rejected):
    """No entry of the pipelines configuration matches, or the one that does
    says to run nothing.
    """


class AlreadyInProgress(Rejected):
    """The same visit-detector is being processed now."""


class ProcessingError(PromptProcessingError):
    """An accepted visit could not be finished."""

    disposition = Disposition.FAILED


class Interrupted(ProcessingError):
    """The visit was stopped (signal, time limit, dead slot) before it changed
    anything outside.
    """

    disposition = Disposition.RETRIABLE


class InterruptSignal(BaseException):
    """A slot was told to stop; raised wherever its main thread happens to be.

    Not an `Exception`, so that no task can take it for a failure of its own.
    """


class TemporarilyUnavailable(ProcessingError):
    """A dependency (repository, APDB, broker, ledger) cannot be reached now."""

    disposition = Disposition.RETRIABLE


class ServiceBusy(TemporarilyUnavailable):
    """No slot became free within the queueing time."""


class NotInitialised(TemporarilyUnavailable):
    """The initializer has not run for this deployment and day."""


class NoImageArrived(ProcessingError):
    """No image of the visit arrived in time."""


class ImagesUnusable(ProcessingError):
    """Every image that arrived was rejected."""


class UnreadableImage(ProcessingError):
    """An image is truncated, not FITS, or of another instrument."""


class PipelineFailed(ProcessingError):
    """A pipeline did not succeed."""


class NoPipelineBuilt(PipelineFailed):
    """None of the selected pipelines can run: missing inputs, missing dataset
    types, an empty graph.
    """


class PipelineUnreadable(PipelineFailed):
    """A pipeline file cannot be loaded; no other pipeline is tried."""


class TaskFailed(PipelineFailed):
    """A task raised."""


class NotRetriable(ProcessingError):
    """APDB or alerts changed, or that cannot be determined."""

    disposition = Disposition.NOT_RETRIABLE


class ExportFailed(NotRetriable):
    """Processing succeeded, but its outputs could not be handed over."""
