"""How bytes of STOMP go over the network.

stomp.py knows the frames; its own transport waits without limit for a broker
that hangs, and over TLS does not see that the broker hung up.
"""

from __future__ import annotations

__all__ = ["BrokerTls", "SocketTransport", "tls_context"]

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from stomp.transport import BaseTransport

from models.errors import InvalidConfiguration, TemporarilyUnavailable

T = TypeVar("T")

_CHUNK = 65536
#: Seconds between looks at a socket that another thread may have closed.
_LOOK = 0.5
#: Probes of a connection on which nothing comes, and after how long one that
#: answers nothing is given up: for brokers without heart-beats.
_PROBES = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000),
)


@dataclass(frozen=True)
class BrokerTls:
    """How a broker is reached over TLS; its certificate is always checked.

    Attributes
    ----------
    ca_certs : `pathlib.Path` or `None`
        Authorities that are trusted, PEM; the system's if None.
    certificate, key : `pathlib.Path` or `None`
        What the broker is shown, PEM. The key may be in the certificate's
        file.
    """

    ca_certs: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


def tls_context(tls: BrokerTls) -> ssl.SSLContext:
    """Read certificates.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if a file cannot be read or holds something else.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca_certs)
    except (OSError, ssl.SSLError) as error:
        raise InvalidConfiguration(
            f"ACTIVEMQ_SSL_CA_CERTS: {tls.ca_certs} does not hold certificates of the broker's authority: "
            f"{error}"
        ) from error
    if tls.certificate is not None:
        try:
            context.load_cert_chain(tls.certificate, tls.key)
        except (OSError, ssl.SSLError) as error:
            raise InvalidConfiguration(
                f"ACTIVEMQ_SSL_CERT_FILE, ACTIVEMQ_SSL_KEY_FILE: {tls.certificate} and "
                f"{tls.key or tls.certificate} are no certificate with its key: {error}"
            ) from error
    return context


class SocketTransport(BaseTransport):
    """A socket that one thread reads and several write.

    Parameters
    ----------
    host, port
        Of the broker.
    context : `ssl.SSLContext` or `None`
        For TLS.
    timeout : `float`
        Seconds that connecting, or writing a frame, may take.
    """

    def __init__(self, host: str, port: int, *, context: ssl.SSLContext | None, timeout: float) -> None:
        # Bodies stay bytes: one that is no text must not end the connection.
        super().__init__(auto_decode=False)
        self.heard = time.monotonic()
        """When anything came, on the clock of `time.monotonic`."""
        self.vhost = host
        self._address = (host, port)
        self._context = context
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._frame_lock = threading.Lock()
        # OpenSSL takes one call of a connection at a time.
        self._socket_lock = threading.Lock()
        self._in_frame = False

    def attempt_connection(self) -> None:
        """Connect, once.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if that fails; the text says at what.
        """
        where = f"the broker {self._address[0]}:{self._address[1]}"
        try:
            connection = socket.create_connection(self._address, self._timeout)
        except OSError as error:
            raise TemporarilyUnavailable(f"{where} cannot be reached: {error}") from error
        for level, option, value in _PROBES:
            connection.setsockopt(level, option, value)
        try:
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_hostname=self._address[0])
            connection.setblocking(False)
        except ssl.SSLCertVerificationError as error:
            connection.close()
            raise TemporarilyUnavailable(
                f"the certificate of {where} is not trusted: {error.verify_message}; "
                "ACTIVEMQ_SSL_CA_CERTS must name the authority that signed it"
            ) from error
        except OSError as error:
            connection.close()
            raise TemporarilyUnavailable(f"no TLS with {where}: {error}") from error
        self._socket = connection
        self.current_host_and_port = self._address

    def receive(self) -> bytes:
        """Return bytes; none once the connection has ended."""
        received = self._try(lambda connection: connection.recv(_CHUNK), ready=select.POLLIN)
        self.heard = time.monotonic() if received else self.heard
        # After heart-beats that came together, stomp.py drops the frame that
        # follows them; so they go where a frame begins.
        if not self._in_frame and not self._BaseTransport__recvbuf and received:
            received = received.lstrip(b"\r\n") or b"\n"
        self._in_frame = b"\0" not in received and received != b"\n"
        return received

    def send(self, encoded_frame: bytes) -> None:
        """Write a frame.

        Raises
        ------
        OSError
            Raised if the connection ends, or the broker takes nothing for
            too long; the connection is closed then.
        """
        deadline = time.monotonic() + self._timeout
        rest = memoryview(encoded_frame)
        try:
            with self._frame_lock:
                while rest:
                    rest = rest[self._try(partial(_send, rest), ready=select.POLLOUT, deadline=deadline) :]
        except OSError:
            self.disconnect_socket()
            raise

    def disconnect_socket(self) -> None:
        """End the connection, whoever waits for it; safe to repeat."""
        self.running = False
        self.set_connected(False)
        connection = self._socket
        if connection is not None:
            with suppress(OSError):
                # Of the socket itself: TLS would wait for a broker that hangs.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        if not self.notified_on_disconnect:
            self.notify("disconnected")

    def cleanup(self) -> None:
        """Close the socket; called by the thread that reads, as it ends."""
        with self._socket_lock:
            connection, self._socket = self._socket, None
            if connection is not None:
                connection.close()

    def _try(self, use: Callable[[socket.socket], T], *, ready: int, deadline: float | None = None) -> T:
        """Use the socket as soon as it can be used.

        Parameters
        ----------
        use : callable
        ready : `int`
            What to wait for if it would block.
        deadline : `float`, optional
            When to give up.
        """
        while True:
            with self._socket_lock:
                connection = self._socket
                if connection is None:
                    raise ConnectionAbortedError("the connection was closed")
                waiting = select.poll()
                try:
                    return use(connection)
                except ssl.SSLWantReadError:
                    waiting.register(connection, select.POLLIN)
                except ssl.SSLWantWriteError:
                    waiting.register(connection, select.POLLOUT)
                except BlockingIOError:
                    waiting.register(connection, ready)
            patience = _LOOK
            if deadline is not None:
                patience = min(patience, deadline - time.monotonic())
                if patience <= 0.0:
                    raise TimeoutError(f"nothing could be written for {self._timeout:g} s")
            waiting.poll(patience * 1000.0)


def _send(rest: memoryview, connection: socket.socket) -> int:
    return connection.send(rest)
