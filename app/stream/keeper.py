"""Signs of life for the entry whose visit is running."""

from __future__ import annotations

__all__ = ["ClaimKeeper"]

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_log = logging.getLogger(__name__)

#: How much sooner another attempt comes after one that failed.
_HASTE = 4


class ClaimKeeper:
    """Keeps a claim from a thread of its own.

    Parameters
    ----------
    refresh : callable
        Gives a sign of life for an entry; returns whether it is ours still.
    interval : `float`
        Seconds between two of them.
    """

    def __init__(self, *, refresh: Callable[[str], bool], interval: float) -> None:
        self._refresh = refresh
        self._interval = interval

    @contextmanager
    def holding(self, entry_id: str) -> Iterator[None]:
        """Keep the claim on an entry while the context lasts."""
        done = threading.Event()
        thread = threading.Thread(target=self._keep, args=(entry_id, done), name="claim-keeper", daemon=True)
        thread.start()
        try:
            yield
        finally:
            # A sign of life that is under way would come too late.
            done.set()
            thread.join()

    def _keep(self, entry_id: str, done: threading.Event) -> None:
        pause = self._interval
        while not done.wait(pause):
            try:
                if not self._refresh(entry_id):
                    # Nothing is to be won by stopping the visit: the ledger
                    # keeps the other worker from processing it as well, and
                    # its result, when known, is as good as the other's.
                    _log.error(
                        "Entry %s is this worker's no longer: another took it for dead, or it was deleted.",
                        entry_id,
                    )
                    return
                pause = self._interval
            except Exception as error:
                _log.warning("No sign of life could be given for entry %s: %s", entry_id, error)
                pause = self._interval / _HASTE
