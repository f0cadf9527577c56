"""Messages that leave before a visit's result."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from models.errors import TemporarilyUnavailable
from models.events import ALERT, OutboxMessage
from models.outcomes import Result, Timings, VisitOutcome
from services.early_messages import EarlyMessages
from services.slots.protocol import MessagesMade

LONG = 60.0


def made(*payloads: bytes) -> MessagesMade:
    messages = tuple(OutboxMessage(kind=ALERT, topic="alerts", key=None, payload=p) for p in payloads)
    return MessagesMade(messages=messages, made_unix=0.0)


class Ledger:
    """Stores messages, when it is there."""

    def __init__(self) -> None:
        self.stored: list[bytes] = []
        self.lost: list[VisitOutcome] = []
        self.asked = 0
        self.troubles: list[str] = []
        self.failures: list[Exception] = []
        self.ours = True
        self.called = threading.Semaphore(0)
        self.open = threading.Event()
        self.open.set()

    def store(self, messages: Sequence[OutboxMessage], lost: VisitOutcome) -> bool:
        self.called.release()
        assert self.open.wait(LONG)
        self.asked += 1
        if self.failures:
            raise self.failures.pop(0)
        if self.ours:
            self.stored.extend(message.payload for message in messages)
            self.lost.append(lost)
        return self.ours

    def early(self) -> EarlyMessages:
        return EarlyMessages(store=self.store, on_trouble=self.troubles.append)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def test_they_are_stored_while_the_visit_goes_on(ledger: Ledger) -> None:
    early = ledger.early()
    early.take(made(b"a", b"b"))
    # Nobody has to ask for it.
    assert ledger.called.acquire(timeout=LONG)
    early.settle()
    assert (ledger.stored, early.waiting, early.left) == ([b"a", b"b"], (), [])


def test_the_slot_does_not_wait_for_the_ledger(ledger: Ledger) -> None:
    early = ledger.early()
    ledger.open.clear()
    for number in range(3):
        early.take(made(b"%d" % number))
    assert [message.payload for message in early.waiting] == [b"0", b"1", b"2"]
    ledger.open.set()
    early.settle()
    assert ledger.stored == [b"0", b"1", b"2"]


def test_more_may_come_after_some_were_stored(ledger: Ledger) -> None:
    early = ledger.early()
    for number in range(20):
        early.take(made(b"%d" % number))
        assert ledger.called.acquire(timeout=LONG)
    early.settle()
    assert ledger.stored == [b"%d" % number for number in range(20)]


def test_each_delivery_has_its_own_testament(ledger: Ledger) -> None:
    early = ledger.early()
    early.take(made(b"a", b"b"))
    early.take(made(b"c"))
    early.settle()
    assert [lost.alerts for lost in ledger.lost] == [2, 3]
    assert {lost.result for lost in ledger.lost} == {Result.NOT_RETRIABLE}
    assert "3 alerts were sent" in ledger.lost[-1].detail


def test_order_is_kept_when_the_ledger_was_away(ledger: Ledger) -> None:
    early = ledger.early()
    ledger.failures = [TemporarilyUnavailable("away")]
    ledger.open.clear()
    early.take(made(b"a"))
    early.take(made(b"b"))
    ledger.open.set()
    early.settle()
    assert (ledger.stored, ledger.asked, ledger.troubles) == ([b"a", b"b"], 3, ["away"])


def test_they_are_stored_when_the_ledger_is_back(ledger: Ledger) -> None:
    early = ledger.early()
    ledger.failures = [TemporarilyUnavailable("away")]
    early.take(made(b"a"))
    early.take(made(b"b"))
    # The visit may last.
    for _ in range(3):
        assert ledger.called.acquire(timeout=LONG)
    early.settle()
    assert (ledger.stored, ledger.troubles) == ([b"a", b"b"], ["away"])


def test_what_the_ledger_says_in_the_end_is_for_the_caller(ledger: Ledger) -> None:
    early = ledger.early()
    ledger.failures = [TemporarilyUnavailable("away")] * 1000
    early.take(made(b"a"))
    with pytest.raises(TemporarilyUnavailable, match="away"):
        early.settle()
    assert [message.payload for message in early.waiting] == [b"a"]
    ledger.failures = []
    early.settle()
    assert (ledger.stored, early.waiting) == ([b"a"], ())


def test_messages_of_a_visit_that_is_another_ones_wait_for_the_result(ledger: Ledger) -> None:
    early = ledger.early()
    ledger.ours = False
    early.take(made(b"a", b"b"))
    early.settle()
    assert [message.payload for message in early.left] == [b"a", b"b"]
    assert early.waiting == tuple(early.left)
    assert ledger.stored == []


def test_the_outcome_says_when_they_were_durable(ledger: Ledger) -> None:
    early = ledger.early()
    early.take(made(b"a"))
    early.settle()
    before = VisitOutcome(result=Result.PROCESSED, alerts=1, timings=Timings(image_to_alert=2.0, total=9.0))
    after = early.complete(before)
    # Made at time 0, in 1970.
    assert after.timings.image_to_alert is not None and after.timings.image_to_alert > 1e9
    assert (after.alerts, after.timings.total, after.result) == (1, 9.0, Result.PROCESSED)
    # However often it is asked: a result is recorded once.
    assert early.complete(before) == after


def test_the_outcome_of_a_visit_without_any_stays(ledger: Ledger) -> None:
    outcome = VisitOutcome(result=Result.PROCESSED, alerts=4, timings=Timings(image_to_alert=2.0))
    assert ledger.early().complete(outcome) == outcome


def test_alerts_of_a_visit_whose_slot_died_are_counted(ledger: Ledger) -> None:
    early = ledger.early()
    early.take(made(b"a", b"b"))
    outcome = early.complete(VisitOutcome(result=Result.NOT_RETRIABLE, detail="the slot died"))
    assert (outcome.alerts, outcome.detail, outcome.timings.image_to_alert) == (2, "the slot died", None)
