"""What the data acquisition needs of the message bus."""

from __future__ import annotations

__all__ = ["DaqBus"]

from collections.abc import Callable
from typing import Protocol

from models.streaming.bus import ReceivedMessage


class DaqBus(Protocol):
    """A connection to the bus, made and kept up in the background."""

    @property
    def connected(self) -> bool:
        """Whether messages flow now."""

    def subscribe(self, destination: str, receive: Callable[[ReceivedMessage], None]) -> None:
        """Have the messages of a queue handed over; called before `start`.

        Parameters
        ----------
        destination : `str`
        receive : callable
            Called one message at a time, and may take its time. The message
            is acknowledged when it returns; if it raises, the message comes
            again.
        """

    def send(self, destination: str, text: str, *, confirmed: Callable[[], None] = lambda: None) -> None:
        """Have a message sent, after those before it. Does not wait for the
        broker: what cannot be sent now is kept until it can.

        Parameters
        ----------
        destination, text : `str`
        confirmed : callable, optional
            Called once the broker has it, from any thread.
        """

    def flush(self, timeout: float) -> int:
        """Wait until all was sent; return how many messages were not."""

    def start(self) -> None:
        """Connect, and stay connected; does not wait for either."""

    def stop(self) -> None:
        """Disconnect; what was not sent is lost. Safe if never started."""
