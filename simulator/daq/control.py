"""What operators ask of a simulation that runs."""

from __future__ import annotations

__all__ = ["Control"]

import threading


class Control:
    """Stops, pauses and resumes; may be used from any thread, at any time.

    A stop is final.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._stopped = False
        self._pause_reason: str | None = None

    @property
    def stopped(self) -> bool:
        """Whether a stop was asked for."""
        return self._stopped

    @property
    def pause_reason(self) -> str | None:
        """Why data taking is to stand still; None if it is to go on."""
        return self._pause_reason

    def stop(self) -> None:
        """Have the run ended; who waits in `wait` wakes."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def pause(self, reason: str) -> None:
        """Have data taking stand still before the next file."""
        with self._changed:
            self._pause_reason = reason

    def resume(self) -> None:
        """Have data taking go on."""
        with self._changed:
            self._pause_reason = None
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait for some time or for a stop; True if it was asked for."""
        with self._changed:
            return self._changed.wait_for(lambda: self._stopped, seconds)

    def wait_while_paused(self, seconds: float | None) -> None:
        """Wait until data taking is to go on or to end, or for some time."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._pause_reason is None, seconds)
