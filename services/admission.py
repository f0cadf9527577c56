"""The way of a visit through the service, up to the slot and back.

This is what every entry point (HTTP here, a stream elsewhere) calls with a
well-formed visit.
"""

from __future__ import annotations

__all__ = [
    "Answer",
    "Selector",
    "Slots",
    "VisitAdmission",
    "VisitLedger",
    "VisitObserver",
]

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from models.errors import (
    AlreadyInProgress,
    NotRetriable,
    ProcessingError,
    PromptProcessingError,
    Rejected,
    StaleVisit,
    UnusableVisit,
)
from models.events import OutboxMessage
from models.ledger import Claim
from models.outcomes import Result, VisitOutcome
from models.pipelines import SelectedPipelines
from models.times import day_obs, output_date
from models.visits import FannedOutVisit, VisitKey
from services.images import ImageListener, ImageSubscription
from services.slots.attendance import ImageFeed
from services.slots.protocol import Finished, ProcessVisit

_log = logging.getLogger(__name__)

#: Pauses between attempts to record a result, seconds; the last repeats.
_RECORD_PAUSES = (0.2, 1.0, 5.0, 15.0)

#: What the last line of a visit's log calls its result.
_LOG_WORDS = {
    Result.PROCESSED: "Success",
    Result.INTERRUPTED: "Interrupted",
    Result.FAILED: "Error",
    Result.NOT_RETRIABLE: "Error",
}


class VisitLedger(Protocol):
    """Remembers what became of each visit of a deployment."""

    def claim(self, visit: FannedOutVisit, deployment_id: str, day_obs: int) -> Claim:
        """Ask to process a visit; atomic.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the ledger cannot be reached.
        """

    def finish(
        self,
        visit: FannedOutVisit,
        deployment_id: str,
        day_obs: int,
        outcome: VisitOutcome,
        outbox: Sequence[OutboxMessage],
    ) -> None:
        """Record a result and its messages in one transaction, whether or not
        the claim could be recorded.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the ledger cannot be reached.
        """


class Selector(Protocol):
    """Chooses the pipelines of a visit."""

    def select(self, visit: FannedOutVisit) -> SelectedPipelines:
        """Return the pipelines.

        Raises
        ------
        models.errors.NoPipelineApplies
            Raised if there is nothing to run.
        """


class Slots(Protocol):
    """Processes visits; see `services.slots.pool.SlotPool`."""

    def deployment_id(self, timeout: float) -> str:
        """Return the deployment id.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if no slot has been ready by then.
        """

    def run(self, request: ProcessVisit, images: ImageFeed) -> Finished:
        """Process a visit.

        Raises
        ------
        models.errors.ProcessingError
            Raised if the slots cannot give an answer of their own.
        """


class VisitObserver(Protocol):
    """Counts visits."""

    def received(self, visit: FannedOutVisit) -> None:
        """A visit has come in."""

    def accepted(self, visit: FannedOutVisit) -> None:
        """A visit is being processed from now on."""

    def finished(self, visit: FannedOutVisit, outcome: VisitOutcome, seconds: float) -> None:
        """An accepted visit is over."""

    def refused(self, visit: FannedOutVisit, error: PromptProcessingError) -> None:
        """A visit was not accepted."""

    def answered(self, visit: FannedOutVisit) -> None:
        """A visit has its answer, whatever that is."""


@dataclass(frozen=True)
class Answer:
    """The answer to a visit.

    Attributes
    ----------
    repeated : `bool`
        Whether the outcome is that of an earlier attempt, and nothing was run.
    """

    visit: FannedOutVisit
    outcome: VisitOutcome
    repeated: bool = False


class VisitAdmission:
    """Takes visits and answers them; safe to use from many threads.

    Parameters
    ----------
    instrument : `str`
        The only one whose visits are ours.
    detectors : mapping [`int`, `str`] or `None`
        Full name by id of the detectors that the instrument has; `None` if
        that is not known here.
    selector, ledger, images, slots, observer
        See the protocols.
    message_expiration : `float`
        Seconds after its publication for which a visit is of use.
    start_timeout : `float`
        Seconds that a visit waits for the first slot of a starting service.
    record_timeout : `float`
        Seconds for which a result is tried to be recorded.
    tai_now : callable
        Returns the present time, TAI.
    labels : callable
        Called with labels for the log, returns a context in which they hold.
    """

    def __init__(
        self,
        *,
        instrument: str,
        detectors: Mapping[int, str] | None,
        selector: Selector,
        ledger: VisitLedger,
        images: ImageListener,
        slots: Slots,
        observer: VisitObserver,
        message_expiration: float,
        start_timeout: float,
        record_timeout: float,
        tai_now: Callable[[], float],
        labels: Callable[[Mapping[str, object]], AbstractContextManager[object]],
    ) -> None:
        self._instrument = instrument
        self._detectors = detectors
        self._selector = selector
        self._ledger = ledger
        self._images = images
        self._slots = slots
        self._observer = observer
        self._message_expiration = message_expiration
        self._start_timeout = start_timeout
        self._record_timeout = record_timeout
        self._tai_now = tai_now
        self._labels = labels
        self._lock = threading.Lock()
        self._running: set[VisitKey] = set()
        self._ledger_trouble: str | None = None
        self._stopping = threading.Event()

    @property
    def ledger_trouble(self) -> str | None:
        """What was wrong with the ledger when it was last needed."""
        return self._ledger_trouble

    def stop_waiting(self) -> None:
        """Give up soon on what could take long: the service is stopping."""
        self._stopping.set()

    def handle(self, visit: FannedOutVisit) -> Answer:
        """Process a visit, or say what became of it before.

        Raises
        ------
        models.errors.Rejected
            Raised if the visit is not ours to process.
        models.errors.TemporarilyUnavailable
            Raised if it cannot even be accepted now.
        """
        begin = time.monotonic()
        began_tai = self._tai_now()
        self._observer.received(visit)
        labels = {
            "instrument": visit.instrument,
            "day_obs": day_obs(began_tai),
            "group": visit.groupId,
            "survey": visit.survey,
            "detector": visit.detector,
        }
        with self._labels(labels):
            try:
                answer = self._answer(visit, began_tai)
            except PromptProcessingError as error:
                self._observer.refused(visit, error)
                word = "Ignore" if isinstance(error, Rejected) else "Interrupted"
                _log.info("%s after %.3f s: %s: %s", word, time.monotonic() - begin, visit, error)
                raise
            finally:
                self._observer.answered(visit)
            outcome = answer.outcome
            word = "Ignore" if answer.repeated else _LOG_WORDS[outcome.result]
            _log.info(
                "%s after %.3f s: %s: %s%s",
                word,
                time.monotonic() - begin,
                visit,
                outcome.result,
                f": {outcome.detail}" if outcome.detail else "",
            )
            return answer

    def _answer(self, visit: FannedOutVisit, began_tai: float) -> Answer:
        self._check(visit)
        pipelines = self._selector.select(visit)
        with self._sole(visit):
            deployment_id = self._slots.deployment_id(self._start_timeout)
            claim = self._claim(visit, deployment_id, day_obs(began_tai))
            if not claim.granted:
                if claim.outcome is None:
                    raise AlreadyInProgress(f"{visit} is being processed now")
                return Answer(visit=visit, outcome=claim.outcome, repeated=True)
            request = ProcessVisit(
                visit=visit,
                pipelines=pipelines,
                output_date=output_date(began_tai),
                attempt=claim.attempt,
            )
            self._observer.accepted(visit)
            begin = time.monotonic()
            finished = self._process(request)
            outcome = self._record(request, deployment_id, day_obs(began_tai), finished)
            self._observer.finished(visit, outcome, time.monotonic() - begin)
            return Answer(visit=visit, outcome=outcome)

    def _check(self, visit: FannedOutVisit) -> None:
        age = self._tai_now() - visit.private_sndStamp
        if age > self._message_expiration:
            raise StaleVisit(
                f"the visit was published {age:.0f} s ago, more than the {self._message_expiration:.0f} s "
                "of MESSAGE_EXPIRATION (private_sndStamp is TAI)"
            )
        if visit.instrument != self._instrument:
            raise UnusableVisit(f"this service processes {self._instrument}, not {visit.instrument!r}")
        if self._detectors is not None and visit.detector not in self._detectors:
            raise UnusableVisit(f"{self._instrument} has no detector {visit.detector}")
        visit.check_usable()

    @contextmanager
    def _sole(self, visit: FannedOutVisit) -> Iterator[None]:
        """Keep duplicates out, also while the ledger is away."""
        with self._lock:
            if visit.key in self._running:
                raise AlreadyInProgress(f"{visit} is being processed now")
            self._running.add(visit.key)
        try:
            yield
        finally:
            with self._lock:
                self._running.discard(visit.key)

    def _claim(self, visit: FannedOutVisit, deployment_id: str, day: int) -> Claim:
        try:
            claim = self._ledger.claim(visit, deployment_id, day)
        except ProcessingError as error:
            self._ledger_trouble = str(error)
            # The APDB and deterministic ids keep a repetition harmless, and a
            # visit that waits for its ledger is a visit lost.
            _log.error("The ledger cannot be asked about %s; processing goes on: %s", visit, error)
            return Claim(granted=True)
        self._ledger_trouble = None
        return claim

    def _process(self, request: ProcessVisit) -> Finished:
        visit = request.visit
        feed = ImageFeed()
        subscription = self._subscribe(visit, feed)
        try:
            return self._slots.run(request, feed)
        except ProcessingError as error:
            return Finished(outcome=_outcome_of(error))
        except Exception as error:
            _log.exception("Unexpected error while a slot processed %s.", visit)
            unclear = NotRetriable(f"{type(error).__name__}: {error}; what has been changed is not known")
            return Finished(outcome=_outcome_of(unclear))
        finally:
            if subscription is not None:
                subscription.close()

    def _subscribe(self, visit: FannedOutVisit, feed: ImageFeed) -> ImageSubscription | None:
        name = self._detectors.get(visit.detector) if self._detectors is not None else None
        try:
            return self._images.subscribe(visit.instrument, visit.detector, name, feed.deliver)
        except Exception:
            # The slot still looks for itself what has arrived.
            _log.exception("Cannot listen for the images of %s; they will only be looked for.", visit)
            return None

    def _record(
        self, request: ProcessVisit, deployment_id: str, day: int, finished: Finished
    ) -> VisitOutcome:
        """Record a result, for as long as it takes or is allowed."""
        deadline = time.monotonic() + self._record_timeout
        attempt = 0
        while True:
            try:
                self._ledger.finish(request.visit, deployment_id, day, finished.outcome, finished.outbox)
            except Exception as error:
                self._ledger_trouble = str(error)
                pause = _RECORD_PAUSES[min(attempt, len(_RECORD_PAUSES) - 1)]
                attempt += 1
                out_of_time = time.monotonic() + pause > deadline
                if out_of_time or self._stopping.wait(pause):
                    return self._give_up(request, finished, error)
                _log.warning("Recording the result of %s failed; trying again: %s", request.visit, error)
            else:
                self._ledger_trouble = None
                return finished.outcome

    def _give_up(self, request: ProcessVisit, finished: Finished, error: Exception) -> VisitOutcome:
        # Somebody must be able to bring this in by hand.
        _log.critical(
            "The result of %s could not be recorded (%s). Outcome: %s. Messages: %r",
            request.visit,
            error,
            finished.outcome.model_dump_json(),
            finished.outbox,
        )
        outcome = finished.outcome
        if outcome.result is Result.INTERRUPTED or (outcome.result is Result.FAILED and not finished.outbox):
            return outcome
        return outcome.model_copy(
            update={
                "result": Result.NOT_RETRIABLE,
                "title": "ResultNotRecorded",
                "detail": f"the visit ended {outcome.result}, but that could not be recorded: {error}",
            }
        )


def _outcome_of(error: ProcessingError) -> VisitOutcome:
    return VisitOutcome(
        result=Result.from_disposition(error.disposition), title=type(error).__name__, detail=str(error)
    )
