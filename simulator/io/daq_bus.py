"""The data acquisition's connection to a STOMP broker."""

from __future__ import annotations

__all__ = ["BrokerAddress", "StompDaqBus"]

import logging
import queue
import random
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import stomp
from stomp.exception import StompException
from stomp.utils import Frame

from models.errors import TemporarilyUnavailable
from models.streaming.bus import ReceivedMessage

_log = logging.getLogger(__name__)

#: Milliseconds between heart-beats, ours and the broker's.
_HEART_BEATS = (10_000, 10_000)
#: Seconds that connecting may take.
_PATIENCE = 10.0
#: Seconds before another attempt, at first and at most.
_BACK_OFF = (0.2, 10.0)
#: Messages on their way that the broker has not confirmed.
_WINDOW = 200
#: Seconds before a message is handed over again.
_AGAIN = 1.0
_SUBSCRIPTION = "1"


@dataclass(frozen=True)
class BrokerAddress:
    """A broker, and how to get in.

    Attributes
    ----------
    ca_certs, cert_file, key_file : `pathlib.Path` or `None`
        PEM files; without `ca_certs`, the system's authorities are trusted.
    """

    host: str = "localhost"
    port: int = 61612
    user: str = "admin"
    password: str = field(default="admin", repr=False)
    use_ssl: bool = False
    ca_certs: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class StompDaqBus:
    """A `simulator.daq.bus.DaqBus` over STOMP 1.1.

    Messages are kept until the broker has confirmed them, in order, and sent
    again over the next connection if it did not: then one may arrive twice.

    Parameters
    ----------
    address : `BrokerAddress`
    back_off : `tuple` [`float`], optional
        Seconds before another attempt to connect, at first and at most.
    """

    def __init__(self, address: BrokerAddress, *, back_off: tuple[float, float] = _BACK_OFF) -> None:
        self._address = address
        self._back_off = back_off
        self._changed = threading.Condition()
        #: Not confirmed, the oldest first; the first `_sent` are on their way.
        self._pending: deque[_Outgoing] = deque()
        self._sent = 0
        self._number = 0
        self._link: _Link | None = None
        self._closing = False
        self._subscription: tuple[str, Callable[[ReceivedMessage], None]] | None = None
        self._incoming: queue.Queue[tuple[_Link, Frame] | None] = queue.Queue()
        self._threads: list[threading.Thread] = []

    @property
    def connected(self) -> bool:
        """Whether messages flow now."""
        link = self._link
        return link is not None and link.alive

    def subscribe(self, destination: str, receive: Callable[[ReceivedMessage], None]) -> None:
        """Have the messages of a destination handed over, one at a time.

        Raises
        ------
        ValueError
            Raised if there is a subscription already.
        """
        if self._subscription is not None:
            raise ValueError(f"{self._subscription[0]} is subscribed to; one is all there can be")
        self._subscription = (destination, receive)

    def send(self, destination: str, text: str) -> None:
        """Have a message sent, after those before it."""
        with self._changed:
            self._number += 1
            self._pending.append(_Outgoing(str(self._number), destination, text))
            self._changed.notify_all()

    def flush(self, timeout: float) -> int:
        """Wait until all was confirmed; return how many messages were not."""
        with self._changed:
            self._changed.wait_for(lambda: not self._pending, timeout)
            return len(self._pending)

    def start(self) -> None:
        """Connect, and stay connected."""
        jobs = {"daq-bus": self._serve, "daq-commands": self._hand_over}
        self._threads = [threading.Thread(target=job, name=name, daemon=True) for name, job in jobs.items()]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Disconnect; what was not confirmed is forgotten."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._incoming.put(None)
        for thread in self._threads:
            thread.join(_PATIENCE)

    def _serve(self) -> None:
        """Keep a connection, and send what there is to send."""
        delay, complained = self._back_off[0], False
        while not self._closing:
            link = _Link(self._address, incoming=self._incoming, changed=self._on_change)
            before = self._number - len(self._pending)
            try:
                link.open()
                if self._subscription is not None:
                    link.subscribe(self._subscription[0])
                with self._changed:
                    self._sent = 0
                self._link = link
                _log.info("The bus %s is connected.", self._address)
                complained = False
                self._send_over(link)
            except (TemporarilyUnavailable, StompException, OSError) as error:
                if not complained:
                    reason = str(error) or "it cannot be reached"
                    _log.warning("The bus %s is away, it is tried again: %s", self._address, reason)
                complained = True
            finally:
                self._link = None
                link.close()
            # A connection that came to nothing is no reason to hurry.
            if self._number - len(self._pending) > before:
                delay = self._back_off[0]
            with self._changed:
                self._changed.wait_for(lambda: self._closing, delay * random.uniform(0.8, 1.2))
            delay = min(delay * 2, self._back_off[1])

    def _send_over(self, link: _Link) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._closing or not link.alive or self._sent < min(len(self._pending), _WINDOW)
                )
                if self._closing:
                    return
                if not link.alive:
                    raise TemporarilyUnavailable(link.trouble or "the connection was lost")
                batch = [self._pending[i] for i in range(self._sent, min(len(self._pending), _WINDOW))]
                self._sent += len(batch)
            for message in batch:
                link.send(message)

    def _on_change(self, receipt: str | None) -> None:
        """Take note of a confirmation, or of the end of a connection."""
        with self._changed:
            if receipt is not None:
                for message in self._pending:
                    if message.receipt == receipt:
                        message.confirmed = True
                        break
                while self._pending and self._pending[0].confirmed:
                    self._pending.popleft()
                    self._sent -= 1
            self._changed.notify_all()

    def _hand_over(self) -> None:
        while (item := self._incoming.get()) is not None:
            link, frame = item
            subscription = self._subscription
            if not link.alive or subscription is None:
                # It comes again over the next connection.
                continue
            message = ReceivedMessage(
                destination=subscription[0], text=frame.body, message_id=frame.headers.get("message-id")
            )
            while not self._closing and link.alive:
                try:
                    subscription[1](message)
                except Exception:
                    # A message is kept until it can be taken.
                    _log.exception("A message from %s could not be taken.", message.destination)
                    time.sleep(_AGAIN)
                else:
                    link.acknowledge(frame)
                    break


@dataclass
class _Outgoing:
    receipt: str
    destination: str
    text: str
    confirmed: bool = False


class _Link(stomp.ConnectionListener):
    """One connection, from its opening to its end; not used again."""

    def __init__(
        self,
        address: BrokerAddress,
        *,
        incoming: queue.Queue[tuple[_Link, Frame] | None],
        changed: Callable[[str | None], None],
    ) -> None:
        self._address = address
        self._incoming = incoming
        self._changed = changed
        self._answered = threading.Event()
        self._connected = False
        self._lost = False
        self.trouble: str | None = None
        place = (address.host, address.port)
        self._connection: Any = stomp.StompConnection11(
            [place],
            prefer_localhost=False,
            try_loopback_connect=False,
            reconnect_attempts_max=1,
            timeout=_PATIENCE,
            heartbeats=_HEART_BEATS,
            vhost=address.host,
            # Without a length, brokers take a message for text.
            auto_content_length=False,
        )
        if address.use_ssl:
            files = {
                "ca_certs": address.ca_certs,
                "cert_file": address.cert_file,
                "key_file": address.key_file,
            }
            self._connection.set_ssl(
                for_hosts=[place], **{name: str(file) if file else None for name, file in files.items()}
            )
        _see_the_end(self._connection.transport)
        self._connection.set_listener("daq", self)

    @property
    def alive(self) -> bool:
        """Whether it can be used."""
        return self._connected and not self._lost

    def open(self) -> None:
        """Connect.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the broker lets nobody in, or does not answer.
        stomp.exception.StompException, OSError
            Raised if it cannot be reached.
        """
        self._connection.connect(self._address.user, self._address.password)
        if not self._answered.wait(_PATIENCE):
            raise TemporarilyUnavailable("it does not answer")
        if not self.alive:
            raise TemporarilyUnavailable(self.trouble or "it hung up")

    def subscribe(self, destination: str) -> None:
        """Ask for messages, one at a time."""
        # Others that listen to the queue are not to wait for this one.
        headers = {"activemq.prefetchSize": "1", "consumer-window-size": "0"}
        self._connection.subscribe(destination, _SUBSCRIPTION, ack="client-individual", headers=headers)

    def send(self, message: _Outgoing) -> None:
        """Send a message; the broker confirms it later."""
        headers = {"persistent": "true", "receipt": message.receipt}
        self._connection.send(message.destination, message.text, headers=headers)

    def acknowledge(self, frame: Frame) -> None:
        """Say that a message was taken."""
        try:
            self._connection.ack(frame.headers["message-id"], _SUBSCRIPTION)
        except (StompException, OSError) as error:
            _log.warning("A message could not be acknowledged, it will come again: %s", error)

    def close(self) -> None:
        """Disconnect; safe whatever state it is in."""
        try:
            if self._connection.is_connected():
                self._connection.disconnect()
            self._connection.transport.disconnect_socket()
        except Exception as error:
            # It is given up, whatever is wrong with it.
            _log.debug("A connection did not end well: %s", error)
        self._lost = True

    def on_connected(self, frame: Frame) -> None:
        """Called when the broker lets us in."""
        self._connected = True
        self._answered.set()

    def on_message(self, frame: Frame) -> None:
        """Called with each message."""
        self._incoming.put((self, frame))

    def on_receipt(self, frame: Frame) -> None:
        """Called when the broker confirms."""
        self._changed(frame.headers["receipt-id"])

    def on_error(self, frame: Frame) -> None:
        """Called when the broker refuses; brokers hang up afterwards."""
        self.trouble = frame.headers.get("message") or frame.body or "it refuses without saying why"
        _log.error("The bus %s refuses: %s", self._address, self.trouble)
        self._lost = True
        self._answered.set()
        self._changed(None)

    def on_disconnected(self) -> None:
        """Called when the connection has ended."""
        self._lost = True
        self._answered.set()
        self._changed(None)


def _see_the_end(transport: Any) -> None:
    """Have the end of a TLS connection noticed.

    stomp.py takes it for "nothing to read yet" and asks again, without
    pause, until the broker's heart-beat has been missed.
    """
    receive = transport.receive

    def receive_or_end() -> bytes | None:
        try:
            data: bytes | None = receive()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError:
            data = b""
        if data == b"" and not transport.blocking:
            transport.running = False
        return data

    transport.receive = receive_or_end
