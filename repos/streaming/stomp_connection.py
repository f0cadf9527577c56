"""One connection to a STOMP broker, from its beginning to its end."""

from __future__ import annotations

__all__ = ["Broker", "StompConnection"]

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from stomp.connect import BaseConnection
from stomp.exception import StompException
from stomp.listener import ConnectionListener
from stomp.protocol import Protocol12
from stomp.utils import Frame

from models.errors import InvalidMessage, TemporarilyUnavailable
from repos.streaming.stomp_transport import BrokerTls, SocketTransport, tls_context

#: What brokers say of a message that is at fault itself: ActiveMQ's limits,
#: Artemis's.
_TOO_LARGE = ("exceeded", "too large", "too big")
#: Intervals of heart-beats that a broker may be silent. ActiveMQ looks once in
#: each whether it has sent anything since it looked last, so two are usual.
_SILENCE = 2.5


@dataclass(frozen=True)
class Broker:
    """A broker and who we are to it.

    Attributes
    ----------
    host : `str`
    port : `int`
    user, password : `str`
    client_id : `str`
        The same at every start: durable subscriptions belong to it, and a
        broker lets it in once at a time.
    tls : `repos.streaming.stomp_transport.BrokerTls` or `None`
    heart_beat : `float`
        Seconds within which both sides let hear of themselves; 0 for never.
    timeout : `float`
        Seconds that the broker may take to answer.
    """

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    client_id: str
    tls: BrokerTls | None = None
    heart_beat: float = 30.0
    timeout: float = 10.0

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class StompConnection:
    """A connection; once lost it stays lost.

    Parameters
    ----------
    broker : `Broker`
    deliver : callable
        Called with every message, as a frame of stomp.py's, by the thread that
        reads: it must not wait.
    """

    def __init__(self, broker: Broker, deliver: Callable[[StompConnection, Frame], None]) -> None:
        self.lost = threading.Event()
        """Set once nothing comes or goes any more."""
        self._broker = broker
        self._deliver = deliver
        self._greeted = threading.Event()
        self._version = ""
        self._reason = ""
        self._numbers = itertools.count(1)
        self._receipts: dict[str, _Receipt] = {}
        self._lock = threading.Lock()
        context = None if broker.tls is None else tls_context(broker.tls)
        self._transport = SocketTransport(broker.host, broker.port, context=context, timeout=broker.timeout)
        self._protocol = _Protocol(self._transport, round(broker.heart_beat * 1000.0))
        self._transport.set_listener("ours", _Listener(self))

    @property
    def reason(self) -> str:
        """Why it was lost."""
        if self._reason:
            return self._reason
        early = "" if self._version else " before it greeted us: does it want TLS (ACTIVEMQ_USE_SSL)?"
        return f"the broker {self._broker} hung up{early}"

    def open(self) -> None:
        """Connect and log in.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if that fails; the text says why.
        """
        broker = self._broker
        try:
            self._protocol.connect(broker.user, broker.password, headers={"client-id": broker.client_id})
        except (OSError, StompException) as error:
            raise TemporarilyUnavailable(f"the broker {broker} hung up: {error}") from error
        if not self._greeted.wait(broker.timeout):
            self.close(f"the broker {broker} did not answer within {broker.timeout:g} s")
        if not self._version or self.lost.is_set():
            self.close("")
            raise TemporarilyUnavailable(self.reason)

    def subscribe(self, number: str, destination: str, headers: Mapping[str, str]) -> None:
        """Ask for messages, to be acknowledged one by one.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the broker does not confirm that it will send them.
        """
        fields = {"id": number, "destination": destination, "ack": "client-individual", **headers}
        try:
            self._confirmed("SUBSCRIBE", fields)
        except InvalidMessage as error:
            raise TemporarilyUnavailable(f"{destination}: {error}") from error

    def send(self, destination: str, text: str, headers: Mapping[str, str]) -> None:
        """Send; return when the broker has it.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if it is not known to have it.
        models.errors.InvalidMessage
            Raised if it will never take this one.
        """
        self._confirmed("SEND", {**headers, "destination": destination}, text)

    def acknowledge(self, frame: Frame) -> None:
        """Tell that a message was taken. If the connection is lost before the
        broker heard of it, the message comes again.
        """
        name, ack = frame.headers.get("message-id", ""), frame.headers.get("ack")
        if self._version == "1.1" or ack is None:
            headers = {"message-id": name, "subscription": frame.headers.get("subscription", "")}
        else:
            headers = {"id": ack}
        try:
            self._protocol.send_frame("ACK", headers)
        except (OSError, StompException) as error:
            self.close(f"the connection to {self._broker} broke: {error}")

    def leave(self, timeout: float) -> None:
        """Disconnect once the broker has heard everything."""
        if not self.lost.is_set():
            # It may be gone already; what it did not hear comes again.
            with suppress(TemporarilyUnavailable, InvalidMessage):
                self._confirmed("DISCONNECT", {}, timeout=timeout)
        self.close("we left")

    def close(self, reason: str) -> None:
        """Let go of the broker at once; safe to repeat."""
        self._reason = self._reason or reason
        self._transport.disconnect_socket()
        self._lose()

    def _confirmed(
        self, command: str, headers: dict[str, str], body: str = "", *, timeout: float | None = None
    ) -> None:
        """Send a frame and wait until the broker confirms it."""
        broker, receipt = self._broker, _Receipt()
        patience = broker.timeout if timeout is None else timeout
        name = f"{command.lower()}-{next(self._numbers)}"
        with self._lock:
            self._receipts[name] = receipt
        try:
            if self.lost.is_set():
                raise TemporarilyUnavailable(self.reason)
            try:
                self._protocol.send_frame(command, {**headers, "receipt": name}, body)
            except (OSError, StompException) as error:
                raise TemporarilyUnavailable(f"the connection to {broker} broke: {error}") from error
            if not receipt.come.wait(patience):
                raise TemporarilyUnavailable(f"the broker {broker} did not answer within {patience:g} s")
        finally:
            with self._lock:
                del self._receipts[name]
        if receipt.refusal is None:
            return
        if receipt.meant and any(word in receipt.refusal.lower() for word in _TOO_LARGE):
            raise InvalidMessage(receipt.refusal)
        raise TemporarilyUnavailable(receipt.refusal)

    def _lose(self) -> None:
        silence = time.monotonic() - self._transport.heard
        if not self._reason and 0.0 < self._broker.heart_beat < silence:
            self._reason = f"nothing was heard of the broker {self._broker} for {silence:.0f} s"
        self._reason = self.reason
        self.lost.set()
        self._greeted.set()
        with self._lock:
            for receipt in self._receipts.values():
                receipt.settle(self._reason)

    # What the thread that reads hears.

    def _on_connected(self, frame: Frame) -> None:
        self._version = frame.headers.get("version", "1.0")
        if self._version not in ("1.1", "1.2"):
            self.close(f"the broker {self._broker} speaks STOMP {self._version} only")
        self._greeted.set()

    def _on_receipt(self, frame: Frame) -> None:
        with self._lock:
            receipt = self._receipts.get(frame.headers.get("receipt-id", ""))
            if receipt is not None:
                receipt.settle(None)

    def _on_error(self, frame: Frame) -> None:
        text = _told(frame)
        refusal = f"the broker {self._broker} refuses: {text}"
        with self._lock:
            receipt = self._receipts.get(frame.headers.get("receipt-id", ""))
            if receipt is not None:
                receipt.settle(refusal, meant=True)
        if receipt is None:
            # Of the connection, not of a frame; it ends it.
            self.close(refusal)


@dataclass
class _Receipt:
    """What the broker says to a frame: why it refuses it, and whether it meant
    this one.
    """

    come: threading.Event = field(default_factory=threading.Event)
    refusal: str | None = None
    meant: bool = False

    def settle(self, refusal: str | None, *, meant: bool = False) -> None:
        if not self.come.is_set():
            self.refusal, self.meant = refusal, meant
            self.come.set()


class _Protocol(BaseConnection, Protocol12):
    """The frames of STOMP 1.1 and 1.2, whichever the broker prefers."""

    def __init__(self, transport: SocketTransport, heart_beat: int) -> None:
        BaseConnection.__init__(self, transport)
        # Without length a broker takes a body for text.
        Protocol12.__init__(
            self,
            transport,
            (heart_beat, heart_beat),
            auto_content_length=False,
            heart_beat_receive_scale=_SILENCE,
        )
        self.version = "1.1,1.2"

    @property
    def send_sleep(self) -> float:
        """Seconds between heart-beats that we send."""
        return self._send_sleep

    @send_sleep.setter
    def send_sleep(self, promised: float) -> None:
        # Brokers that count whole intervals miss one that comes just in time.
        self._send_sleep = promised / 2.0

    def connect(self, *args: Any, **kwargs: Any) -> None:
        """Connect the transport, and greet."""
        self.transport.start()
        Protocol12.connect(self, *args, **kwargs)


class _Listener(ConnectionListener):
    """Passes on what stomp.py calls; raises nothing, which would end its loop."""

    def __init__(self, connection: StompConnection) -> None:
        self._connection = connection

    def on_connected(self, frame: Frame) -> None:
        self._connection._on_connected(frame)

    def on_message(self, frame: Frame) -> None:
        self._connection._deliver(self._connection, frame)

    def on_receipt(self, frame: Frame) -> None:
        self._connection._on_receipt(frame)

    def on_error(self, frame: Frame) -> None:
        self._connection._on_error(frame)

    def on_disconnected(self) -> None:
        self._connection._lose()


def _told(frame: Frame) -> str:
    """Return what an ERROR frame says, in one line."""
    body = frame.body if isinstance(frame.body, str) else frame.body.decode(errors="replace")
    lines = [line.strip() for line in body.replace("\0", "").splitlines() if line.strip()]
    told = frame.headers.get("message") or (lines[0] if lines else "it does not say why")
    return str(told)[:500]
