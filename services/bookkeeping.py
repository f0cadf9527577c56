"""The ledger's part in a visit: claim it, keep the claim, record the result.

The ledger may be away at any of these; then a visit goes on, and its result
waits.
"""

from __future__ import annotations

__all__ = ["Bookkeeping"]

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from models.errors import ProcessingError
from models.events import OutboxMessage
from models.ledger import Claim
from models.outcomes import Result, VisitOutcome
from models.visits import FannedOutVisit
from services.admission_parts import VisitLedger
from services.early_messages import PAUSES, EarlyMessages
from services.slots.protocol import Finished

_log = logging.getLogger(__name__)


class Bookkeeping:
    """Does the books of visits; safe to use from many threads.

    Parameters
    ----------
    ledger : `services.admission_parts.VisitLedger`
    record_timeout : `float`
        Seconds for which a result is tried to be recorded.
    refresh_interval : `float` or `None`
        Seconds between two signs of life of a running visit; `None` if claims
        need none.
    """

    def __init__(self, *, ledger: VisitLedger, record_timeout: float, refresh_interval: float | None) -> None:
        self._ledger = ledger
        self._record_timeout = record_timeout
        self._refresh_interval = refresh_interval
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._held: dict[FannedOutVisit, str] = {}
        self._keeper_done: threading.Event | None = None
        self.trouble: str | None = None
        """What was wrong with the ledger when it was last needed."""

    def stop_waiting(self) -> None:
        """Give up soon on what could take long."""
        self._stopping.set()

    def claim(self, visit: FannedOutVisit, deployment_id: str, day_obs: int) -> Claim:
        """Ask to process a visit; granted if the ledger cannot be asked."""
        try:
            claim = self._ledger.claim(visit, deployment_id, day_obs)
        except ProcessingError as error:
            self.trouble = str(error)
            # The APDB and deterministic ids keep a repetition harmless, and a
            # visit that waits for its ledger is a visit lost.
            _log.error("The ledger cannot be asked about %s; processing goes on: %s", visit, error)
            return Claim(granted=True)
        self.trouble = None
        return claim

    @contextmanager
    def holding(self, visit: FannedOutVisit, deployment_id: str) -> Iterator[None]:
        """Keep the claim on a visit while the context lasts."""
        if self._refresh_interval is None:
            yield
            return
        with self._lock:
            self._held[visit] = deployment_id
            if self._keeper_done is None:
                done = self._keeper_done = threading.Event()
                threading.Thread(
                    target=self._keep, args=(self._refresh_interval, done), name="lease-keeper", daemon=True
                ).start()
        try:
            yield
        finally:
            with self._lock:
                del self._held[visit]
                if not self._held and self._keeper_done is not None:
                    self._keeper_done.set()
                    self._keeper_done = None

    def early_messages(self, visit: FannedOutVisit, deployment_id: str, day_obs: int) -> EarlyMessages:
        """Return what takes messages of a visit that leave before its result."""

        def store(messages: Sequence[OutboxMessage], lost: VisitOutcome) -> bool:
            return self._ledger.send(visit, deployment_id, day_obs, messages, lost)

        def on_trouble(trouble: str) -> None:
            self.trouble = trouble

        return EarlyMessages(store=store, on_trouble=on_trouble)

    def write_off(
        self, visit: FannedOutVisit, deployment_id: str, day_obs: int, outcome: VisitOutcome
    ) -> Claim:
        """Record an outcome without an attempt, if the visit may be claimed.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the ledger cannot be reached.
        """
        claim = self._ledger.claim(visit, deployment_id, day_obs)
        if claim.granted:
            self._ledger.finish(visit, deployment_id, day_obs, outcome, ())
        return claim

    def record(
        self,
        visit: FannedOutVisit,
        deployment_id: str,
        day_obs: int,
        finished: Finished,
        early: EarlyMessages,
    ) -> VisitOutcome:
        """Record a result, for as long as it takes or is allowed.

        Parameters
        ----------
        visit : `models.visits.FannedOutVisit`
        deployment_id : `str`
        day_obs : `int`
        finished : `services.slots.protocol.Finished`
        early : `services.early_messages.EarlyMessages`
            Of the visit; what it could not store by now is stored first.

        Returns
        -------
        outcome : `models.outcomes.VisitOutcome`
            The result to answer: another than was to be recorded, if that
            could not be.
        """
        deadline = time.monotonic() + self._record_timeout
        attempt = 0
        while True:
            try:
                early.settle()
                outcome = early.complete(finished.outcome)
                outbox = (*early.left, *finished.outbox)
                self._ledger.finish(visit, deployment_id, day_obs, outcome, outbox)
            except Exception as error:
                self.trouble = str(error)
                pause = PAUSES[min(attempt, len(PAUSES) - 1)]
                attempt += 1
                out_of_time = time.monotonic() + pause > deadline
                if out_of_time or self._stopping.wait(pause):
                    lost = replace(
                        finished,
                        outcome=early.complete(finished.outcome),
                        outbox=(*early.waiting, *finished.outbox),
                    )
                    outcome = _unrecorded(visit, lost, error)
                    self._record_bare(visit, deployment_id, day_obs, outcome)
                    return outcome
                _log.warning("Recording the result of %s failed; trying again: %s", visit, error)
            else:
                self.trouble = None
                return outcome

    def _record_bare(
        self, visit: FannedOutVisit, deployment_id: str, day_obs: int, outcome: VisitOutcome
    ) -> None:
        """Record at least that the visit is over: what cannot be recorded may
        be its messages or the details, and a visit that seems to run for ever
        could not be sent again.
        """
        bare = VisitOutcome(result=outcome.result, title="ResultNotRecorded")
        try:
            self._ledger.finish(visit, deployment_id, day_obs, bare, ())
        except Exception as error:
            _log.error("Nor could be recorded that %s is over: %s", visit, error)

    def _keep(self, interval: float, done: threading.Event) -> None:
        pause = interval
        while not done.wait(pause):
            with self._lock:
                held = list(self._held.items())
            pause = interval
            for visit, deployment_id in held:
                try:
                    if not self._ledger.refresh(visit, deployment_id):
                        _log.warning("The ledger has %s no longer as being processed here.", visit)
                except Exception as error:
                    self.trouble = str(error)
                    _log.warning("The claim on %s could not be refreshed: %s", visit, error)
                    pause = interval / 4


def _unrecorded(visit: FannedOutVisit, finished: Finished, error: Exception) -> VisitOutcome:
    """Return what is answered for a result that could not be recorded."""
    # Somebody must be able to bring this in by hand.
    _log.critical(
        "The result of %s could not be recorded (%s). Outcome: %s. Messages: %r",
        visit,
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
