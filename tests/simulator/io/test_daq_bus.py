"""The data acquisition's STOMP client, against a real broker."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from models.errors import InvalidConfiguration
from models.streaming.bus import ReceivedMessage
from simulator.io.daq_bus import StompDaqBus
from simulator.io.daq_link import BrokerAddress
from simulator.servers.activemq import ActiveMQServer
from tests.servers import unique_name


def address(server: ActiveMQServer, *, tls: bool = False) -> BrokerAddress:
    return BrokerAddress(
        host=server.host,
        port=server.ssl_port if tls else server.port,
        user=server.user,
        password=server.password,
        use_ssl=tls,
        ca_certs=server.ca_certs if tls else None,
    )


def until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


@contextmanager
def started(*buses: StompDaqBus) -> Iterator[None]:
    with ExitStack() as stack:
        for bus in buses:
            bus.start()
            stack.callback(bus.stop)
        yield


class Listener:
    """Takes what a queue has."""

    def __init__(self, where: BrokerAddress, destination: str) -> None:
        self.got: queue.Queue[ReceivedMessage] = queue.Queue()
        self.failures = 0
        self.bus = StompDaqBus(where, back_off=(0.1, 0.3))
        self.bus.subscribe(destination, self.take)

    def take(self, message: ReceivedMessage) -> None:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("not now")
        self.got.put(message)

    def texts(self, count: int) -> list[str]:
        return [self.got.get(timeout=120).text for _ in range(count)]


@pytest.mark.servers
@pytest.mark.parametrize("tls", [False, True])
def test_messages_arrive_in_order(activemq: ActiveMQServer, tls: bool) -> None:
    destination = f"/queue/{unique_name()}"
    listener = Listener(address(activemq, tls=tls), destination)
    sender = StompDaqBus(address(activemq, tls=tls))
    with started(listener.bus, sender):
        for number in range(500):
            sender.send(destination, f'{{"number": {number}}}')
        assert sender.flush(120) == 0
        assert listener.texts(500) == [f'{{"number": {n}}}' for n in range(500)]
        assert sender.connected


@pytest.mark.servers
def test_who_keeps_messages_hears_when_the_broker_has_them(activemq: ActiveMQServer) -> None:
    destination = f"/queue/{unique_name()}"
    confirmed: list[int] = []
    bus = StompDaqBus(address(activemq))
    for number in range(3):
        bus.send(destination, str(number), confirmed=lambda number=number: confirmed.append(number))
    assert confirmed == []
    with started(bus):
        assert bus.flush(60) == 0
        # No later than that.
        assert confirmed == [0, 1, 2]


@pytest.mark.servers
def test_what_cannot_be_taken_is_handed_over_again(activemq: ActiveMQServer) -> None:
    destination = f"/queue/{unique_name()}"
    listener = Listener(address(activemq), destination)
    listener.failures = 1
    with started(listener.bus):
        listener.bus.send(destination, "{}")
        assert listener.texts(1) == ["{}"]


@pytest.mark.servers
def test_what_was_taken_does_not_come_to_the_next(activemq: ActiveMQServer) -> None:
    destination = f"/queue/{unique_name()}"
    first = Listener(address(activemq), destination)
    with started(first.bus):
        first.bus.send(destination, "one")
        assert first.texts(1) == ["one"]
    second = Listener(address(activemq), destination)
    with started(second.bus):
        second.bus.send(destination, "two")
        assert second.texts(1) == ["two"]


class Relay:
    """Stands between client and broker, and can be cut."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self.refusing = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        for end in self._open:
            with suppress(OSError):
                # Both sides see it at once.
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._open.clear()

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refusing:
                client.close()
                continue
            broker = socket.create_connection(self._target)
            self._open += [client, broker]
            for one, other in ((client, broker), (broker, client)):
                threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    @staticmethod
    def _pump(one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                other.sendall(data)
        except OSError:
            pass


@pytest.fixture
def relay(activemq: ActiveMQServer, request: pytest.FixtureRequest) -> Iterator[Relay]:
    tls = getattr(request, "param", False)
    relay = Relay((activemq.host, activemq.ssl_port if tls else activemq.port))
    yield relay
    relay.close()


@pytest.mark.servers
@pytest.mark.parametrize(("relay", "tls"), [(False, False), (True, True)], indirect=["relay"])
def test_nothing_is_lost_when_the_connection_is(activemq: ActiveMQServer, relay: Relay, tls: bool) -> None:
    destination = f"/queue/{unique_name()}"
    listener = Listener(address(activemq), destination)
    direct = address(activemq, tls=tls)
    by_relay = BrokerAddress(**{**vars(direct), "host": "127.0.0.1", "port": relay.port})
    sender = StompDaqBus(by_relay, back_off=(0.1, 0.3))
    with started(listener.bus, sender):
        sender.send(destination, "0")
        assert sender.flush(120) == 0
        relay.refusing = True
        relay.cut()
        for number in range(1, 50):
            sender.send(destination, str(number))
        assert sender.flush(0.3) == 49
        relay.refusing = False
        assert sender.flush(120) == 0
        got: list[str] = []
        while not got or got[-1] != "49":
            got += listener.texts(1)
    # One may come twice, but none out of order.
    assert list(dict.fromkeys(got)) == [str(number) for number in range(50)]


@pytest.mark.servers
@pytest.mark.parametrize(("relay", "tls"), [(False, False), (True, True)], indirect=["relay"])
def test_a_lost_connection_is_noticed_without_traffic(
    activemq: ActiveMQServer, relay: Relay, tls: bool
) -> None:
    by_relay = {**vars(address(activemq, tls=tls)), "host": "127.0.0.1", "port": relay.port}
    listener = Listener(BrokerAddress(**by_relay), f"/queue/{unique_name()}")
    with started(listener.bus):
        until(lambda: listener.bus.connected)
        relay.refusing = True
        relay.cut()
        # Long before a heart-beat is missed.
        until(lambda: not listener.bus.connected)
        relay.refusing = False
        until(lambda: listener.bus.connected)


@pytest.mark.servers
def test_heart_beats_are_as_activemq_counts_them(activemq: ActiveMQServer) -> None:
    """It looks once in an interval whether anything came or went: it may miss a
    heart-beat that comes just in time, and after a message it leaves one out.
    """
    with started(bus := StompDaqBus(address(activemq))):
        until(lambda: bus.connected)
        assert bus._link is not None
        connection = bus._link._connection
        assert connection.heartbeats == (10_000, 10_000)
        assert connection.send_sleep == 5.0
        assert connection.receive_sleep == 25.0


@pytest.mark.servers
def test_a_wrong_password_is_told(activemq: ActiveMQServer, caplog: pytest.LogCaptureFixture) -> None:
    wrong = BrokerAddress(**{**vars(address(activemq)), "password": "wrong"})
    bus = StompDaqBus(wrong, back_off=(0.1, 0.3))
    with started(bus):
        bus.send("/queue/any", "{}")
        until(lambda: "refuses" in caplog.text)
        assert bus.flush(0.1) == 1
        assert not bus.connected


@pytest.mark.servers
def test_a_broker_of_an_unknown_authority_is_not_trusted(
    activemq: ActiveMQServer, caplog: pytest.LogCaptureFixture
) -> None:
    where = BrokerAddress(**{**vars(address(activemq, tls=True)), "ca_certs": None})
    bus = StompDaqBus(where, back_off=(0.1, 0.3))
    with started(bus):
        bus.send("/queue/any", "{}")
        assert bus.flush(1.0) == 1
        until(lambda: "is not trusted" in caplog.text)


@pytest.mark.parametrize("name", ["ca_certs", "cert_file"])
def test_a_certificate_that_is_none_is_told_at_once(tmp_path: Path, name: str) -> None:
    for content in (None, "nothing\n"):
        file = tmp_path / "file.pem"
        if content is not None:
            file.write_text(content)
        with pytest.raises(InvalidConfiguration, match=r"file\.pem"):
            StompDaqBus(BrokerAddress(use_ssl=True, **{name: file}))


@pytest.mark.servers
def test_no_fault_of_the_client_ends_it(
    activemq: ActiveMQServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object) -> None:
        raise TypeError("a fault of the library")

    bus = StompDaqBus(address(activemq), back_off=(0.1, 0.3))
    with started(bus):
        with monkeypatch.context() as patch:
            patch.setattr("simulator.io.daq_link.Link.send", fail)
            bus.send("/queue/any", "{}")
            until(lambda: "a fault of the library" in caplog.text)
        assert bus.flush(120) == 0


@pytest.mark.servers
def test_a_late_confirmation_changes_no_order(activemq: ActiveMQServer) -> None:
    destination = f"/queue/{unique_name()}"
    listener = Listener(address(activemq), destination)
    sender = StompDaqBus(address(activemq), back_off=(0.1, 0.3))
    for number in range(4):
        sender.send(destination, str(number))
    # As if a connection that is gone had sent it.
    sender._on_change("1")
    with started(listener.bus, sender):
        assert sender.flush(120) == 0
        assert listener.texts(3) == ["1", "2", "3"]


def test_it_ends_while_the_broker_is_away() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        bus = StompDaqBus(BrokerAddress(host="127.0.0.1", port=unused.getsockname()[1]))
        with started(bus):
            bus.send("/queue/any", "{}")
            assert bus.flush(0.5) == 1
    assert not bus.connected


def test_there_is_one_subscription() -> None:
    bus = StompDaqBus(BrokerAddress())
    bus.subscribe("/queue/one", print)
    with pytest.raises(ValueError, match="/queue/one"):
        bus.subscribe("/queue/two", print)
