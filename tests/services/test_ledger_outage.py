"""Visits while the ledger's PostgreSQL is away."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from models.outcomes import Result, VisitOutcome
from repos.ledger import Ledger
from repos.ledger_database import create_ledger_engine
from repos.outbox import Outbox
from services.slots.attendance import ImageFeed
from services.slots.protocol import Finished, MessagesMade, ProcessVisit
from simulator.servers.postgresql import PostgreSQLServer
from tests.servers import unique_name
from tests.services.test_admission import EARLY, MESSAGE, World, visit

pytestmark = pytest.mark.servers


class Outage(World):
    """A world in which something happens while a visit is processed."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        super().__init__()
        self._meanwhile = meanwhile
        self.result = Finished(outcome=VisitOutcome(result=Result.PROCESSED), outbox=(MESSAGE,))

    def run(
        self, request: ProcessVisit, images: ImageFeed, on_messages: Callable[[MessagesMade], object]
    ) -> Finished:
        self._meanwhile()
        return super().run(request, images, on_messages)


@pytest.fixture
def ledger(postgresql: PostgreSQLServer) -> Ledger:
    return Ledger(create_ledger_engine(postgresql.create_database(unique_name("ledger"))), owner="us")


def waiting(ledger: Ledger) -> list[bytes]:
    return [stored.message.payload for stored in Outbox(ledger._engine).pending()]


def test_it_is_away_at_the_claim(postgresql: PostgreSQLServer, ledger: Ledger) -> None:
    admission = Outage(meanwhile=postgresql.start).admission(ledger=ledger)
    postgresql.stop()
    announced = visit()
    answer = admission.handle(announced)
    assert (answer.outcome.result, answer.repeated) == (Result.PROCESSED, False)
    record = ledger.visit(announced.key)
    assert record is not None
    assert (record.state, record.attempts) == (Result.PROCESSED, 1)
    assert waiting(ledger) == [MESSAGE.payload]
    assert admission.handle(announced).repeated


def test_it_comes_back_in_time(postgresql: PostgreSQLServer, ledger: Ledger) -> None:
    def stop() -> None:
        postgresql.stop()
        threading.Timer(0.5, postgresql.start).start()

    admission = Outage(meanwhile=stop).admission(ledger=ledger, record_timeout=60.0)
    answer = admission.handle(visit())
    assert answer.outcome.result is Result.PROCESSED
    assert waiting(ledger) == [MESSAGE.payload]
    assert admission.ledger_trouble is None


def test_it_is_away_when_alerts_come(postgresql: PostgreSQLServer, ledger: Ledger) -> None:
    def stop() -> None:
        postgresql.stop()
        threading.Timer(0.5, postgresql.start).start()

    world = Outage(meanwhile=stop)
    world.early = [EARLY] * 3
    answer = world.admission(ledger=ledger, record_timeout=120.0).handle(visit())
    assert (answer.outcome.result, answer.outcome.alerts) == (Result.PROCESSED, 3)
    alert = EARLY.messages[0].payload
    assert waiting(ledger) == [alert, alert, alert, MESSAGE.payload]


def test_it_does_not_come_back(
    postgresql: PostgreSQLServer, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    world, announced = Outage(meanwhile=postgresql.stop), visit()
    try:
        answer = world.admission(ledger=ledger, record_timeout=0.5).handle(announced)
    finally:
        postgresql.start()
    assert answer.outcome.result is Result.NOT_RETRIABLE
    # Whole in the log, to be brought in by hand.
    assert repr(MESSAGE.payload) in caplog.text
    record = ledger.visit(announced.key)
    assert record is not None
    assert record.state == "running"
