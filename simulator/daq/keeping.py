"""Messages and runs, kept before anybody hears of them."""

from __future__ import annotations

__all__ = ["RunKeeper", "Sender"]

import logging
import threading
from typing import Any

from models.errors import PromptProcessingError
from models.streaming.messages import RunMessage
from simulator.daq.bus import DaqBus
from simulator.daq.journal import DaqJournal, KeptMessage, RunRecord
from simulator.daq.progress import Progress

_log = logging.getLogger(__name__)


class Sender:
    """Sends messages that the journal keeps until the bus has confirmed them.

    Parameters
    ----------
    journal : `simulator.daq.journal.DaqJournal`
    bus : `simulator.daq.bus.DaqBus`
    """

    def __init__(self, *, journal: DaqJournal, bus: DaqBus) -> None:
        self._journal = journal
        self._bus = bus

    def send_the_rest(self) -> None:
        """Send what an earlier process could not, as it was."""
        rest = self._journal.unsent()
        if rest:
            _log.warning("%d messages of an earlier process are sent, perhaps again.", len(rest))
        for kept in rest:
            self.send(kept)

    def post(self, destination: str, text: str, *, settles: int | None = None) -> None:
        """Keep and send a message, which may settle a command."""
        self.send(KeptMessage(self._journal.post(destination, text, settles=settles), destination, text))

    def send(self, kept: KeptMessage) -> None:
        """Send a message that is kept."""
        self._bus.send(kept.destination, kept.text, confirmed=lambda: self._forget(kept))

    def _forget(self, kept: KeptMessage) -> None:
        try:
            self._journal.sent(kept.number)
        except PromptProcessingError as error:
            _log.warning("A message was sent, but will be again by the next process: %s", error)


class RunKeeper:
    """Has the journal know how a run is.

    May be used from any thread.

    Parameters
    ----------
    record : `simulator.daq.journal.RunRecord`
    journal : `simulator.daq.journal.DaqJournal`
    sender : `Sender`
    topic : `str`
        Where the run's messages go.
    """

    def __init__(self, record: RunRecord, *, journal: DaqJournal, sender: Sender, topic: str) -> None:
        self._record = record
        self._journal = journal
        self._sender = sender
        self._topic = topic
        self._lock = threading.Lock()

    @property
    def record(self) -> RunRecord:
        """How the run is."""
        return self._record

    def save(self, *, settles: int | None = None) -> None:
        """Keep it for the first time.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if it cannot be kept.
        """
        with self._lock:
            self._journal.save(self._record, settles=settles)

    def tell(self, message: RunMessage, progress: Progress) -> None:
        """Send a message with which the run has come so far.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if it cannot be kept; then it is not sent. That a run is
            over is said all the same.
        """
        text = message.to_text()
        with self._lock:
            record = self._record.model_copy(update={"progress": progress})
            try:
                number = self._journal.save(record, message=(self._topic, text))
            except PromptProcessingError:
                if progress.ended is None:
                    raise
                _log.exception("The end of run %s is not kept.", record.run_id)
                number = None
            self._record = record
            self._sender.send(KeptMessage(number or 0, self._topic, text))

    def note(self, **changes: Any) -> None:
        """Keep that fields of the record have changed, if it can be kept."""
        with self._lock:
            self._record = self._record.model_copy(update=changes)
            try:
                self._journal.save(self._record)
            except PromptProcessingError as error:
                # The run goes on, and whoever goes on for it would know less.
                _log.error("Execution %s: %s", self._record.execution_id, error)
