"""When an agent that starts begins to send."""

from __future__ import annotations

__all__ = ["LONGEST_QUIET", "QUIET", "Sending"]

import time

from services.outbox import OutboxDrain
from services.streaming.bus import Bus

#: Seconds without a message after which those that waited at the bus have been
#: taken, and seconds after which they have though more keep coming.
QUIET = 1.0
LONGEST_QUIET = 20.0


class Sending:
    """Sends what the logic stored, once it is known what earlier lives sent
    already: a message that was sent, but whose row outlived its sender, comes
    back to us among those that waited at the bus.

    Parameters
    ----------
    drain : `services.outbox.OutboxDrain`
    bus : `services.streaming.bus.Bus`
    quiet, patience : `float`, optional
        Seconds without a message until leftovers are sent; seconds with the
        bus until they are sent though messages keep coming.
    """

    def __init__(
        self, *, drain: OutboxDrain, bus: Bus, quiet: float = QUIET, patience: float = LONGEST_QUIET
    ) -> None:
        self._drain = drain
        self._bus = bus
        self._quiet = quiet
        self._patience = patience
        self._last_message = time.monotonic()
        self._without_bus = time.monotonic()
        self._begun = False

    @property
    def trouble(self) -> str | None:
        """What keeps messages from being sent."""
        return self._drain.trouble

    def heard(self) -> None:
        """Note that a message came."""
        self._last_message = time.monotonic()

    def go(self) -> float | None:
        """Send what there is, if it is time; return the seconds until it may
        be, None if it is.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the agent's database is away.
        """
        if self._begun:
            self._drain.wake()
            return None
        if self._drain.counts().get("waiting"):
            now = time.monotonic()
            if not self._bus.connected:
                self._last_message = self._without_bus = now
            # A run that sends without pause must not hold them back to its end.
            if now - self._last_message < self._quiet and now - self._without_bus < self._patience:
                return self._quiet / 4
        self._begun = True
        self._drain.start()
        return None

    def stop(self, timeout: float) -> None:
        """End; what was not sent waits for the next start."""
        if self._begun:
            self._drain.stop(timeout)
