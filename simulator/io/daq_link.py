"""One connection to a STOMP broker, for the data acquisition."""

from __future__ import annotations

__all__ = ["PATIENCE", "BrokerAddress", "Link", "Outgoing"]

import logging
import queue
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import stomp
from stomp.exception import StompException
from stomp.utils import Frame

from models.errors import InvalidConfiguration, TemporarilyUnavailable

_log = logging.getLogger(__name__)

#: Milliseconds between heart-beats, ours and the broker's.
_HEART_BEATS = (10_000, 10_000)
#: Seconds that connecting may take.
PATIENCE = 10.0
#: Intervals of heart-beats that a broker may be silent. ActiveMQ looks once in
#: each whether it has sent anything since it looked last, so two are usual.
_SILENCE = 2.5
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

    def tls_context(self) -> ssl.SSLContext:
        """Read the files.

        Raises
        ------
        models.errors.InvalidConfiguration
            Raised if one cannot be read or holds something else.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca_certs)
        except OSError as error:
            raise InvalidConfiguration(
                f"ACTIVEMQ_SSL_CA_CERTS: {self.ca_certs} holds no certificates of an authority: {error}"
            ) from error
        if self.cert_file is not None:
            try:
                context.load_cert_chain(self.cert_file, self.key_file)
            except OSError as error:
                raise InvalidConfiguration(
                    f"ACTIVEMQ_SSL_CERT_FILE: {self.cert_file} and {self.key_file or self.cert_file} are no "
                    f"certificate with its key: {error}"
                ) from error
        return context

    def why_unreachable(self) -> str:
        """Try to reach it; say at what that fails, which stomp.py keeps to
        itself.
        """
        try:
            with socket.create_connection((self.host, self.port), PATIENCE) as connection:
                if self.use_ssl:
                    self.tls_context().wrap_socket(connection, server_hostname=self.host).close()
        except ssl.SSLCertVerificationError as error:
            return (
                f"its certificate is not trusted: {error.verify_message}; "
                "ACTIVEMQ_SSL_CA_CERTS must name the authority that signed it"
            )
        except (OSError, InvalidConfiguration) as error:
            return f"no TLS: {error}" if isinstance(error, ssl.SSLError) else str(error)
        return "it hung up"


@dataclass
class Outgoing:
    """A message that the broker has not confirmed, or not those before it."""

    receipt: str
    destination: str
    text: str
    on_confirmed: Callable[[], None]
    confirmed: bool = False


class _Connection(stomp.StompConnection11):
    """Sends heart-beats twice as often as it promises: brokers that count whole
    intervals miss one that comes just in time.
    """

    @property
    def send_sleep(self) -> float:
        """Seconds between them."""
        return self._send_sleep

    @send_sleep.setter
    def send_sleep(self, promised: float) -> None:
        self._send_sleep = promised / 2.0


class Link(stomp.ConnectionListener):
    """One connection, from its opening to its end; not used again."""

    def __init__(
        self,
        address: BrokerAddress,
        *,
        incoming: queue.Queue[tuple[Link, Frame] | None],
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
        self._connection: Any = _Connection(
            [place],
            prefer_localhost=False,
            try_loopback_connect=False,
            reconnect_attempts_max=1,
            timeout=PATIENCE,
            heartbeats=_HEART_BEATS,
            heart_beat_receive_scale=_SILENCE,
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
        if not self._answered.wait(PATIENCE):
            raise TemporarilyUnavailable("it does not answer")
        if not self.alive:
            raise TemporarilyUnavailable(self.trouble or "it hung up")

    def subscribe(self, destination: str) -> None:
        """Ask for messages, one at a time."""
        # Others that listen to the queue are not to wait for this one.
        headers = {"activemq.prefetchSize": "1", "consumer-window-size": "0"}
        self._connection.subscribe(destination, _SUBSCRIPTION, ack="client-individual", headers=headers)

    def send(self, message: Outgoing) -> None:
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
