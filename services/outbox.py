"""The outbox is drained: messages that wait in the ledger go to their brokers.

What shares a kind and a topic is a *lane* and keeps its order; a lane whose
broker is away or whose topic is missing holds up no other.
"""

from __future__ import annotations

__all__ = ["MessageStore", "OutboxDrain", "Sender"]

import itertools
import logging
import random
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from models.errors import TemporarilyUnavailable
from models.events import Delivery, OutboxMessage, StoredMessage

_log = logging.getLogger(__name__)

#: Seconds for which a lane leases messages, and after which it renews: a
#: process that dies delays the messages in its hand by this much.
_LEASE = 60.0
_RENEW = 15.0
#: Messages that a lane takes at once.
_HANDFUL = 200
#: Seconds between looks for messages that others left behind, or whose end of
#: transaction went unnoticed.
_SWEEP = 20.0
#: Seconds before a second try, at first and at most.
_BACK_OFF = (0.2, 5.0)


class Sender(Protocol):
    """Sends messages to one cluster."""

    def send(self, messages: Sequence[OutboxMessage], *, waiting: Callable[[], object]) -> Sequence[Delivery]:
        """Send messages, calling `waiting` now and then; say what became of each."""

    def close(self) -> None:
        """Let go of the cluster; may be called from any thread."""


class MessageStore(Protocol):
    """Where messages wait; see `repos.outbox.Outbox`."""

    def lanes(self) -> Sequence[tuple[str, str]]:
        """Return kinds and topics of messages that are free to be sent."""

    def lease(self, kind: str, topic: str, *, limit: int, seconds: float) -> Sequence[StoredMessage]:
        """Take messages to send, the oldest first."""

    def renew(self, ids: Collection[int], *, seconds: float) -> None:
        """Extend leases."""

    def release(self, ids: Collection[int]) -> None:
        """Give leases back."""

    def acknowledge(self, ids: Collection[int]) -> None:
        """Delete messages that arrived."""

    def refuse(self, id_: int, reason: str) -> None:
        """Set a message aside."""

    def count_pending(self) -> Mapping[str, int]:
        """Return how many messages of each kind wait."""

    def count_refused(self) -> Mapping[str, int]:
        """Return how many messages of each kind are set aside."""


class OutboxDrain:
    """Sends what is in the outbox, from threads of its own.

    Every message arrives at least once: one that the broker has when this
    process dies, but whose row is still there, is sent again.

    Parameters
    ----------
    store : `MessageStore`
    senders : mapping [`str`, `Sender`]
        Sender by kind of message.
    sweep : `float`, optional
        Seconds between looks for what nobody announced by `wake`.
    """

    def __init__(self, *, store: MessageStore, senders: Mapping[str, Sender], sweep: float = _SWEEP) -> None:
        self._store = store
        self._senders = senders
        self._sweep = sweep
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._deadline = float("inf")
        self._lanes: dict[tuple[str, str], _Lane] = {}
        self._thread = threading.Thread(target=self._watch, name="outbox", daemon=True)
        self._store_trouble: str | None = None
        self._orphans: set[str] = set()
        self._refused: Mapping[str, int] = {}

    def start(self) -> None:
        """Begin; what earlier processes left is sent first."""
        self._wake.set()
        self._thread.start()

    def wake(self) -> None:
        """Look for messages at once; called after each commit of some."""
        self._wake.set()

    def stop(self, timeout: float) -> None:
        """Send what can be sent within some seconds, then end. What remains
        waits in the store.
        """
        if not self._thread.is_alive():
            return
        self._deadline = time.monotonic() + timeout
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout)
        for lane in self._lanes.values():
            lane.thread.join(max(0.0, self._deadline - time.monotonic()))
        for sender in self._senders.values():
            sender.close()

    @property
    def trouble(self) -> str | None:
        """Why messages wait or are set aside, if any are."""
        reasons = [f"nobody sends messages of kind {kind}" for kind in sorted(self._orphans)]
        if self._store_trouble:
            reasons.append(self._store_trouble)
        for lane in self._lanes.values():
            if lane.trouble:
                reasons.append(f"{lane.topic}: {lane.trouble}")
        reasons += [
            f"{count} messages of kind {kind} were refused and are set aside"
            for kind, count in sorted(self._refused.items())
        ]
        return "; ".join(reasons) or None

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the numbers of messages by state (``waiting``, ``refused``)
        and kind; nothing while the store is away.
        """
        try:
            return {
                "waiting": dict(self._store.count_pending()),
                "refused": dict(self._store.count_refused()),
            }
        except TemporarilyUnavailable:
            return {}

    def recount(self) -> None:
        """Count again what is set aside: refusals of this process, of others
        and of earlier ones, and what people have put back.
        """
        # Whatever is wrong with the store is told by those who need it.
        with suppress(Exception):
            self._refused = dict(self._store.count_refused())

    def _watch(self) -> None:
        self.recount()
        while not self._stop.is_set():
            # Not all processes at the same moment.
            if not self._wake.wait(self._sweep * random.uniform(0.75, 1.25)):
                self.recount()
            self._wake.clear()
            self._look()
        # What came while this was told to end.
        self._look()
        for lane in self._lanes.values():
            lane.end()

    def _look(self) -> None:
        for attempt in itertools.count():
            try:
                lanes = self._store.lanes()
            except Exception as error:
                # Whatever it is: without this thread nothing would be sent.
                if self._store_trouble is None:
                    _log.error("The outbox cannot be read: %s", error)
                self._store_trouble = str(error)
                if not self.pause(attempt):
                    return
            else:
                self._store_trouble = None
                for kind, topic in lanes:
                    self._notify(kind, topic)
                return

    def _notify(self, kind: str, topic: str) -> None:
        sender = self._senders.get(kind)
        if sender is None:
            if kind not in self._orphans:
                _log.error("Messages of kind %s wait, but no cluster is configured for them.", kind)
                self._orphans.add(kind)
            return
        lane = self._lanes.get((kind, topic))
        if lane is None:
            lane = _Lane(self, self._store, sender, kind, topic)
            self._lanes = {**self._lanes, (kind, topic): lane}
            lane.thread.start()
        lane.notify()

    def pause(self, attempt: int) -> bool:
        """Wait before another attempt; say whether there is time for one."""
        first, longest = _BACK_OFF
        seconds = min(longest, first * 2 ** min(attempt, 8)) * random.uniform(0.75, 1.25)
        if self._stop.wait(seconds):
            time.sleep(max(0.0, min(first, self._deadline - time.monotonic())))
        return self.has_time

    @property
    def has_time(self) -> bool:
        """Whether the time is not over within which this was told to end."""
        return time.monotonic() < self._deadline


class _Lane:
    """Messages of one kind and topic, and the thread that sends them."""

    def __init__(
        self, drain: OutboxDrain, store: MessageStore, sender: Sender, kind: str, topic: str
    ) -> None:
        self._drain = drain
        self._store = store
        self._sender = sender
        self._kind = kind
        self.topic = topic
        self.trouble: str | None = None
        self._ready = threading.Event()
        self._ending = False
        self._leased: list[int] = []
        self._arrived: list[int] = []
        self._left: list[int] = []
        self._renewed = 0.0
        self.thread = threading.Thread(target=self._run, name=f"outbox-{kind}-{topic}", daemon=True)

    def notify(self) -> None:
        """Look for messages."""
        self._ready.set()

    def end(self) -> None:
        """End when all is sent, or there is no more time."""
        self._ending = True
        self._ready.set()

    def _run(self) -> None:
        while True:
            self._ready.wait()
            # In this order: who tells it to end sets the flag, then the event.
            self._ready.clear()
            ending = self._ending
            self._drain_all()
            if ending:
                return

    def _drain_all(self) -> None:
        attempt = 0
        while True:
            try:
                self._settle()
                if not self._drain.has_time:
                    # Others may send them; in the hands of one whose senders
                    # are closed they would only be out of reach.
                    return
                taken = self._store.lease(self._kind, self.topic, limit=_HANDFUL, seconds=_LEASE)
                if not taken:
                    self.trouble = None
                    return
                failure = self._send(taken)
            except Exception as error:
                failure = self._reason(error)
            if failure is None:
                attempt, self.trouble = 0, None
                continue
            if self.trouble is None:
                _log.error("Messages to %s wait: %s", self.topic, failure)
            self.trouble = failure
            if not self._drain.pause(attempt):
                return
            attempt += 1

    def _send(self, taken: Sequence[StoredMessage]) -> str | None:
        """Send messages; return why some could not be sent, if any."""
        self._leased = [stored.id for stored in taken]
        self._renewed = time.monotonic()
        deliveries: Sequence[Delivery] = ()
        failure = None
        try:
            deliveries = self._sender.send([stored.message for stored in taken], waiting=self._renew)
        except Exception as error:
            failure = self._reason(error)
        arrived, left = [], []
        rest = [Delivery()] * (len(taken) - len(deliveries))
        for stored, delivery in zip(taken, [*deliveries, *rest], strict=True):
            if delivery.arrived:
                arrived.append(stored.id)
            elif delivery.refused is not None:
                self._set_aside(stored, delivery.refused)
            else:
                left.append(stored.id)
                failure = failure or delivery.failed or "not acknowledged"
        self._arrived, self._left = arrived, left
        self._settle()
        if arrived and self.trouble is not None:
            _log.info("Messages to %s arrive again.", self.topic)
        return failure

    def _reason(self, error: Exception) -> str:
        """Return what to say of an error. None ends the lane: its messages
        would wait where nobody sees it.
        """
        if isinstance(error, TemporarilyUnavailable):
            return str(error)
        reason = f"{type(error).__name__}: {error}"
        if self.trouble != reason:
            _log.error("Unexpected error while messages to %s were sent.", self.topic, exc_info=error)
        return reason

    def _settle(self) -> None:
        """Tell the store what became of the last messages; what it cannot be
        told now it is told before others are taken, so that none goes out
        twice, or after those behind it.
        """
        self._store.acknowledge(self._arrived)
        self._arrived = []
        self._store.release(self._left)
        self._left = []

    def _set_aside(self, stored: StoredMessage, reason: str) -> None:
        _log.error(
            "Message %d to %s (%d bytes, visit %s) is refused and stays in the outbox, set aside: %s",
            stored.id,
            self.topic,
            len(stored.message.payload),
            stored.message.visit,
            reason,
        )
        self._store.refuse(stored.id, reason)
        self._drain.recount()

    def _renew(self) -> None:
        if time.monotonic() - self._renewed > _RENEW:
            # A lease lasts for some of these; who broke off here would not
            # know what had arrived.
            with suppress(TemporarilyUnavailable):
                self._store.renew(self._leased, seconds=_LEASE)
            self._renewed = time.monotonic()
