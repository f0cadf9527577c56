"""The outbox: messages wait until they are acknowledged."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import sqlalchemy as sa

from models.events import ALERT, BUTLER_WRITER, OutboxMessage
from models.outcomes import Result, VisitOutcome
from repos.ledger import Ledger
from repos.ledger_database import create_ledger_engine
from repos.outbox import Outbox
from tests.repos.test_ledger import DAY, DEPLOYMENT, make_visit

MESSAGES = [
    OutboxMessage(BUTLER_WRITER, "writer", None, b"{}"),
    OutboxMessage(ALERT, "alerts", "key", b"\x00\xff"),
    OutboxMessage(BUTLER_WRITER, "writer", None, b"second"),
]


@pytest.fixture
def engine(tmp_path: Path) -> sa.Engine:
    return create_ledger_engine(f"sqlite:///{tmp_path}/ledger.sqlite3")


@pytest.fixture
def outbox(engine: sa.Engine) -> Outbox:
    ledger = Ledger(engine)
    ledger.claim(make_visit(), DEPLOYMENT, DAY)
    ledger.finish(make_visit(), DEPLOYMENT, DAY, VisitOutcome(result=Result.PROCESSED), MESSAGES)
    return Outbox(engine)


def test_messages_come_back_in_order_with_their_visit(outbox: Outbox) -> None:
    key = make_visit().key
    assert [m.message for m in outbox.pending()] == [dataclasses.replace(m, visit=key) for m in MESSAGES]
    assert [m.message.payload for m in outbox.pending(limit=1)] == [b"{}"]
    assert [m.message.payload for m in outbox.pending(kind=ALERT)] == [b"\x00\xff"]
    assert outbox.count_pending() == {BUTLER_WRITER: 2, ALERT: 1}


def test_acknowledged_messages_wait_no_more(outbox: Outbox, engine: sa.Engine) -> None:
    first, second, third = outbox.pending()
    outbox.acknowledge([first.id, third.id])
    outbox.acknowledge([first.id])
    outbox.acknowledge([])
    # A process that starts anew sees the same.
    engine.dispose()
    assert Outbox(engine).pending() == [second]
    assert outbox.count_pending() == {ALERT: 1}


def test_an_interrupted_visit_leaves_no_message(engine: sa.Engine) -> None:
    Ledger(engine).finish(make_visit(), DEPLOYMENT, DAY, VisitOutcome(result=Result.INTERRUPTED))
    assert Outbox(engine).pending() == []
