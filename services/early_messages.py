"""Messages of a visit that leave before its result: alerts.

They are put into the ledger's outbox while the slot goes on with the visit.
From then on the visit cannot be run again, so what is to become of it if
nothing else is recorded is stored with them.
"""

from __future__ import annotations

__all__ = ["PAUSES", "EarlyMessages"]

import contextvars
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from models.events import OutboxMessage
from models.outcomes import Result, VisitOutcome
from services.slots.protocol import MessagesMade

_log = logging.getLogger(__name__)

#: Pauses between attempts to tell the ledger something, seconds; the last
#: repeats.
PAUSES = (0.2, 1.0, 5.0, 15.0)

#: Stores messages and what becomes of the visit if nothing else is recorded;
#: says whether it has, which it has not if the visit is somebody else's by
#: now. Safe to repeat until it says anything.
Store = Callable[[Sequence[OutboxMessage], VisitOutcome], bool]


class EarlyMessages:
    """Takes messages of one visit and has them stored, in their order.

    Parameters
    ----------
    store : callable
        See `Store`. Raises what the ledger raises.
    on_trouble : callable
        Called with what was wrong with the ledger, if anything.

    Attributes
    ----------
    count : `int`
        Messages taken.
    left : `list` [`models.events.OutboxMessage`]
        Messages that are to be stored with the result, if that counts.
    """

    def __init__(self, *, store: Store, on_trouble: Callable[[str], object]) -> None:
        self._store = store
        self._on_trouble = on_trouble
        self._lock = threading.Lock()
        self._waiting: deque[tuple[MessagesMade, VisitOutcome]] = deque()
        self._thread: threading.Thread | None = None
        self._no_more = threading.Event()
        self._delay = 0.0
        self.count = 0
        self.left: list[OutboxMessage] = []

    def take(self, made: MessagesMade) -> None:
        """Have messages stored, soon; does not block."""
        with self._lock:
            self.count += len(made.messages)
            # The number tells one delivery of a visit from the next.
            lost = VisitOutcome(
                result=Result.NOT_RETRIABLE,
                title="NotRetriable",
                detail=f"{self.count} alerts were sent before the service ended in the middle of this visit",
                alerts=self.count,
            )
            self._waiting.append((made, lost))
            if self._thread is None:
                # With the labels of the visit in its log.
                self._thread = threading.Thread(
                    target=contextvars.copy_context().run,
                    args=(self._store_now,),
                    name="early-messages",
                    daemon=True,
                )
                self._thread.start()

    @property
    def waiting(self) -> tuple[OutboxMessage, ...]:
        """Messages that could not be stored yet, or are left for the result."""
        with self._lock:
            return (*self.left, *(message for made, _ in self._waiting for message in made.messages))

    def settle(self) -> None:
        """Store what is not stored yet; to be called when no more will come.

        Raises whatever the ledger raises; may be called again then.
        """
        self._no_more.set()
        thread = self._thread
        if thread is not None:
            thread.join()
        self._store_all()

    def complete(self, outcome: VisitOutcome) -> VisitOutcome:
        """Add to a visit's outcome what is known here alone: how many alerts
        there are of a visit whose slot died, and when they were durable.
        """
        timings = outcome.timings
        if self.count and timings.image_to_alert is not None:
            timings = timings.model_copy(update={"image_to_alert": timings.image_to_alert + self._delay})
        return outcome.model_copy(update={"alerts": max(outcome.alerts, self.count), "timings": timings})

    def _store_now(self) -> None:
        for pause in itertools.chain(PAUSES, itertools.repeat(PAUSES[-1])):
            try:
                self._store_all()
            except Exception as error:
                self._on_trouble(str(error))
                _log.warning("Alerts cannot be stored now; trying again: %s", error)
            else:
                return
            if self._no_more.wait(pause):
                # Whoever said so does what is left to do.
                return

    def _store_all(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    # What comes from now on needs another.
                    self._thread = None
                    return
                made, lost = self._waiting[0]
            stored = self._store(made.messages, lost)
            with self._lock:
                self._waiting.popleft()
                self._delay = time.time() - made.made_unix
                if not stored:
                    self.left.extend(made.messages)
