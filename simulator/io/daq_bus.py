"""The data acquisition's connection to a STOMP broker."""

from __future__ import annotations

__all__ = ["StompDaqBus"]

import logging
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable

from stomp.exception import StompException
from stomp.utils import Frame

from models.errors import TemporarilyUnavailable
from models.streaming.bus import ReceivedMessage
from simulator.io.daq_link import PATIENCE, BrokerAddress, Link, Outgoing

_log = logging.getLogger(__name__)

#: Seconds before another attempt, at first and at most.
_BACK_OFF = (0.2, 10.0)
#: Messages on their way that the broker has not confirmed.
_WINDOW = 200
#: Seconds before a message is handed over again.
_AGAIN = 1.0


class StompDaqBus:
    """A `simulator.daq.bus.DaqBus` over STOMP 1.1.

    Messages are kept until the broker has confirmed them, in order, and sent
    again over the next connection if it did not: then one may arrive twice.

    Parameters
    ----------
    address : `simulator.io.daq_link.BrokerAddress`
    back_off : `tuple` [`float`], optional
        Seconds before another attempt to connect, at first and at most.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if a certificate cannot be read.
    """

    def __init__(self, address: BrokerAddress, *, back_off: tuple[float, float] = _BACK_OFF) -> None:
        if address.use_ssl:
            address.tls_context()
        self._address = address
        self._back_off = back_off
        self._changed = threading.Condition()
        #: Not confirmed, the oldest first; the first `_sent` are on their way.
        self._pending: deque[Outgoing] = deque()
        self._sent = 0
        self._number = 0
        self._link: Link | None = None
        self._closing = False
        self._subscription: tuple[str, Callable[[ReceivedMessage], None]] | None = None
        self._incoming: queue.Queue[tuple[Link, Frame] | None] = queue.Queue()
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

    def send(self, destination: str, text: str, *, confirmed: Callable[[], None] = lambda: None) -> None:
        """Have a message sent, after those before it."""
        with self._changed:
            self._number += 1
            self._pending.append(Outgoing(str(self._number), destination, text, confirmed))
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
            thread.join(PATIENCE)

    def _serve(self) -> None:
        """Keep a connection, and send what there is to send."""
        delay, complained = self._back_off[0], False
        while not self._closing:
            before = self._number - len(self._pending)
            link = Link(self._address, incoming=self._incoming, changed=self._on_change)
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
            except Exception as error:
                # Whatever it is: without this thread nothing would be sent.
                if not complained and not self._closing:
                    foreseen = isinstance(error, (TemporarilyUnavailable, StompException, OSError))
                    reason = str(error) or self._address.why_unreachable()
                    _log.warning(
                        "The bus %s is away, it is tried again: %s",
                        self._address,
                        reason,
                        exc_info=not foreseen,
                    )
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

    def _send_over(self, link: Link) -> None:
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
                        # Before `flush` returns.
                        message.on_confirmed()
                        break
                while self._pending and self._pending[0].confirmed:
                    self._pending.popleft()
                    # A connection before this one may have sent it.
                    self._sent = max(0, self._sent - 1)
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
