"""The bus within one process."""

from __future__ import annotations

__all__ = ["LocalBroker", "LocalBus"]

import threading
import time
import uuid
from collections import deque
from dataclasses import dataclass, field

from models.errors import TemporarilyUnavailable
from models.streaming.bus import ReceivedMessage
from repos.streaming.bus_messages import Receiver, check_destination, check_message, hand_over, is_topic


@dataclass(eq=False)
class _Channel:
    """Messages on their way to a subscription, or to whoever of a queue's
    subscribers comes first. Guarded by the broker's lock.
    """

    changed: threading.Condition
    messages: deque[ReceivedMessage] = field(default_factory=deque)
    in_hand: int = 0
    listeners: int = 0

    @property
    def done(self) -> bool:
        """Whether nothing is left that anybody could take."""
        return not self.listeners or not (self.messages or self.in_hand)


class LocalBroker:
    """Brings messages from the buses of one process to those of the same.

    Messages are in memory: they go with the process, not with a bus that
    ends. Whoever sends does not wait for whoever receives.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._quiet = threading.Condition(self._lock)
        self._queues: dict[str, _Channel] = {}
        self._topics: dict[str, list[_Channel]] = {}
        self._durable: dict[tuple[str, str, str], _Channel] = {}
        self._name = uuid.uuid4().hex
        self._sent = 0

    def connect(self, client: str = "") -> LocalBus:
        """Return a bus of its own for somebody.

        Parameters
        ----------
        client : `str`, optional
            Whose durable subscriptions it continues.
        """
        return LocalBus(self, client=client)

    def send(self, destination: str, text: str) -> None:
        """Bring a message to all subscriptions of a topic, or to a queue.

        Raises
        ------
        models.errors.InvalidMessage
            Raised for a destination or a text that no bus takes.
        """
        check_message(destination, text)
        with self._lock:
            self._sent += 1
            message = ReceivedMessage(destination, text, f"{self._name}:{self._sent}")
            channels = (
                self._topics.get(destination, []) if is_topic(destination) else [self._queue(destination)]
            )
            for channel in channels:
                channel.messages.append(message)
                channel.changed.notify()

    def drain(self, timeout: float) -> bool:
        """Wait until all messages were taken that somebody listens for.

        Returns
        -------
        done : `bool`
            False if some were not taken in time.
        """
        with self._lock:
            return self._quiet.wait_for(lambda: all(channel.done for channel in self._channels()), timeout)

    def _channels(self) -> list[_Channel]:
        return [*self._queues.values(), *(channel for topic in self._topics.values() for channel in topic)]

    def _queue(self, destination: str) -> _Channel:
        if destination not in self._queues:
            self._queues[destination] = self._new()
        return self._queues[destination]

    def _new(self) -> _Channel:
        return _Channel(threading.Condition(self._lock))

    def _attach(self, destination: str, client: str, durable: str | None) -> _Channel:
        """Return where a subscription's messages are from now on."""
        with self._lock:
            if not is_topic(destination):
                return self._queue(destination)
            name = (destination, client, durable or "")
            channel = self._durable.get(name) if durable else None
            if channel is None:
                channel = self._new()
                self._topics.setdefault(destination, []).append(channel)
                if durable:
                    self._durable[name] = channel
            return channel

    def _detach(self, destination: str, channel: _Channel) -> None:
        """Forget a subscription of a topic that nobody will continue."""
        with self._lock:
            if channel not in self._durable.values():
                self._topics[destination].remove(channel)
            self._quiet.notify_all()


@dataclass(eq=False)
class _Subscription:
    """Somebody who takes messages of a channel, one at a time."""

    destination: str
    channel: _Channel
    receive: Receiver
    quiet: threading.Condition
    stopping: threading.Event
    thread: threading.Thread | None = None

    def start(self) -> None:
        with self.channel.changed:
            self.channel.listeners += 1
        self.thread = threading.Thread(target=self._run, name=f"bus {self.destination}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        channel = self.channel
        while (message := self._take()) is not None:
            taken = hand_over(self.receive, message, wait=self.stopping.wait)
            with channel.changed:
                channel.in_hand -= 1
                if not taken:
                    channel.messages.appendleft(message)
                    channel.changed.notify()
                if channel.done:
                    self.quiet.notify_all()
        with channel.changed:
            channel.listeners -= 1
            self.quiet.notify_all()

    def _take(self) -> ReceivedMessage | None:
        channel = self.channel
        with channel.changed:
            channel.changed.wait_for(lambda: channel.messages or self.stopping.is_set())
            if self.stopping.is_set():
                # What woke us may have been meant for another of the queue.
                channel.changed.notify()
                return None
            channel.in_hand += 1
            return channel.messages.popleft()


class LocalBus:
    """A connection to a `LocalBroker`; a `services.streaming.bus.Bus`.

    Parameters
    ----------
    broker : `LocalBroker`, optional
        One of its own, if left out.
    client : `str`, optional
        Whose durable subscriptions it continues.
    """

    def __init__(self, broker: LocalBroker | None = None, *, client: str = "") -> None:
        self._broker = broker or LocalBroker()
        self._client = client
        self._stopping = threading.Event()
        self._started = False
        self._subscriptions: list[_Subscription] = []

    @property
    def connected(self) -> bool:
        """Whether messages flow now."""
        return self._started and not self._stopping.is_set()

    def subscribe(self, destination: str, receive: Receiver, *, durable: str | None = None) -> None:
        """Have messages handed over that are sent from now on; see
        `services.streaming.bus.Bus.subscribe`.

        Raises
        ------
        models.errors.InvalidMessage
            Raised if there is no such destination.
        """
        check_destination(destination)
        broker = self._broker
        channel = broker._attach(destination, self._client, durable)
        self._subscriptions.append(
            _Subscription(destination, channel, receive, broker._quiet, self._stopping)
        )

    def send(self, destination: str, text: str) -> None:
        """Send; return when it waits for all who subscribed.

        Raises
        ------
        models.errors.InvalidMessage
            Raised for a destination or a text that no bus takes.
        models.errors.TemporarilyUnavailable
            Raised before `start` and after `stop`.
        """
        if not self.connected:
            raise TemporarilyUnavailable(
                f"the bus is not connected: the message to {destination} was not sent"
            )
        self._broker.send(destination, text)

    def start(self) -> None:
        """Begin to hand messages over."""
        if self._started:
            return
        self._started = True
        for subscription in self._subscriptions:
            subscription.start()

    def stop(self, timeout: float) -> None:
        """Deliver nothing more; what was not taken waits for whoever continues
        the subscription or the queue.
        """
        if self._stopping.is_set():
            return
        self._stopping.set()
        deadline = time.monotonic() + timeout
        for subscription in self._subscriptions:
            with subscription.channel.changed:
                subscription.channel.changed.notify_all()
        for subscription in self._subscriptions:
            if subscription.thread is not None and subscription.thread is not threading.current_thread():
                subscription.thread.join(max(0.0, deadline - time.monotonic()))
            if is_topic(subscription.destination):
                self._broker._detach(subscription.destination, subscription.channel)

    def drain(self, timeout: float) -> bool:
        """Wait until all messages were taken; see `LocalBroker.drain`."""
        return self._broker.drain(timeout)
