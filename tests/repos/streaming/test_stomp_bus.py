"""The bus of the field against a real broker, which dies, hangs and refuses."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from models.errors import InvalidConfiguration, InvalidMessage, TemporarilyUnavailable
from models.streaming.bus import ReceivedMessage
from repos.streaming.database import create_streaming_engine
from repos.streaming.journal import AgentJournal
from repos.streaming.stomp_bus import StompBus
from repos.streaming.stomp_connection import Broker, StompConnection
from repos.streaming.stomp_transport import BrokerTls
from simulator.servers.activemq import ActiveMQServer
from simulator.servers.certificates import make_certificates
from tests.servers import unique_name
from tests.stomp_client import plain

pytestmark = pytest.mark.servers

MakeBus = Callable[..., StompBus]


class Taken:
    """Keeps what it is handed."""

    def __init__(self) -> None:
        self.messages: list[ReceivedMessage] = []

    def __call__(self, message: ReceivedMessage) -> None:
        self.messages.append(message)

    def has(self, count: int) -> bool:
        return len(self.messages) == count

    @property
    def texts(self) -> list[str]:
        return [message.text for message in self.messages]


def wait_until(true: Callable[[], object], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def broker_of(server: ActiveMQServer, **changes: object) -> Broker:
    broker = Broker(server.host, server.port, server.user, server.password, client_id=unique_name("c"))
    return replace(broker, **changes)  # type: ignore[arg-type]


@pytest.fixture
def make_bus(activemq: ActiveMQServer) -> Iterator[MakeBus]:
    """Make a bus of a client of its own; it ends with the test."""
    buses: list[StompBus] = []

    def make(**changes: object) -> StompBus:
        buses.append(StompBus(broker_of(activemq, **changes)))
        return buses[-1]

    yield make
    for bus in buses:
        bus.stop(60.0)


def started(bus: StompBus) -> StompBus:
    bus.start()
    wait_until(lambda: bus.connected)
    return bus


def send(bus: StompBus, name: str, text: str) -> None:
    """Send over a bus whose patience is short, until a busy broker has it."""
    while True:
        with suppress(TemporarilyUnavailable):
            bus.send(name, text)
            return
        time.sleep(0.05)


def topic() -> str:
    return f"/topic/{unique_name()}"


def test_all_subscribers_of_a_topic_get_all_messages_in_order(make_bus: MakeBus) -> None:
    name, one, two, three = topic(), Taken(), Taken(), Taken()
    bus, other = make_bus(), make_bus()
    bus.subscribe(name, one)
    bus.subscribe(name, two, durable="two")
    other.subscribe(name, three, durable="three")
    started(bus)
    started(other)
    sent = [f'{{"number": {number}, "Ä": "ö\\u2028\\ud83d\\ude00"}}' for number in range(200)]
    for text in sent:
        bus.send(name, text)
    for taken in (one, two, three):
        wait_until(partial(taken.has, len(sent)))
        assert taken.texts == sent
        assert {message.destination for message in taken.messages} == {name}
        assert len({message.message_id for message in taken.messages}) == len(sent)


def test_each_message_of_a_queue_goes_to_one(make_bus: MakeBus) -> None:
    name, one, two = f"/queue/{unique_name()}", Taken(), Taken()
    sender = started(make_bus())
    for number in range(20):
        sender.send(name, str(number))
    for taken in (one, two):
        bus = make_bus()
        bus.subscribe(name, taken)
        started(bus)
    wait_until(lambda: len(one.texts) + len(two.texts) == 20)
    assert sorted(one.texts + two.texts, key=int) == [str(number) for number in range(20)]


def test_several_threads_send_at_once(make_bus: MakeBus) -> None:
    name, taken = topic(), Taken()
    bus = make_bus()
    bus.subscribe(name, taken)
    started(bus)

    def send(who: int) -> None:
        for number in range(50):
            bus.send(name, f"{who} {number}")

    threads = [threading.Thread(target=send, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: len(taken.messages) == 200)
    for who in range(4):
        assert [text for text in taken.texts if text.startswith(f"{who} ")] == [
            f"{who} {n}" for n in range(50)
        ]


def test_a_durable_subscription_waits_for_a_client_that_is_away(make_bus: MakeBus) -> None:
    name, before, after, passing = topic(), Taken(), Taken(), Taken()
    first = make_bus(client_id="away")
    first.subscribe(name, before, durable="runs")
    first.subscribe(name, passing)
    started(first)
    sender = started(make_bus())
    sender.send(name, "here")
    wait_until(lambda: before.texts and passing.texts)
    first.stop(60.0)
    assert not first.connected
    sender.send(name, "away")
    again = make_bus(client_id="away")
    again.subscribe(name, after, durable="runs")
    started(again)
    sender.send(name, "back")
    wait_until(lambda: len(after.texts) == 2)
    assert (before.texts, after.texts, passing.texts) == (["here"], ["away", "back"], ["here"])


def test_what_was_not_taken_comes_again_with_its_id_and_in_its_place(make_bus: MakeBus) -> None:
    name, seen, after = topic(), Taken(), Taken()

    def refuse(message: ReceivedMessage) -> None:
        seen(message)
        if message.text != "a":
            raise TemporarilyUnavailable("the disk is full")

    first = make_bus(client_id="full")
    first.subscribe(name, refuse, durable="runs")
    started(first)
    sender = started(make_bus())
    for text in "abc":
        sender.send(name, text)
    wait_until(lambda: seen.texts.count("b") > 2)
    first.stop(60.0)
    assert set(seen.texts) == {"a", "b"}, "c is behind it"
    again = make_bus(client_id="full")
    again.subscribe(name, after, durable="runs")
    started(again)
    wait_until(lambda: len(after.texts) == 2)
    assert after.texts == ["b", "c"]
    assert after.messages[0] == seen.messages[-1]


def test_a_receiver_that_fails_gets_the_message_again_before_others(make_bus: MakeBus) -> None:
    name, taken = topic(), Taken()
    failures = itertools.chain([ValueError("odd"), TemporarilyUnavailable("away")], itertools.repeat(None))

    def receive(message: ReceivedMessage) -> None:
        if error := next(failures):
            raise error
        taken(message)

    bus = make_bus()
    bus.subscribe(name, receive)
    started(bus)
    for text in "abc":
        bus.send(name, text)
    wait_until(lambda: len(taken.texts) == 3)
    assert taken.texts == ["a", "b", "c"]


@pytest.mark.slow
def test_nothing_is_lost_by_a_broker_that_is_killed(
    activemq: ActiveMQServer, make_bus: MakeBus, tmp_path: Path
) -> None:
    name = topic()
    engine: sa.Engine = create_streaming_engine(f"sqlite:///{tmp_path}/agent.db")
    journal = AgentJournal(engine, agent="data.epic")
    came = Taken()

    def receive(message: ReceivedMessage) -> None:
        journal.receive(message)
        came(message)

    bus = make_bus(heart_beat=2.0)
    bus.subscribe(name, receive, durable="runs")
    started(bus)
    sender = started(make_bus(heart_beat=2.0, timeout=2.0))
    sent = [str(number) for number in range(400)]

    def send_all() -> None:
        # As the outbox does: in order, each until it is known to have arrived.
        for text in sent:
            send(sender, name, text)

    thread = threading.Thread(target=send_all, daemon=True)
    thread.start()
    for part in (100, 250):
        while len(set(came.texts)) <= part:
            time.sleep(0.01)
        activemq.kill()
        activemq.start()
    thread.join(200.0)
    wait_until(lambda: set(came.texts) >= set(sent))
    kept = [entry.text for entry in journal.waiting(1000)]
    # A send whose answer was lost is sent again: one for each death, at most.
    assert list(dict.fromkeys(kept)) == sent
    assert len(kept) <= len(sent) + 2
    assert len(kept) == len({message.message_id for message in came.messages})


@pytest.mark.parametrize("tls", [False, True])
def test_a_broker_that_dies_is_noticed_at_once_and_found_again(
    activemq: ActiveMQServer, make_bus: MakeBus, *, tls: bool
) -> None:
    changes = {"tls": BrokerTls(activemq.ca_certs), "port": activemq.ssl_port} if tls else {}
    bus = make_bus(**changes, timeout=2.0)
    started(bus)
    activemq.kill()
    try:
        wait_until(lambda: not bus.connected)
        with pytest.raises(
            TemporarilyUnavailable, match=r"may not have arrived: the broker .* (hung up|cannot be)"
        ):
            bus.send("/topic/any", "{}")
    finally:
        activemq.start()
    wait_until(lambda: bus.connected)


@pytest.mark.parametrize("tls", [False, True])
def test_a_broker_that_hangs_is_left_and_found_again(
    activemq: ActiveMQServer, make_bus: MakeBus, caplog: pytest.LogCaptureFixture, *, tls: bool
) -> None:
    changes = {"tls": BrokerTls(activemq.ca_certs), "port": activemq.ssl_port} if tls else {}
    name, taken = topic(), Taken()
    bus = make_bus(**changes, heart_beat=0.5, timeout=1.0)
    bus.subscribe(name, taken, durable="runs")
    started(bus)
    send(bus, name, "before")
    wait_until(lambda: taken.texts)
    activemq.pause()
    try:
        with pytest.raises(TemporarilyUnavailable):
            # It may still take some before it stops.
            while True:
                bus.send(name, "meanwhile")
        wait_until(lambda: "nothing was heard of the broker" in caplog.text)
    finally:
        activemq.resume()
    wait_until(lambda: bus.connected)
    send(bus, name, "after")
    wait_until(lambda: "after" in taken.texts)


def test_tls_with_the_right_authority_and_a_certificate_of_ours(
    activemq: ActiveMQServer, make_bus: MakeBus
) -> None:
    tls = BrokerTls(activemq.ca_certs, *activemq.client_certificate)
    name, taken = topic(), Taken()
    bus = make_bus(tls=tls, port=activemq.ssl_port)
    bus.subscribe(name, taken)
    started(bus)
    large = "x" * 3_000_000
    bus.send(name, large)
    bus.send(name, "small")
    wait_until(lambda: len(taken.texts) == 2)
    assert taken.texts == [large, "small"]


def test_a_broker_of_another_authority_is_refused(
    activemq: ActiveMQServer, make_bus: MakeBus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = make_certificates(tmp_path, host=activemq.host, password="secret")
    bus = make_bus(tls=BrokerTls(other.ca), port=activemq.ssl_port, timeout=0.5)
    bus.start()
    wait_until(lambda: "is not trusted" in caplog.text)
    assert "ACTIVEMQ_SSL_CA_CERTS must name the authority" in caplog.text

    def send_is_refused() -> bool:
        with pytest.raises(TemporarilyUnavailable) as refused:
            bus.send("/topic/any", "{}")
        return "is not trusted" in str(refused.value)

    wait_until(send_is_refused)
    assert not bus.connected


def test_plain_words_to_a_broker_that_wants_tls_are_noticed(
    activemq: ActiveMQServer, make_bus: MakeBus, caplog: pytest.LogCaptureFixture
) -> None:
    make_bus(port=activemq.ssl_port, timeout=1.0).start()
    make_bus(tls=BrokerTls(activemq.ca_certs), timeout=1.0).start()
    wait_until(lambda: "does it want TLS" in caplog.text)
    wait_until(lambda: "no TLS with the broker" in caplog.text)


def test_certificates_that_cannot_be_read_are_named(activemq: ActiveMQServer, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match=r"ACTIVEMQ_SSL_CA_CERTS: .*none\.pem does not hold"):
        StompBus(broker_of(activemq, tls=BrokerTls(tmp_path / "none.pem")))
    key = activemq.client_certificate[1]
    with pytest.raises(InvalidConfiguration, match=r"ACTIVEMQ_SSL_CERT_FILE.* no certificate with its key"):
        StompBus(broker_of(activemq, tls=BrokerTls(activemq.ca_certs, key, key)))


def test_a_wrong_password_is_said_once_and_tried_on(
    make_bus: MakeBus, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repos.streaming.stomp_bus._LONGEST_PAUSE", 0.05)
    bus = make_bus(password="guessed", timeout=60.0)
    tried: list[int] = []
    open_ = bus._open

    def counted() -> StompConnection:
        tried.append(len(tried))
        return open_()

    monkeypatch.setattr(bus, "_open", counted)
    bus.start()
    wait_until(lambda: len(tried) > 3)
    said = [record.getMessage() for record in caplog.records if record.name == "repos.streaming.stomp_bus"]
    assert len(said) == 1
    assert "password is invalid" in said[0]
    assert "guessed" not in caplog.text


def test_a_client_id_is_let_in_once_at_a_time(make_bus: MakeBus, caplog: pytest.LogCaptureFixture) -> None:
    first, second = started(make_bus(client_id="same")), make_bus(client_id="same")
    second.start()
    wait_until(lambda: "already connected" in caplog.text)
    assert first.connected
    assert not second.connected
    first.stop(60.0)
    wait_until(lambda: second.connected)


def test_messages_are_persistent_and_have_their_fields_as_headers(
    activemq: ActiveMQServer, make_bus: MakeBus
) -> None:
    name = topic()
    reader = plain(activemq)
    reader.log_in(activemq, name=unique_name())
    reader.ask("SUBSCRIBE", destination=name, id="1", ack="auto", receipt="subscribed")
    bus = started(make_bus())
    bus.send(name, '{"msg_type": "stf_gen", "namespace": "epic", "run_id": "102363", "sender": "daq"}')
    head, _, body = reader.read().partition("\n\n")
    assert {"persistent:true", "msg_type:stf_gen", "namespace:epic", "run_id:102363"} <= set(
        head.splitlines()
    )
    assert "content-length" not in head, "the broker would take it for bytes"
    assert body.endswith('"sender": "daq"}')
    for odd in ('["no object"]', "no JSON", '{"namespace": 1, "run_id": "1\\n2", "msg_type": ""}', ""):
        bus.send(name, odd)
        head, _, body = reader.read().partition("\n\n")
        assert body == odd
        assert "namespace" not in head


def test_bytes_that_are_no_text_end_nothing(activemq: ActiveMQServer, make_bus: MakeBus) -> None:
    name, taken = topic(), Taken()
    bus = make_bus()
    bus.subscribe(name, taken)
    started(bus)
    sender = plain(activemq)
    sender.log_in(activemq, name=unique_name())
    head = f"SEND\ndestination:{name}\ncontent-length:4\nreceipt:s\n\n"
    sender._connection.sendall(head.encode() + b"\xff\0\n\x80" + b"\0")
    assert sender.read().startswith("RECEIPT")
    bus.send(name, "text")
    wait_until(lambda: len(taken.texts) == 2)
    assert taken.texts == ["\ufffd\0\n\ufffd", "text"]


def test_what_no_bus_takes_is_refused(make_bus: MakeBus) -> None:
    bus = make_bus()
    with pytest.raises(InvalidMessage, match="NUL"):
        bus.send("/topic/a", "a\0b")
    with pytest.raises(InvalidMessage, match="must start with /queue/ or /topic/"):
        bus.send("epictopic", "{}")
    with pytest.raises(InvalidMessage, match="must start with"):
        bus.subscribe("epictopic", Taken())


def test_a_bus_ends_while_it_is_still_trying(make_bus: MakeBus) -> None:
    never, trying = make_bus(), make_bus(port=1, timeout=250.0)
    never.stop(1.0)
    never.start()
    assert not never.connected
    trying.start()
    failed: list[TemporarilyUnavailable] = []

    def send() -> None:
        try:
            trying.send("/topic/any", "{}")
        except TemporarilyUnavailable as error:
            failed.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    trying.stop(60.0)
    thread.join(60.0)
    assert failed, "who sends must not be kept waiting"
    trying.stop(1.0)
