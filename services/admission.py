"""The way of a visit through the service, up to the slot and back.

This is what every entry point (HTTP here, a stream elsewhere) calls with a
well-formed visit.
"""

from __future__ import annotations

__all__ = ["Answer", "VisitAdmission"]

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from models.errors import (
    AlreadyInProgress,
    NotRetriable,
    ProcessingError,
    PromptProcessingError,
    Rejected,
    StaleVisit,
    UnusableVisit,
)
from models.outcomes import Result, VisitOutcome
from models.times import day_obs, output_date
from models.visits import FannedOutVisit, VisitKey
from services.admission_parts import MetricsSink, Selector, Slots, VisitLedger, VisitObserver
from services.bookkeeping import Bookkeeping
from services.images import ImageListener, ImageSubscription
from services.slots.attendance import ImageFeed
from services.slots.protocol import Finished, MessagesMade, ProcessVisit

_log = logging.getLogger(__name__)

#: What the last line of a visit's log calls its result.
_LOG_WORDS = {
    Result.PROCESSED: "Success",
    Result.INTERRUPTED: "Interrupted",
    Result.FAILED: "Error",
    Result.NOT_RETRIABLE: "Error",
}


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
    refresh_interval : `float`, optional
        Seconds between two signs of life of a running visit in the ledger;
        none by default.
    metrics : `MetricsSink`, optional
        Where the metrics of visits go.
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
        refresh_interval: float | None = None,
        metrics: MetricsSink | None = None,
    ) -> None:
        self._metrics = metrics
        self._instrument = instrument
        self._detectors = detectors
        self._selector = selector
        self._books = Bookkeeping(
            ledger=ledger, record_timeout=record_timeout, refresh_interval=refresh_interval
        )
        self._images = images
        self._slots = slots
        self._observer = observer
        self._message_expiration = message_expiration
        self._start_timeout = start_timeout
        self._tai_now = tai_now
        self._labels = labels
        self._lock = threading.Lock()
        self._running: set[VisitKey] = set()

    @property
    def ledger_trouble(self) -> str | None:
        """What was wrong with the ledger when it was last needed."""
        return self._books.trouble

    def stop_waiting(self) -> None:
        """Give up soon on what could take long: the service is stopping."""
        self._books.stop_waiting()

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

    def write_off(self, visit: FannedOutVisit, why: str) -> Answer:
        """Record that a visit failed, without processing it.

        Parameters
        ----------
        visit : `models.visits.FannedOutVisit`
        why : `str`
            For people.

        Returns
        -------
        answer : `Answer`
            The failure, or what became of the visit before.

        Raises
        ------
        models.errors.AlreadyInProgress
            Raised if the visit is being processed now.
        models.errors.TemporarilyUnavailable
            Raised if it cannot be recorded now.
        """
        deployment_id = self._slots.deployment_id(self._start_timeout)
        outcome = VisitOutcome(result=Result.FAILED, title="GivenUp", detail=why)
        with self._sole(visit):
            claim = self._books.write_off(visit, deployment_id, day_obs(self._tai_now()), outcome)
        if claim.outcome is not None:
            return Answer(visit=visit, outcome=claim.outcome, repeated=True)
        if not claim.granted:
            raise AlreadyInProgress(f"{visit} is being processed now")
        self._observer.accepted(visit)
        self._observer.finished(visit, outcome, 0.0)
        _log.error("Error: %s: failed: %s", visit, why)
        return Answer(visit=visit, outcome=outcome)

    def _answer(self, visit: FannedOutVisit, began_tai: float) -> Answer:
        self._check(visit)
        pipelines = self._selector.select(visit)
        with self._sole(visit):
            deployment_id = self._slots.deployment_id(self._start_timeout)
            claim = self._books.claim(visit, deployment_id, day_obs(began_tai))
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
            with self._books.holding(visit, deployment_id):
                early = self._books.early_messages(visit, deployment_id, day_obs(began_tai))
                finished = self._process(request, early.take)
                outcome = self._books.record(visit, deployment_id, day_obs(began_tai), finished, early)
            self._observer.finished(visit, outcome, time.monotonic() - begin)
            if self._metrics is not None:
                self._metrics.offer(finished.measurements)
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

    def _process(self, request: ProcessVisit, on_messages: Callable[[MessagesMade], object]) -> Finished:
        visit = request.visit
        feed = ImageFeed()
        subscription = self._subscribe(visit, feed)
        try:
            return self._slots.run(request, feed, on_messages)
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


def _outcome_of(error: ProcessingError) -> VisitOutcome:
    return VisitOutcome(
        result=Result.from_disposition(error.disposition), title=type(error).__name__, detail=str(error)
    )
