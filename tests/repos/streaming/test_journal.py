"""The journal of an agent, on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from models.errors import InvalidConfiguration
from models.events import OutboxMessage
from models.streaming.bus import ReceivedMessage
from models.streaming.messages import RUN_TOPIC, StfReady
from repos.ledger_database import writing
from repos.outbox import Outbox
from repos.streaming.agent_outbox import AgentOutbox
from repos.streaming.database import create_streaming_engine
from repos.streaming.journal import AgentJournal, add_to_outbox
from repos.streaming.tables import OUTBOX
from tests.servers import unique_name


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> sa.Engine:
    if request.param == "sqlite":
        return create_streaming_engine(f"sqlite:///{tmp_path}/agent.db")
    server = request.getfixturevalue("postgresql")
    return create_streaming_engine(server.create_database(unique_name()))


def message(text: str, message_id: str | None = None) -> ReceivedMessage:
    return ReceivedMessage(RUN_TOPIC, text, message_id)


def test_messages_wait_in_order_until_they_are_settled(engine: sa.Engine) -> None:
    journal = AgentJournal(engine, agent="data.epic")
    assert journal.receive(message("a", "1"))
    assert journal.receive(message("b", "2"))
    assert not journal.receive(message("a", "1"))
    # Without a name from the broker nothing tells two messages apart.
    assert journal.receive(message("c")) and journal.receive(message("c"))
    entries = journal.waiting(10)
    assert [entry.text for entry in entries] == ["a", "b", "c", "c"]
    assert [entry.text for entry in journal.waiting(1)] == ["a"]
    assert entries[0].received.tzinfo is not None
    journal.settle([entries[0].id, entries[2].id])
    journal.settle([])
    journal.refuse(entries[1].id, "it is wrong")
    assert [entry.text for entry in journal.waiting(10)] == ["c"]


def test_agents_that_share_a_database_do_not_share_a_journal(engine: sa.Engine) -> None:
    one, other = AgentJournal(engine, agent="data.epic"), AgentJournal(engine, agent="data.other")
    assert one.receive(message("a", "1"))
    assert other.receive(message("a", "1"))
    one.remember("agent_id", "1")
    assert (one.recall("agent_id"), other.recall("agent_id")) == ("1", None)
    one.remember("agent_id", "2")
    assert one.recall("agent_id") == "2"
    assert len(one.waiting(10)) == len(other.waiting(10)) == 1


def test_sends_wait_in_the_outbox(engine: sa.Engine) -> None:
    ready = StfReady(namespace="epic", run_id="1")
    with writing(engine) as connection:
        add_to_outbox(connection, RUN_TOPIC, [ready], agent="data.epic")
        add_to_outbox(connection, RUN_TOPIC, [], agent="data.epic")
    outbox = Outbox(engine, owner="me", table=OUTBOX)
    assert outbox.lanes() == [("stomp", RUN_TOPIC)]
    [stored] = outbox.lease("stomp", RUN_TOPIC, limit=5, seconds=60.0)
    assert stored.message == OutboxMessage(
        kind="stomp", topic=RUN_TOPIC, key="data.epic", payload=ready.to_text().encode()
    )
    outbox.acknowledge([stored.id])
    assert outbox.count_pending() == {}


def test_what_was_set_aside_is_counted_and_forgotten(engine: sa.Engine) -> None:
    journal, other = AgentJournal(engine, agent="data.epic"), AgentJournal(engine, agent="data.other")
    assert journal.counts() == {"waiting": 0, "refused": 0}
    for name in ("a", "b"):
        journal.receive(message(name, name))
        other.receive(message(name, name))
    journal.refuse(journal.waiting(1)[0].id, "it is wrong")
    other.refuse(other.waiting(1)[0].id, "it is wrong")
    assert journal.counts() == {"waiting": 1, "refused": 1}

    now = datetime.now(UTC)
    assert journal.forget(now - timedelta(days=1)) == 0
    assert journal.forget(now + timedelta(days=1)) == 1
    # What waits is not forgotten, whatever its age, nor what is another's.
    assert journal.counts() == {"waiting": 1, "refused": 0}
    assert other.counts() == {"waiting": 1, "refused": 1}


def test_sends_that_were_refused_are_forgotten(engine: sa.Engine) -> None:
    ready = StfReady(namespace="epic", run_id="1")
    with writing(engine) as connection:
        for agent in ("data.epic", "data.epic", "data.other"):
            add_to_outbox(connection, RUN_TOPIC, [ready], agent=agent)
    outboxes = [AgentOutbox(engine, agent=agent, owner="me") for agent in ("data.epic", "data.other")]
    for outbox in outboxes:
        outbox.refuse(outbox.pending()[0].id, "it is wrong")
    now = datetime.now(UTC)
    assert outboxes[0].forget(now - timedelta(days=1)) == 0
    assert outboxes[0].forget(now + timedelta(days=1)) == 1
    assert outboxes[0].count_pending() == {"stomp": 1} and outboxes[0].count_refused() == {}
    assert outboxes[1].count_refused() == {"stomp": 1}


def test_a_transaction_that_fails_sends_nothing(engine: sa.Engine) -> None:
    with pytest.raises(ZeroDivisionError), writing(engine) as connection:
        add_to_outbox(connection, RUN_TOPIC, [StfReady(run_id="1")], agent="data.epic")
        raise ZeroDivisionError
    assert Outbox(engine, table=OUTBOX).count_pending() == {}


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("sqlite://", "must name a file"),
        ("mysql://host/x", "not supported"),
        ("nonsense", "no SQLAlchemy URL"),
    ],
)
def test_a_wrong_url_is_named(url: str, fault: str) -> None:
    with pytest.raises(InvalidConfiguration, match=f"PP_MONITOR_DATABASE.*{fault}"):
        create_streaming_engine(url, setting="PP_MONITOR_DATABASE")
