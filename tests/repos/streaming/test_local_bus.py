"""The bus within a process: who gets what, in which order, and nothing is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InvalidMessage, TemporarilyUnavailable
from models.streaming.bus import ReceivedMessage
from repos.streaming import bus_messages
from repos.streaming.bus_messages import check_message
from repos.streaming.local_bus import LocalBroker, LocalBus

TOPIC = "/topic/epictopic"
QUEUE = "/queue/workflow_control"


class Taken:
    """Keeps what it is handed."""

    def __init__(self) -> None:
        self.messages: list[ReceivedMessage] = []

    def __call__(self, message: ReceivedMessage) -> None:
        self.messages.append(message)

    @property
    def texts(self) -> list[str]:
        return [message.text for message in self.messages]


@pytest.fixture
def broker() -> LocalBroker:
    return LocalBroker()


@pytest.fixture
def connect(broker: LocalBroker) -> Iterator[Callable[..., LocalBus]]:
    """Connect to the broker; what was connected ends with the test."""
    buses: list[LocalBus] = []

    def make(client: str = "") -> LocalBus:
        buses.append(broker.connect(client))
        return buses[-1]

    yield make
    for bus in buses:
        bus.stop(5.0)


def test_all_subscribers_of_a_topic_get_all_messages_in_order(
    broker: LocalBroker, connect: Callable[..., LocalBus]
) -> None:
    bus, other = connect(), connect()
    one, two, three, deaf = Taken(), Taken(), Taken(), Taken()
    bus.subscribe(TOPIC, one)
    bus.subscribe(TOPIC, two)
    other.subscribe(TOPIC, three)
    other.subscribe("/topic/another", deaf)
    bus.start()
    other.start()
    sent = [str(number) for number in range(500)]
    for text in sent:
        bus.send(TOPIC, text)
    assert broker.drain(60.0)
    assert one.texts == two.texts == three.texts == sent
    assert deaf.texts == []
    assert {message.destination for message in one.messages} == {TOPIC}
    assert len({message.message_id for message in one.messages}) == len(sent)
    assert [m.message_id for m in one.messages] == [m.message_id for m in three.messages]


def test_one_subscriber_of_a_queue_gets_each_message(connect: Callable[..., LocalBus]) -> None:
    bus = connect()
    one, two = Taken(), Taken()
    both = threading.Barrier(2)

    def meet(taken: Taken) -> Callable[[ReceivedMessage], None]:
        # Neither can take a second one before the other has one.
        def receive(message: ReceivedMessage) -> None:
            both.wait(60.0)
            taken(message)

        return receive

    bus.subscribe(QUEUE, meet(one))
    bus.subscribe(QUEUE, meet(two))
    bus.start()
    bus.send(QUEUE, "a")
    bus.send(QUEUE, "b")
    assert bus.drain(60.0)
    assert len(one.texts) == len(two.texts) == 1
    assert {*one.texts, *two.texts} == {"a", "b"}


def test_a_queue_keeps_what_nobody_listens_for(broker: LocalBroker, connect: Callable[..., LocalBus]) -> None:
    bus = connect()
    bus.start()
    bus.send(QUEUE, "early")
    assert broker.drain(0.0), "nobody could take it"
    late, taken = connect(), Taken()
    late.subscribe(QUEUE, taken)
    late.start()
    assert broker.drain(60.0)
    assert taken.texts == ["early"]


def test_messages_before_the_start_are_handed_over_after_it(connect: Callable[..., LocalBus]) -> None:
    bus, late, taken = connect(), connect(), Taken()
    late.subscribe(TOPIC, taken)
    bus.start()
    bus.send(TOPIC, "early")
    assert taken.texts == []
    late.start()
    assert bus.drain(60.0)
    assert taken.texts == ["early"]


def test_a_message_that_is_not_taken_comes_again_before_others(
    connect: Callable[..., LocalBus], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bus_messages, "_FIRST_PAUSE", 0.001)
    bus, taken = connect(), Taken()
    failures = iter([TemporarilyUnavailable("the database is away"), ValueError("something else"), None])

    def receive(message: ReceivedMessage) -> None:
        if message.text == "b" and (error := next(failures)):
            raise error
        taken(message)

    bus.subscribe(TOPIC, receive)
    bus.start()
    for text in "abc":
        bus.send(TOPIC, text)
    assert bus.drain(60.0)
    assert taken.texts == ["a", "b", "c"]
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        f"A message of {TOPIC} was not taken, and is offered again: the database is away"
    ]


def test_a_slow_subscriber_keeps_nobody_waiting(connect: Callable[..., LocalBus]) -> None:
    bus, taken, go = connect(), Taken(), threading.Event()
    seen = threading.Event()
    bus.subscribe(TOPIC, lambda _: go.wait(60.0) and None)
    bus.subscribe(TOPIC, lambda message: (taken(message), seen.set())[0])
    bus.start()
    bus.send(TOPIC, "a")
    assert seen.wait(60.0)
    assert not bus.drain(0.0), "one is still busy with it"
    go.set()
    assert bus.drain(60.0)


def test_a_durable_subscription_outlives_its_bus(
    broker: LocalBroker, connect: Callable[..., LocalBus], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, sender, passing = connect("data"), connect(), Taken()
    refused = threading.Event()

    def refuse(_: ReceivedMessage) -> None:
        refused.set()
        raise TemporarilyUnavailable("the disk is full")

    first.subscribe(TOPIC, refuse, durable="data")
    first.subscribe(TOPIC, passing)
    first.start()
    sender.start()
    sender.send(TOPIC, "a")
    assert refused.wait(60.0)
    sender.send(TOPIC, "b")
    first.stop(60.0)
    sender.send(TOPIC, "c")
    again, stranger, taken, nothing = connect("data"), connect("processing"), Taken(), Taken()
    again.subscribe(TOPIC, taken, durable="data")
    stranger.subscribe(TOPIC, nothing, durable="data")
    again.start()
    stranger.start()
    assert broker.drain(60.0)
    assert taken.texts == ["a", "b", "c"]
    assert nothing.texts == []
    assert "c" not in passing.texts


def test_nothing_is_handed_over_or_sent_after_the_end(connect: Callable[..., LocalBus]) -> None:
    bus, sender, taken = connect(), connect(), Taken()
    bus.subscribe(QUEUE, taken)
    with pytest.raises(TemporarilyUnavailable, match="is not connected"):
        bus.send(QUEUE, "too early")
    bus.start()
    sender.start()
    assert bus.connected
    bus.stop(5.0)
    assert not bus.connected
    sender.send(QUEUE, "a")
    with pytest.raises(TemporarilyUnavailable, match="is not connected"):
        bus.send(QUEUE, "too late")
    assert taken.texts == []
    bus.stop(5.0)
    LocalBus().stop(5.0)


def test_a_receiver_may_send(connect: Callable[..., LocalBus]) -> None:
    bus, taken = connect(), Taken()
    bus.subscribe(QUEUE, lambda message: bus.send(TOPIC, f"{message.text}!"))
    bus.subscribe(TOPIC, taken)
    bus.start()
    for text in "abc":
        bus.send(QUEUE, text)
    assert bus.drain(60.0)
    assert taken.texts == ["a!", "b!", "c!"]


@pytest.mark.parametrize(
    "destination", ["epictopic", "/topic/", "/queue/", "", "topic/a", "/topic/a\nb:c", "/temp/a"]
)
def test_what_is_no_destination_is_named(destination: str, connect: Callable[..., LocalBus]) -> None:
    bus = connect()
    bus.start()
    with pytest.raises(InvalidMessage, match="destination"):
        bus.send(destination, "{}")
    with pytest.raises(InvalidMessage, match="destination"):
        bus.subscribe(destination, Taken())


@given(st.text())
def test_only_texts_without_nul_and_halves_of_characters_can_be_sent(text: str) -> None:
    bad = "\0" in text or any("\ud800" <= character <= "\udfff" for character in text)
    if bad:
        with pytest.raises(InvalidMessage, match=r"NUL|UTF-8"):
            check_message(TOPIC, text)
    else:
        check_message(TOPIC, text)


@pytest.mark.parametrize("text", ["\0", "a\0b", "\ud83d"])
def test_texts_that_the_bus_would_break_are_refused(text: str) -> None:
    with pytest.raises(InvalidMessage):
        check_message(TOPIC, text)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), max_size=40))
def test_every_sender_s_messages_come_once_and_in_order(sends: list[tuple[str, bool]]) -> None:
    """Whatever fails on the way: two senders, a receiver that fails now and then."""
    broker = LocalBroker()
    bus, senders = broker.connect(), {name: broker.connect() for name in "ab"}
    taken, failing = Taken(), {f"{n}" for n, (_, fails) in enumerate(sends[:6]) if fails}

    def receive(message: ReceivedMessage) -> None:
        number = message.text.split()[1]
        if number in failing:
            failing.discard(number)
            raise ValueError(number)
        taken(message)

    bus.subscribe(QUEUE, receive)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bus_messages, "_FIRST_PAUSE", 0.0)
        for each in (bus, *senders.values()):
            each.start()
        for number, (name, _) in enumerate(sends):
            senders[name].send(QUEUE, f"{name} {number}")
        assert broker.drain(60.0)
        for each in (bus, *senders.values()):
            each.stop(5.0)
    assert taken.texts == [f"{name} {number}" for number, (name, _) in enumerate(sends)]
