"""An agent looks after what it keeps: how much waits, and what is too old."""

from __future__ import annotations

__all__ = ["Upkeep"]

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from models.errors import TemporarilyUnavailable
from services.streaming.journal import Journal

_log = logging.getLogger(__name__)

#: Seconds between looks at what waits, and at what is old.
_LOOK, _TIDYING = 10.0, 3600.0


class Upkeep:
    """Counts and tidies on a thread of its own: neither work nor signs of life
    wait for the database that this asks.

    Parameters
    ----------
    journal : `services.streaming.journal.Journal`
    outbox : callable
        Returns the numbers of messages that go, by state (``waiting``,
        ``refused``) and kind; nothing if it cannot.
    forget : sequence of callables
        Each removes what is from before a time (aware), and returns how much
        that was.
    keep : `datetime.timedelta` or `None`
        How long what no one needs any more is kept; None for ever.
    look : `float`, optional
        Seconds between looks.
    now : callable, optional
        Returns the present time, aware.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        outbox: Callable[[], Mapping[str, Mapping[str, int]]],
        forget: Sequence[Callable[[datetime], int]] = (),
        keep: timedelta | None = None,
        look: float = _LOOK,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._journal = journal
        self._outbox = outbox
        self._forget = forget
        self._keep = keep
        self._look = look
        self._now = now
        self._backlog: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    @property
    def backlog(self) -> dict[str, int]:
        """Messages that wait or are set aside when they were last counted:
        ``inbox_waiting``, ``inbox_refused``, ``outbox_waiting`` and
        ``outbox_refused``; empty before they were.
        """
        return dict(self._backlog)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> None:
        """Begin to end; does not wait."""
        self._stop.set()

    def join(self, timeout: float) -> None:
        """Wait until it has ended; safe if never started."""
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        tidied = float("-inf")
        while True:
            try:
                self._count()
                if time.monotonic() - tidied > _TIDYING:
                    tidied = time.monotonic()
                    self._tidy()
            except TemporarilyUnavailable:
                # Who works says so; what waits is not known.
                self._backlog = {}
            except Exception:
                # Whatever it is: nobody else would count.
                _log.exception("What waits is not counted, what is old not removed.")
            if self._stop.wait(self._look):
                return

    def _count(self) -> None:
        inbox, outbox = self._journal.counts(), self._outbox()
        backlog = {f"inbox_{state}": count for state, count in inbox.items()}
        for state, by_kind in outbox.items():
            backlog[f"outbox_{state}"] = sum(by_kind.values())
        self._backlog = backlog

    def _tidy(self) -> None:
        if self._keep is None:
            return
        before = self._now() - self._keep
        for forget in self._forget:
            if count := forget(before):
                _log.info("Messages that were set aside before %s are removed: %d.", before, count)
