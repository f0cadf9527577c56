"""The desk at which people see an outbox."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa

from models.errors import InvalidConfiguration, TemporarilyUnavailable
from models.events import ALERT, BUTLER_WRITER, OutboxMessage
from models.held_messages import Holding, Selection
from models.outcomes import Result, VisitOutcome
from models.streaming.bus import STOMP
from repos.ledger import Ledger
from repos.ledger_database import create_ledger_engine, writing
from repos.outbox import Outbox
from repos.outbox_desk import OutboxDesk, open_agent_outbox, open_ledger_outbox
from repos.streaming.agent_outbox import AgentOutbox
from repos.streaming.database import create_streaming_engine
from repos.streaming.tables import OUTBOX as AGENT_OUTBOX
from tests.repos.test_ledger import DAY, DEPLOYMENT, make_visit

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ALL = Selection()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/outbox.db"
    return request.getfixturevalue("postgresql").create_database(f"outbox_{uuid4().hex}")


@pytest.fixture
def engine(url: str) -> sa.Engine:
    """A ledger with five messages: one refused, one in somebody's hand."""
    engine = create_ledger_engine(url)
    messages = [
        OutboxMessage(BUTLER_WRITER, "writer", None, b"{}"),
        *(OutboxMessage(ALERT, "alerts", "77", bytes(size)) for size in (10, 20, 30)),
        OutboxMessage(ALERT, "alerts-too", "78", b"\0\xff"),
    ]
    visit, result = make_visit("g1", 3), VisitOutcome(result=Result.PROCESSED)
    Ledger(engine, now=lambda: NOW).finish(visit, DEPLOYMENT, DAY, result, messages)
    outbox = Outbox(engine, owner="service", now=lambda: NOW)
    (taken,) = outbox.lease(ALERT, "alerts", limit=1, seconds=60)
    outbox.refuse(taken.id, "MessageSizeTooLargeError: 10 bytes")
    outbox.lease(ALERT, "alerts", limit=1, seconds=60)
    return engine


@pytest.fixture
def desk(engine: sa.Engine) -> OutboxDesk:
    return OutboxDesk(engine, now=lambda: NOW)


def sizes(desk: OutboxDesk, selection: Selection = ALL) -> list[int]:
    return [message.size for message in desk.messages(selection)]


def test_what_is_there(desk: OutboxDesk) -> None:
    writer, refused, leaving, waiting, other = desk.messages(ALL)
    assert [m.holding for m in (writer, refused, leaving, waiting, other)] == [
        Holding.WAITING,
        Holding.REFUSED,
        Holding.LEAVING,
        Holding.WAITING,
        Holding.WAITING,
    ]
    assert (refused.kind, refused.topic, refused.key, refused.size) == (ALERT, "alerts", "77", 10)
    assert (refused.about, refused.created) == ("DemoCam g1 3", NOW)
    assert refused.reason == "MessageSizeTooLargeError: 10 bytes"
    assert writer.reason is None
    assert [m.id for m in desk.messages(ALL, limit=2)] == [writer.id, refused.id]


@pytest.mark.parametrize(
    ("selection", "found"),
    [
        (ALL, [2, 10, 20, 30, 2]),
        (Selection(kind=ALERT), [10, 20, 30, 2]),
        (Selection(topic="alerts"), [10, 20, 30]),
        (Selection(topic="alerts", kind=BUTLER_WRITER), []),
        (Selection(holding=Holding.REFUSED), [10]),
        (Selection(holding=Holding.LEAVING), [20]),
        (Selection(holding=Holding.WAITING), [2, 30, 2]),
        (Selection(holding=Holding.WAITING, kind=ALERT), [30, 2]),
        (Selection(ids=[]), []),
    ],
)
def test_some_of_it(desk: OutboxDesk, selection: Selection, found: list[int]) -> None:
    assert sizes(desk, selection) == found
    assert desk.count(selection) == len(found)
    assert [len(payload) for _, payload in desk.payloads(selection)] == found


def test_what_a_dead_process_had_in_hand_waits(engine: sa.Engine) -> None:
    later = OutboxDesk(engine, now=lambda: NOW + timedelta(seconds=61))
    assert sizes(later, Selection(holding=Holding.LEAVING)) == []
    assert sizes(later, Selection(holding=Holding.WAITING)) == [2, 20, 30, 2]


def test_a_refused_message_is_put_back(desk: OutboxDesk, engine: sa.Engine) -> None:
    assert desk.requeue(Selection(kind=BUTLER_WRITER)) == 0
    assert desk.requeue(ALL) == 1
    assert desk.requeue(ALL) == 0
    # In its old place; what another process has in hand stays there.
    free = Outbox(engine, owner="other", now=lambda: NOW).lease(ALERT, "alerts", limit=9, seconds=60)
    assert [len(stored.message.payload) for stored in free] == [10, 30]


def test_messages_are_thrown_away_but_those_that_are_leaving(desk: OutboxDesk) -> None:
    everything = [message.id for message in desk.messages(ALL)]
    assert desk.drop(everything[1:4]) == 2
    assert sizes(desk) == [2, 20, 2]
    assert desk.drop(everything) == 2
    assert sizes(desk) == [20]
    assert desk.drop([]) == 0


def test_many_messages(url: str) -> None:
    engine = create_ledger_engine(url)
    many = [OutboxMessage(ALERT, "alerts", None, b"x")] * 1234
    Ledger(engine).finish(make_visit(), DEPLOYMENT, DAY, VisitOutcome(result=Result.PROCESSED), many)
    desk = OutboxDesk(engine)
    assert desk.drop([message.id for message in desk.messages(ALL)]) == 1234


def test_agents_of_one_role(url: str) -> None:
    engine = create_streaming_engine(url)
    for key in ("data.one", "data.two", "processing.one"):
        row = {"kind": STOMP, "topic": "/topic/t", "key": key, "payload": key.encode(), "created": NOW}
        with writing(engine) as connection:
            connection.execute(AGENT_OUTBOX.insert(), row)
    mine = AgentOutbox(engine, agent="data.two", owner="me")
    mine.refuse(mine.pending()[0].id, "no JSON")
    desk = open_agent_outbox(url, setting="S", role="data")
    assert [m.about for m in desk.messages(ALL)] == ["data.one", "data.two"]
    assert desk.requeue(ALL) == 1
    assert mine.count_pending() == {STOMP: 1}
    other = open_agent_outbox(url, setting="S", role="processing")
    assert desk.drop([m.id for m in other.messages(ALL)]) == 0
    assert other.drop([m.id for m in other.messages(ALL)]) == 1
    assert desk.count(ALL) == 2


def test_who_looks_changes_nothing(engine: sa.Engine, url: str) -> None:
    looking = open_ledger_outbox(url, read_only=True)
    assert looking.count(ALL) == 5
    with pytest.raises(TemporarilyUnavailable):
        looking.requeue(ALL)
    looking.close()
    acting = open_ledger_outbox(url)
    assert acting.requeue(ALL) == 1
    acting.close()


def test_nothing_is_made_where_nothing_is(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/nothing.db"
    with pytest.raises(InvalidConfiguration, match="there is no ledger"):
        open_ledger_outbox(url)
    with pytest.raises(InvalidConfiguration, match=r"nothing\.db"):
        open_agent_outbox(url, setting="S", role="data")
    assert list(tmp_path.iterdir()) == []
