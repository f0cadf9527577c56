"""The bus of the field: a broker that speaks STOMP, ActiveMQ or Artemis."""

from __future__ import annotations

__all__ = ["StompBus"]

import json
import logging
import queue
import random
import re
import threading
import time
from dataclasses import dataclass, field
from functools import partial

from stomp.utils import Frame

from models.errors import InvalidConfiguration, TemporarilyUnavailable
from models.streaming.bus import ReceivedMessage
from repos.streaming.bus_messages import Receiver, check_destination, check_message, hand_over, is_topic
from repos.streaming.stomp_connection import Broker, StompConnection
from repos.streaming.stomp_transport import tls_context

_log = logging.getLogger(__name__)

#: Pauses, seconds, between attempts to connect: they double from the first to
#: the longest, and a connection that lasted begins them anew.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 10.0
_LASTED = 10.0
#: Seconds between looks whether the end has begun, while a message is held.
_LOOK = 0.1
#: Messages that a broker sends ahead of acknowledgements. Of a queue one at a
#: time, as the rest may be for others. Artemis counts bytes.
_AHEAD_OF_TOPIC = {"activemq.prefetchSize": "100", "consumer-window-size": "65536"}
_AHEAD_OF_QUEUE = {"activemq.prefetchSize": "1", "consumer-window-size": "1"}
#: What brokers call the name of a durable subscription.
_DURABLE = ("activemq.subscriptionName", "durable-subscription-name")
#: Fields of a message that are headers too, for selectors of other clients.
_HEADERS = ("namespace", "run_id", "msg_type")
#: Ids of messages as Artemis delivers them.
_ARTEMIS = re.compile(r"[0-9]+,(?P<message>[0-9]+)")
#: Longest value of such a header.
_LONGEST_HEADER = 200


class StompBus:
    """A connection to a broker, kept up in the background; a
    `services.streaming.bus.Bus`.

    Messages are persistent, and those of a durable subscription wait at the
    broker while nobody is connected. One that was not acknowledged when its
    connection ended comes again, with the same id.

    Parameters
    ----------
    broker : `repos.streaming.stomp_connection.Broker`

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if a certificate cannot be read.
    """

    def __init__(self, broker: Broker) -> None:
        if broker.tls is not None:
            tls_context(broker.tls)
        self._broker = broker
        self._subscriptions: dict[str, _Subscription] = {}
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._connection: StompConnection | None = None
        self._keeper: threading.Thread | None = None
        self._trouble = ""

    @property
    def connected(self) -> bool:
        """Whether messages flow now: every subscription is confirmed."""
        connection = self._connection
        return connection is not None and not connection.lost.is_set()

    @property
    def trouble(self) -> str:
        """Why there was no connection last; empty if there always was."""
        return self._trouble

    def subscribe(self, destination: str, receive: Receiver, *, durable: str | None = None) -> None:
        """Have messages handed over; see `services.streaming.bus.Bus.subscribe`.

        Raises
        ------
        models.errors.InvalidMessage
            Raised if there is no such destination.
        """
        check_destination(destination)
        number = str(len(self._subscriptions) + 1)
        self._subscriptions[number] = _Subscription(number, destination, receive, durable, self._stopping)

    def send(self, destination: str, text: str) -> None:
        """Send; return when the broker has it, on its disk.

        While the broker is away, waits for it as long as it may take to answer.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if it is not known to have arrived.
        models.errors.InvalidMessage
            Raised for a destination or a text that no bus takes, or if the
            broker says that it is too large.
        """
        check_message(destination, text)
        headers = {"persistent": "true", **_headers_of(text)}
        try:
            self._connected_one().send(destination, text, headers)
        except TemporarilyUnavailable as error:
            raise TemporarilyUnavailable(
                f"the message to {destination} may not have arrived: {error}"
            ) from error

    def start(self) -> None:
        """Connect, and stay connected; does not wait for either."""
        if self._keeper is not None or self._stopping.is_set():
            return
        for subscription in self._subscriptions.values():
            subscription.start()
        self._keeper = threading.Thread(target=self._keep, name=f"bus {self._broker}", daemon=True)
        self._keeper.start()

    def stop(self, timeout: float) -> None:
        """Deliver nothing more and disconnect; what was not taken waits at the
        broker.
        """
        deadline = time.monotonic() + timeout
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
        for subscription in self._subscriptions.values():
            subscription.stop(deadline)
        connection = self._connection
        if connection is not None:
            connection.leave(max(0.1, deadline - time.monotonic()))
        if self._keeper is not None and self._keeper is not threading.current_thread():
            self._keeper.join(max(0.1, deadline - time.monotonic()))

    def _connected_one(self) -> StompConnection:
        with self._changed:
            self._changed.wait_for(lambda: self.connected or self._stopping.is_set(), self._broker.timeout)
            if self._connection is None or self._stopping.is_set():
                raise TemporarilyUnavailable(
                    self._trouble or f"the broker {self._broker} has not answered yet"
                )
            return self._connection

    def _keep(self) -> None:
        """Connect, again and again; the only thread that does."""
        attempt = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                connection = self._open()
            except Exception as error:
                # Whatever it is: without this thread nothing would ever come.
                if str(error) != self._trouble:
                    expected = isinstance(error, (TemporarilyUnavailable, InvalidConfiguration))
                    _log.error("No bus; trying on: %s", error, exc_info=not expected)
                self._trouble = str(error)
            else:
                _log.info("Connected to the broker %s as %s", self._broker, self._broker.client_id)
                self._set(connection)
                connection.lost.wait()
                self._trouble = connection.reason
                self._set(None)
                if not self._stopping.is_set():
                    _log.warning("The bus is gone; connecting again: %s", connection.reason)
                attempt = 0 if time.monotonic() - began > _LASTED else attempt
            attempt += 1
            pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(attempt - 1, 10))
            self._stopping.wait(pause * random.uniform(0.5, 1.5))

    def _open(self) -> StompConnection:
        connection = StompConnection(self._broker, self._deliver)
        try:
            connection.open()
            for subscription in self._subscriptions.values():
                connection.subscribe(subscription.number, subscription.destination, subscription.headers)
        except BaseException as error:
            connection.close(str(error))
            raise
        return connection

    def _set(self, connection: StompConnection | None) -> None:
        with self._changed:
            self._connection = connection
            self._changed.notify_all()
        if connection is not None and self._stopping.is_set():
            # Nobody else would: it came when the end had begun.
            connection.leave(self._broker.timeout)

    def _deliver(self, connection: StompConnection, frame: Frame) -> None:
        """Take a message from the thread that reads, which must go on to hear
        the broker's heart-beats.
        """
        subscription = self._subscriptions.get(frame.headers.get("subscription", ""))
        if subscription is not None:
            subscription.waiting.put((connection, frame))


@dataclass(eq=False)
class _Subscription:
    """Hands messages over, one at a time, in a thread of its own."""

    number: str
    destination: str
    receive: Receiver
    durable: str | None
    stopping: threading.Event
    waiting: queue.SimpleQueue[tuple[StompConnection, Frame] | None] = field(
        default_factory=queue.SimpleQueue
    )
    thread: threading.Thread | None = None

    @property
    def headers(self) -> dict[str, str]:
        """What the brokers are asked for, in their own words: ActiveMQ's and
        Artemis's.
        """
        if not is_topic(self.destination):
            return {"subscription-type": "ANYCAST", **_AHEAD_OF_QUEUE}
        durable = {} if self.durable is None else dict.fromkeys(_DURABLE, self.durable)
        return {"subscription-type": "MULTICAST", **_AHEAD_OF_TOPIC, **durable}

    def start(self) -> None:
        self.thread = threading.Thread(target=self._run, name=f"bus {self.destination}", daemon=True)
        self.thread.start()

    def stop(self, deadline: float) -> None:
        self.waiting.put(None)
        if self.thread is not None and self.thread is not threading.current_thread():
            self.thread.join(max(0.1, deadline - time.monotonic()))

    def _run(self) -> None:
        while (item := self.waiting.get()) is not None:
            connection, frame = item
            if self.stopping.is_set():
                return

            # What a lost connection brought comes again, in its order.
            give_up = partial(self._give_up, connection)
            if not connection.lost.is_set() and hand_over(self.receive, self._read(frame), wait=give_up):
                connection.acknowledge(frame)

    def _give_up(self, connection: StompConnection, seconds: float) -> bool:
        """Wait; say whether there is no sense in offering a message again."""
        until = time.monotonic() + seconds
        while (rest := until - time.monotonic()) > 0.0 and not self.stopping.is_set():
            if connection.lost.wait(min(rest, _LOOK)):
                break
        return connection.lost.is_set() or self.stopping.is_set()

    def _read(self, frame: Frame) -> ReceivedMessage:
        # What is no UTF-8 is no JSON either, which is the receiver's to refuse.
        return ReceivedMessage(
            frame.headers.get("destination", self.destination),
            frame.body.decode(errors="replace"),
            _message_id(frame),
        )


def _message_id(frame: Frame) -> str | None:
    """Return the broker's name for a message, the same at every delivery.

    Artemis puts the consumer's number before it, which is another after each
    connection, and counts from the beginning if its store is made anew.
    """
    name: str | None = frame.headers.get("message-id")
    if name is None or (of_artemis := _ARTEMIS.fullmatch(name)) is None:
        return name
    return f"{of_artemis['message']}@{frame.headers.get('timestamp', '')}"


def _headers_of(text: str) -> dict[str, str]:
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(body, dict):
        return {}
    found = {name: value for name in _HEADERS if isinstance(value := body.get(name), str)}
    return {
        name: value
        for name, value in found.items()
        if 0 < len(value) <= _LONGEST_HEADER and value.isprintable()
    }
