"""The life that all agents have in common, on a journal and an outbox of SQLite."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa

from models.errors import InvalidMessage, TemporarilyUnavailable
from models.streaming.bus import STOMP, ReceivedMessage
from models.streaming.messages import RUN_TOPIC, Message, StfReady
from models.streaming.monitoring import AgentReport, AgentState, AgentStatus
from repos.ledger_database import writing
from repos.outbox import Outbox
from repos.streaming.database import create_streaming_engine
from repos.streaming.journal import AgentJournal, add_to_outbox
from repos.streaming.tables import INBOX, OUTBOX
from services.outbox import OutboxDrain
from services.streaming.agent import Agent, take_name
from services.streaming.agent_logic import AgentFacts
from services.streaming.bus import BusSender
from services.streaming.monitor import Monitor
from services.streaming.upkeep import Upkeep


def until(what: Callable[[], object], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)


class Wire:
    """A bus that the test delivers on."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.connected = True
        self.durable: str | None = None
        self.deliver: Callable[[ReceivedMessage], None] = lambda message: None

    def subscribe(
        self, destination: str, receive: Callable[[ReceivedMessage], None], *, durable: str | None = None
    ) -> None:
        self.deliver, self.durable = receive, durable

    def send(self, destination: str, text: str) -> None:
        self.sent.append(text)

    def start(self) -> None:
        pass

    def stop(self, timeout: float) -> None:
        self.connected = False


class Ear:
    """A monitor that listens."""

    def __init__(self) -> None:
        self.reports: list[AgentReport] = []
        self.away = False

    def next_agent_id(self) -> int:
        if self.away:
            raise TemporarilyUnavailable("the monitor is away")
        return 7

    def report(self, report: AgentReport) -> None:
        if self.away:
            raise TemporarilyUnavailable("the monitor is away")
        self.reports.append(report)

    def add_subscriber(self, name: str, description: str) -> None:
        pass


class Notes:
    """Logic that notes what it is given."""

    def __init__(self) -> None:
        self.got: list[Message] = []
        self.failures: list[Exception] = []
        self.poison: dict[str, Exception] = {}
        self.recovered = 0
        self.advanced = threading.Event()
        self.finished = False

    def receive(self, messages: Sequence[Message]) -> None:
        if self.failures:
            raise self.failures.pop(0)
        for message in messages:
            if error := self.poison.get(message.msg_type):
                raise error
        self.got += messages

    def advance(self) -> float | None:
        self.advanced.set()
        return None

    def recover(self) -> None:
        self.recovered += 1

    def finish(self, timeout: float) -> None:
        self.finished = True

    def facts(self) -> AgentFacts:
        return AgentFacts(current_stf_count=len(self.got))


class Scene:
    def __init__(self, engine: sa.Engine, **options: Any) -> None:
        self.engine = engine
        self.wire, self.ear, self.notes = Wire(), Ear(), Notes()
        self.journal = AgentJournal(engine, agent="data.epic")
        drain = OutboxDrain(
            store=Outbox(engine, owner="me", exclusive=True, table=OUTBOX),
            senders={STOMP: BusSender(self.wire)},
        )
        self.agent = Agent(
            name="data-agent-alice-7",
            agent_type="DATA",
            namespace="epic",
            destination=RUN_TOPIC,
            subscription="data-epic",
            bus=self.wire,
            journal=self.journal,
            logic=self.notes,
            monitor=cast("Monitor", self.ear),
            drain=drain,
            **{"quiet": 0.1, **options},
        )

    def tell(self, text: str, message_id: str | None = None) -> None:
        self.wire.deliver(ReceivedMessage(RUN_TOPIC, text, message_id))

    def inbox(self) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(sa.select(INBOX.c.text, INBOX.c.refused).order_by(INBOX.c.id)))


@pytest.fixture
def engine(tmp_path: Path) -> sa.Engine:
    return create_streaming_engine(f"sqlite:///{tmp_path}/agent.db")


@pytest.fixture
def scene(engine: sa.Engine) -> Iterator[Scene]:
    scene = Scene(engine)
    yield scene
    scene.agent.stop(5.0)


START = '{"msg_type": "start_run", "namespace": "epic", "run_id": "1"}'
END = '{"msg_type": "end_run", "namespace": "epic", "run_id": "1"}'


def test_messages_take_effect_in_order_and_leave_the_journal(scene: Scene) -> None:
    scene.agent.start()
    scene.tell(START, "a")
    scene.tell(END, "b")
    until(lambda: len(scene.notes.got) == 2)
    assert [message.msg_type for message in scene.notes.got] == ["start_run", "end_run"]
    until(lambda: scene.inbox() == [])
    assert scene.wire.durable == "data-epic"


def test_a_message_is_on_disk_before_the_bus_hears_so(scene: Scene) -> None:
    scene.tell(START, "a")  # Not started: nobody takes it out.
    assert scene.inbox() == [(START, None)]
    again = Scene(scene.engine)
    again.agent.start()
    until(lambda: len(again.notes.got) == 1)
    again.agent.stop(5.0)


def test_what_is_delivered_again_while_it_waits_is_there_once(scene: Scene) -> None:
    scene.tell(START, "a")
    scene.tell(START, "a")
    assert len(scene.inbox()) == 1


@pytest.mark.parametrize(
    "text",
    [
        '{"msg_type": "start_run", "run_id": "1"}',
        '{"msg_type": "start_run", "namespace": "other", "run_id": "1"}',
        "no JSON",
        "[1]",
    ],
)
def test_what_is_not_ours_is_let_pass(scene: Scene, text: str) -> None:
    scene.tell(text)
    assert scene.inbox() == []


def test_a_message_that_cannot_be_read_is_set_aside_and_the_others_are_not(scene: Scene) -> None:
    scene.tell('{"msg_type": "start_run", "namespace": "epic", "run_id": "x"}', "a")
    scene.tell(END, "b")
    scene.agent.start()
    until(lambda: len(scene.notes.got) == 1)
    until(lambda: len(scene.inbox()) == 1)
    assert "run_id" in scene.inbox()[0].refused


@pytest.mark.parametrize("error", [InvalidMessage("no such thing"), ZeroDivisionError("a bug")])
def test_poison_holds_nobody_up_for_ever(scene: Scene, error: Exception) -> None:
    scene.notes.poison["end_run"] = error
    for number, text in enumerate((START, END, START)):
        scene.tell(text, str(number))
    scene.agent.start()
    until(lambda: len(scene.notes.got) == 2)
    until(lambda: len(scene.inbox()) == 1)
    assert str(error) in scene.inbox()[0].refused


def test_a_database_that_is_away_costs_nothing(scene: Scene) -> None:
    scene.notes.failures = [TemporarilyUnavailable("away"), TemporarilyUnavailable("away")]
    scene.tell(START, "a")
    scene.agent.start()
    until(lambda: len(scene.notes.got) == 1)
    until(lambda: scene.inbox() == [])


def test_it_looks_for_what_it_missed(scene: Scene) -> None:
    scene.agent.start()
    until(lambda: scene.notes.recovered)


def test_leftovers_are_sent_when_it_is_quiet(scene: Scene) -> None:
    with writing(scene.engine) as connection:
        add_to_outbox(connection, RUN_TOPIC, [StfReady(namespace="epic", run_id="1")], agent="data.epic")
    scene.agent.start()
    assert scene.notes.advanced.wait(120.0)
    until(lambda: len(scene.wire.sent) == 1)


def test_an_agent_that_the_broker_keeps_out_touches_nothing(scene: Scene) -> None:
    with writing(scene.engine) as connection:
        add_to_outbox(connection, RUN_TOPIC, [StfReady(namespace="epic", run_id="1")], agent="data.epic")
    scene.wire.connected = False
    scene.tell(START)
    scene.agent.start()
    until(lambda: scene.ear.reports)
    assert not scene.notes.advanced.is_set() and not scene.notes.got and not scene.wire.sent
    scene.wire.connected = True
    until(lambda: scene.notes.got and scene.wire.sent)


def test_leftovers_do_not_wait_for_the_end_of_a_run(engine: sa.Engine) -> None:
    scene = Scene(engine, quiet=60.0, patience=0.3)
    with writing(engine) as connection:
        add_to_outbox(connection, RUN_TOPIC, [StfReady(namespace="epic", run_id="1")], agent="data.epic")
    scene.agent.start()
    try:
        # Messages come all the time.
        until(lambda: scene.tell(START) or scene.wire.sent)
    finally:
        scene.agent.stop(5.0)
    assert len(scene.wire.sent) == 1


def test_signs_of_life_go_on_whatever_goes_wrong(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("services.streaming.pulse._AGAIN", 0.01)
    with monkeypatch.context() as faults:
        faults.setattr(scene.ear, "report", lambda report: {}["no such key"])
        scene.agent.start()
        until(lambda: "cannot tell the monitor" in caplog.text)
        faults.setattr(scene.notes, "facts", lambda: {}["nothing known"])
        until(lambda: "cannot say how it is" in caplog.text)
    until(lambda: scene.ear.reports)


def test_the_monitor_hears_how_it_is(scene: Scene) -> None:
    scene.agent.start()
    until(lambda: scene.ear.reports and scene.ear.reports[-1].operational_state is AgentState.READY)
    ready = scene.ear.reports[-1]
    assert (ready.status, ready.mq_connected) == (AgentStatus.OK, True)
    scene.wire.connected = False
    until(lambda: scene.ear.reports[-1].operational_state is AgentState.STARTING)
    assert scene.ear.reports[-1].status is AgentStatus.WARNING
    scene.agent.stop(60.0)
    assert scene.ear.reports[-1].status.value == "EXITED"


def test_the_monitor_hears_how_much_waits(engine: sa.Engine) -> None:
    journal = AgentJournal(engine, agent="data.epic")
    journal.receive(ReceivedMessage(RUN_TOPIC, "no JSON", "a"))
    journal.refuse(journal.waiting(1)[0].id, "it is wrong")
    upkeep = Upkeep(journal=journal, outbox=dict, look=0.01)
    scene = Scene(engine, upkeep=upkeep, heartbeat=0.05)
    scene.agent.start()
    try:
        until(lambda: scene.ear.reports and scene.ear.reports[-1].metadata, 30.0)
    finally:
        scene.agent.stop(30.0)
    assert scene.ear.reports[-1].metadata == {"inbox_waiting": 0, "inbox_refused": 1}


def test_a_name_outlives_a_monitor_that_is_away(engine: sa.Engine) -> None:
    ear, journal = Ear(), AgentJournal(engine, agent="data.epic")
    monitor = cast("Monitor", ear)
    assert take_name(agent_type="DATA", user="al", monitor=monitor, journal=journal) == "data-agent-al-7"
    ear.away = True
    assert take_name(agent_type="DATA", user="al", monitor=monitor, journal=journal) == "data-agent-al-7"
    other = AgentJournal(engine, agent="processing.epic")
    assert "-p" in take_name(agent_type="PROCESSING", user="al", monitor=monitor, journal=other)
