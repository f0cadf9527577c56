"""The in-process bus, for a simulated DAQ."""

from __future__ import annotations

__all__ = ["LocalDaqBus"]

from collections.abc import Callable

from models.streaming.bus import ReceivedMessage
from services.streaming.bus import Bus

#: Seconds that subscribers have to finish when it ends.
_PATIENCE = 5.0


class LocalDaqBus:
    """A `simulator.daq.bus.DaqBus` over a bus that sends at once.

    Parameters
    ----------
    bus : `services.streaming.bus.Bus`
        Of the same process, so never away.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    @property
    def connected(self) -> bool:
        """Whether messages flow now."""
        return self._bus.connected

    def subscribe(self, destination: str, receive: Callable[[ReceivedMessage], None]) -> None:
        """Have the messages of a queue handed over; called before `start`."""
        self._bus.subscribe(destination, receive)

    def send(self, destination: str, text: str, *, confirmed: Callable[[], None] = lambda: None) -> None:
        """Send a message, after those before it."""
        self._bus.send(destination, text)
        confirmed()

    def flush(self, timeout: float) -> int:
        """Return how many messages were not sent: none."""
        return 0

    def start(self) -> None:
        """Connect."""
        self._bus.start()

    def stop(self) -> None:
        """Disconnect."""
        self._bus.stop(_PATIENCE)
