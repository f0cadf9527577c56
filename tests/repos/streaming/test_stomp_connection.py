"""One connection to a broker that misbehaves, which real ones rarely do on demand."""

from __future__ import annotations

import json
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stomp.utils import Frame

from models.errors import InvalidMessage, TemporarilyUnavailable
from models.streaming.bus import ReceivedMessage
from repos.streaming.stomp_bus import StompBus, _headers_of
from repos.streaming.stomp_connection import Broker, StompConnection

HOST = "127.0.0.1"
GREETING = b"CONNECTED\nversion:1.2\nheart-beat:0,0\n\n\0"


class Peer:
    """The broker's side of a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._connection.settimeout(60.0)
        self._rest = b""

    def write(self, frame: bytes) -> None:
        self._connection.sendall(frame)

    def read(self) -> str:
        """Return the next frame, without its NUL."""
        while b"\0" not in self._rest:
            received = self._connection.recv(65536)
            if not received:
                raise ConnectionError("the client hung up")
            self._rest = (self._rest + received).lstrip(b"\n")
        frame, _, self._rest = self._rest.partition(b"\0")
        return frame.decode()

    def read_header(self, name: str) -> str:
        """Return a header of the next frame."""
        lines = self.read().partition("\n\n")[0].splitlines()
        [value] = [line.partition(":")[2] for line in lines if line.startswith(f"{name}:")]
        return value

    def confirm(self) -> None:
        """Read a frame; send the receipt that it asks for."""
        self.write(f"RECEIPT\nreceipt-id:{self.read_header('receipt')}\n\n\0".encode())

    def hang_up(self) -> None:
        self._connection.shutdown(socket.SHUT_RDWR)


class FakeBroker:
    """Does what a script says with each connection, one after the other."""

    def __init__(self) -> None:
        self._listener = socket.create_server((HOST, 0))
        self._connections: list[socket.socket] = []
        self.port = self._listener.getsockname()[1]

    def run(self, *scripts: Callable[[Peer], None], heart_beat: float = 0.0, timeout: float = 60.0) -> Broker:
        threading.Thread(target=self._run, args=scripts, daemon=True).start()
        return Broker(
            HOST, self.port, "user", "secret", client_id="c", heart_beat=heart_beat, timeout=timeout
        )

    def _run(self, *scripts: Callable[[Peer], None]) -> None:
        # Tests end while it still reads.
        with suppress(OSError):
            for script in scripts:
                self._connections.append(self._listener.accept()[0])
                script(Peer(self._connections[-1]))

    def close(self) -> None:
        self._listener.close()
        for connection in self._connections:
            connection.close()


@pytest.fixture
def fake() -> Iterator[FakeBroker]:
    broker = FakeBroker()
    yield broker
    broker.close()


def nothing(_: StompConnection, __: Frame) -> None:
    """Take no message."""


def greet(peer: Peer) -> None:
    peer.read()
    peer.write(GREETING)


def opened(broker: Broker, deliver: Callable[[StompConnection, Frame], None] = nothing) -> StompConnection:
    connection = StompConnection(broker, deliver)
    connection.open()
    return connection


def test_the_greeting_is_that_of_the_field(fake: FakeBroker) -> None:
    said: list[str] = []

    def script(peer: Peer) -> None:
        said.append(peer.read())
        peer.write(GREETING)

    connection = opened(fake.run(script))
    connection.close("")
    lines = said[0].splitlines()
    assert lines[0] == "STOMP"
    assert {"accept-version:1.1,1.2", "login:user", "passcode:secret", "client-id:c", f"host:{HOST}"} <= {
        *lines
    }


@pytest.mark.parametrize(
    ("version", "acknowledgement"),
    [
        ("1.1", ["ACK", "message-id:ID\\c1", "subscription:1"]),
        ("1.2", ["ACK", "id:ack\\c1"]),
    ],
)
def test_messages_are_acknowledged_as_the_version_wants_it(
    fake: FakeBroker, version: str, acknowledgement: list[str]
) -> None:
    said: queue.Queue[str] = queue.Queue()

    def script(peer: Peer) -> None:
        peer.read()
        peer.write(f"CONNECTED\nversion:{version}\n\n\0".encode())
        peer.write(b"MESSAGE\nmessage-id:ID\\c1\nsubscription:1\nack:ack\\c1\ndestination:/topic/a\n\n{}\0")
        said.put(peer.read())

    opened(fake.run(script), lambda connection, frame: connection.acknowledge(frame))
    assert said.get(timeout=60.0).split() == acknowledgement


def test_heart_beats_that_come_together_cost_no_message(fake: FakeBroker) -> None:
    """As after a pause of this process: stomp.py takes the first blank line of
    two for the end of a frame without a name.
    """
    came: queue.Queue[bytes] = queue.Queue()
    message = b"MESSAGE\nmessage-id:1\nsubscription:1\ndestination:/topic/a\n\n%s\0"

    def script(peer: Peer) -> None:
        greet(peer)
        for number in range(3):
            peer.write(b"\n" * (number + 1) + message % b"%d" % number)
            time.sleep(0.05)
        peer.write(b"\n\n")
        time.sleep(0.05)
        peer.write(message[:20])
        time.sleep(0.05)
        peer.write(message[20:] % b"in two" + b"\n\n\n" + message % b"\n\nlast")

    opened(fake.run(script), lambda _, frame: came.put(frame.body))
    assert [came.get(timeout=60.0) for _ in range(5)] == [b"0", b"1", b"2", b"in two", b"\n\nlast"]


def test_a_send_that_is_refused_for_itself_is_told_from_others(fake: FakeBroker) -> None:
    refusals = ["The maximum data length was exceeded", "no permission to write"]

    def script(peer: Peer) -> None:
        greet(peer)
        for refusal in refusals:
            receipt = peer.read_header("receipt")
            peer.write(f"ERROR\nreceipt-id:{receipt}\nmessage:{refusal}\n\ntrace\nof Java\0".encode())
        peer.confirm()

    connection = opened(fake.run(script))
    with pytest.raises(InvalidMessage, match=r"maximum data length was exceeded$"):
        connection.send("/topic/a", "x", {})
    with pytest.raises(TemporarilyUnavailable, match=r"no permission to write$"):
        connection.send("/topic/a", "y", {})
    connection.send("/topic/a", "z", {})
    assert not connection.lost.is_set()


def test_an_error_that_is_nobody_s_ends_the_connection(fake: FakeBroker) -> None:
    def script(peer: Peer) -> None:
        greet(peer)
        peer.read()
        peer.write(b"ERROR\n\nthe store exceeded its limit\nand more\0")

    connection = opened(fake.run(script))
    with pytest.raises(TemporarilyUnavailable, match=r"refuses: the store exceeded its limit$"):
        connection.send("/topic/a", "x", {})
    assert connection.lost.wait(60.0)


def test_a_broker_that_hangs_up_leaves_nobody_waiting(fake: FakeBroker) -> None:
    def script(peer: Peer) -> None:
        greet(peer)
        peer.read()
        peer.hang_up()

    connection = opened(fake.run(script))
    with pytest.raises(TemporarilyUnavailable, match="hung up"):
        connection.send("/topic/a", "x", {})
    with pytest.raises(TemporarilyUnavailable, match="hung up"):
        connection.send("/topic/a", "y", {})


def test_a_broker_that_does_not_answer_is_not_waited_for_for_ever(fake: FakeBroker) -> None:
    with pytest.raises(TemporarilyUnavailable, match=r"did not answer within 0\.5 s"):
        opened(fake.run(lambda peer: None, timeout=0.5))


def test_a_broker_that_reads_nothing_is_left(fake: FakeBroker) -> None:
    connection = opened(fake.run(greet))
    connection._transport._timeout = 0.5
    with pytest.raises(TemporarilyUnavailable, match=r"nothing could be written for 0\.5 s"):
        connection.send("/topic/a", "x" * 30_000_000, {})
    assert connection.lost.wait(60.0)


def test_a_version_that_is_too_old_is_said(fake: FakeBroker) -> None:
    def script(peer: Peer) -> None:
        peer.read()
        peer.write(b"CONNECTED\nsession:1\n\n\0")

    with pytest.raises(TemporarilyUnavailable, match=r"speaks STOMP 1\.0 only"):
        opened(fake.run(script))


def test_a_broker_that_is_silent_longer_than_it_promised_is_left(fake: FakeBroker) -> None:
    def script(peer: Peer) -> None:
        peer.read()
        peer.write(b"CONNECTED\nversion:1.2\nheart-beat:200,200\n\n\0")

    connection = StompConnection(fake.run(script, heart_beat=0.2), nothing)
    # A busy machine may find that out before it has finished opening.
    with suppress(TemporarilyUnavailable):
        connection.open()
    assert connection.lost.wait(60.0)
    assert connection.reason.startswith("nothing was heard of the broker")


def test_heart_beats_are_sent_twice_as_often_as_promised(fake: FakeBroker) -> None:
    """ActiveMQ looks once in an interval whether anything came."""
    beats: queue.Queue[bytes] = queue.Queue()

    def script(peer: Peer) -> None:
        peer.read()
        peer.write(b"CONNECTED\nversion:1.2\nheart-beat:0,1000\n\n\0")
        while True:
            beats.put(peer._connection.recv(1))

    connection = opened(fake.run(script, heart_beat=1.0))
    assert [beats.get(timeout=60.0) for _ in range(2)] == [b"\n", b"\n"]
    assert connection._protocol.send_sleep == 0.5
    connection.close("")


def test_a_broker_may_be_silent_for_two_intervals(fake: FakeBroker) -> None:
    """After a message, ActiveMQ lets one interval pass without a heart-beat."""

    def script(peer: Peer) -> None:
        peer.read()
        peer.write(b"CONNECTED\nversion:1.2\nheart-beat:60000,0\n\n\0")

    connection = opened(fake.run(script, heart_beat=30.0))
    assert connection._protocol.receive_sleep == 150.0
    connection.close("")


def test_heart_beats_go_on_while_a_receiver_takes_its_time(fake: FakeBroker) -> None:
    go, acknowledged = threading.Event(), queue.Queue[str]()

    def script(peer: Peer) -> None:
        peer.read()
        peer.write(b"CONNECTED\nversion:1.2\nheart-beat:0,200\n\n\0")
        peer.confirm()
        peer.write(b"MESSAGE\nmessage-id:1\nack:a\nsubscription:1\ndestination:/topic/a\n\n{}\0")
        for _ in range(4):
            assert peer._connection.recv(1) == b"\n"
        go.set()
        acknowledged.put(peer.read_header("id"))

    taken: queue.Queue[bool] = queue.Queue()
    bus = StompBus(fake.run(script, heart_beat=0.2))
    bus.subscribe("/topic/a", lambda _: taken.put(go.wait(60.0)), durable="d")
    bus.start()
    try:
        assert acknowledged.get(timeout=60.0) == "a"
        assert taken.get(timeout=60.0)
        assert bus.connected
    finally:
        bus.stop(1.0)


def test_what_a_lost_connection_brought_is_left_to_the_next(fake: FakeBroker) -> None:
    """A message in hand when the connection ends is given up, as it comes again."""
    taken: queue.Queue[str] = queue.Queue()
    trying = threading.Event()
    message = "MESSAGE\nmessage-id:{0}\nack:{0}\nsubscription:1\ndestination:/topic/a\n\n{0}\0"
    acknowledged: queue.Queue[str] = queue.Queue()

    def script(peer: Peer) -> None:
        greet(peer)
        peer.confirm()
        peer.write(b"".join(message.format(number).encode() for number in "123"))
        if not trying.is_set():
            assert trying.wait(60.0)
            peer.hang_up()
            return
        for _ in "123":
            acknowledged.put(peer.read_header("id"))

    def receive(message: ReceivedMessage) -> None:
        if not trying.is_set():
            trying.set()
            raise TemporarilyUnavailable("not yet")
        taken.put(message.text)

    bus = StompBus(fake.run(script, script))
    bus.subscribe("/topic/a", receive, durable="d")
    bus.start()
    try:
        assert [acknowledged.get(timeout=60.0) for _ in "123"] == ["1", "2", "3"]
        assert [taken.get(timeout=1.0) for _ in range(taken.qsize())][-3:] == ["1", "2", "3"]
    finally:
        bus.stop(1.0)


def test_a_subscription_that_is_refused_is_tried_again(
    fake: FakeBroker, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(peer: Peer) -> None:
        greet(peer)
        receipt = peer.read_header("receipt")
        peer.write(f"ERROR\nreceipt-id:{receipt}\nmessage:Durable consumer is in use\n\n\0".encode())

    def accept(peer: Peer) -> None:
        greet(peer)
        peer.confirm()

    bus = StompBus(fake.run(refuse, refuse, accept))
    bus.subscribe("/topic/a", lambda _: None, durable="d")
    bus.start()
    try:
        deadline = time.monotonic() + 60.0
        while not bus.connected:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        bus.stop(1.0)
    assert caplog.text.count("Durable consumer is in use") == 1


@given(
    st.recursive(st.none() | st.text() | st.integers(), lambda c: st.dictionaries(st.text(), c)) | st.text()
)
def test_headers_made_of_a_body_are_one_printable_line(body: object) -> None:
    for text in (
        json.dumps({"namespace": body, "run_id": body, "msg_type": "x"}),
        json.dumps(body),
        str(body),
    ):
        for name, value in _headers_of(text).items():
            assert name in ("namespace", "run_id", "msg_type")
            assert isinstance(value, str)
            assert value.isprintable()
            assert 0 < len(value) <= 200
