"""What agents need of the message bus."""

from __future__ import annotations

__all__ = ["Bus", "BusSender"]

from collections.abc import Callable, Sequence
from typing import Protocol

from models.errors import InvalidMessage, TemporarilyUnavailable
from models.events import ACKNOWLEDGED, Delivery, OutboxMessage
from models.streaming.bus import ReceivedMessage


class Bus(Protocol):
    """A connection to the bus, made and kept up in the background."""

    @property
    def connected(self) -> bool:
        """Whether messages flow now."""

    def subscribe(
        self, destination: str, receive: Callable[[ReceivedMessage], None], *, durable: str | None = None
    ) -> None:
        """Have messages handed over; called before `start`.

        Parameters
        ----------
        destination : `str`
        receive : callable
            Called one message at a time, in order, from a thread of the bus.
            The message is acknowledged when it returns; if it raises, the
            message comes again.
        durable : `str`, optional
            Name of the subscription of a topic that the broker keeps messages
            for while nobody is connected.
        """

    def send(self, destination: str, text: str) -> None:
        """Send; return when the bus has it.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if it is not known to have arrived.
        models.errors.InvalidMessage
            Raised if the bus refuses it.
        """

    def start(self) -> None:
        """Connect, and stay connected; does not wait for either."""

    def stop(self, timeout: float) -> None:
        """Deliver nothing more and disconnect; safe if never started."""


class BusSender:
    """Sends the outbox's messages; a `services.outbox.Sender`.

    Parameters
    ----------
    bus : `Bus`
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def send(self, messages: Sequence[OutboxMessage], *, waiting: Callable[[], object]) -> Sequence[Delivery]:
        """Send messages in order; stop at the first that cannot be sent."""
        deliveries: list[Delivery] = []
        for message in messages:
            waiting()
            try:
                self._bus.send(message.topic, message.payload.decode())
            except TemporarilyUnavailable as error:
                failed = Delivery(failed=str(error))
                return [*deliveries, *[failed] * (len(messages) - len(deliveries))]
            except InvalidMessage as error:
                deliveries.append(Delivery(refused=str(error)))
            else:
                deliveries.append(ACKNOWLEDGED)
        return deliveries

    def close(self) -> None:
        """Do nothing: whoever made the bus ends it."""
