"""Signals in a slot: how a running visit is told to stop."""

from __future__ import annotations

__all__ = ["Interruption", "SlotDismissed"]

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from models.errors import InterruptSignal


class SlotDismissed(BaseException):
    """A signal told the slot to leave while it had no visit."""


class Interruption:
    """Turns SIGTERM and SIGHUP into exceptions of the main thread.

    During a visit, `models.errors.InterruptSignal` is raised wherever the main
    thread happens to be, unless it is shielded; while the slot waits for work,
    `SlotDismissed`; otherwise nothing is. After the first signal the slot is
    not used again, so later ones are ignored.
    """

    def __init__(self) -> None:
        self._requested = False
        self._raises: type[BaseException] | None = None
        self._shields = 0

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self._requested

    def install(self) -> None:
        """Take over the signals; only in the main thread."""
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        # Ctrl-C at a terminal goes to the whole foreground group; the service
        # decides what becomes of its visits.
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._requested:
            return
        self._requested = True
        if self._raises is not None and not self._shields:
            raise self._raises(f"stopped by {signal.Signals(number).name}")

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Mark that the slot has nothing to do.

        Raises
        ------
        SlotDismissed
            Raised in the body when a signal comes, or before it if one has.
        """
        self._raises = SlotDismissed
        try:
            if self._requested:
                raise SlotDismissed("stopped by an earlier signal")
            yield
        finally:
            self._raises = None

    @contextmanager
    def visit(self) -> Iterator[None]:
        """Mark that a visit is being processed.

        Raises
        ------
        models.errors.InterruptSignal
            Raised in the body when a signal comes.
        """
        self._raises = InterruptSignal
        try:
            yield
        finally:
            self._raises = None

    def hold(self) -> None:
        """Let the running visit come to its end whatever signal comes."""
        self._raises = None

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Hold off the exception while the context lasts."""
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1
