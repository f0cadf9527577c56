"""Upload of metrics: after a visit, beside the next ones, and never in their way."""

from __future__ import annotations

__all__ = ["MetricsServer", "MetricsUpload"]

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Iterable
from typing import Protocol

from models.errors import PromptProcessingError
from models.metrics import MeasuredBundle

_log = logging.getLogger(__name__)

#: Bundles that may wait: those of a full focal plane, several times.
_CAPACITY = 2000


class MetricsServer(Protocol):
    """Takes metrics."""

    def send(self, bundle: MeasuredBundle) -> None:
        """Send a bundle, once.

        Raises
        ------
        models.errors.PromptProcessingError
            Raised if it was not taken.
        """

    def close(self) -> None:
        """Close connections."""


class MetricsUpload:
    """Sends bundles from a thread of its own, in their order, each once.

    What is not taken is lost, with a word in the log when that begins and
    when it ends: the same metrics are in the central repo.

    Parameters
    ----------
    server : `MetricsServer`
    capacity : `int`
        Bundles that may wait; more are dropped.
    """

    def __init__(self, server: MetricsServer, *, capacity: int = _CAPACITY) -> None:
        self._server = server
        self._waiting: queue.Queue[MeasuredBundle | None] = queue.Queue(capacity)
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._lost = 0
        self._trouble: str | None = None

    @property
    def trouble(self) -> str | None:
        """Why metrics are not taken at present, if so."""
        return self._trouble

    @property
    def lost(self) -> int:
        """How many bundles have not been taken."""
        return self._lost

    def start(self) -> None:
        """Begin to send."""
        self._thread = threading.Thread(target=self._run, name="metrics-upload", daemon=True)
        self._thread.start()

    def offer(self, bundles: Iterable[MeasuredBundle]) -> None:
        """Have bundles sent; does not wait, and does not fail."""
        for bundle in bundles:
            try:
                self._waiting.put_nowait(bundle)
            except queue.Full:
                self._lose("more metrics wait than can be kept")

    def stop(self, timeout: float = 5.0) -> None:
        """Send what still waits, for so many seconds at most, and end."""
        if self._thread is not None:
            end = time.monotonic() + timeout
            with contextlib.suppress(queue.Full):
                self._waiting.put(None, timeout=timeout)
            self._thread.join(max(0.0, end - time.monotonic()))
            self._stopping.set()
            self._thread = None
        self._server.close()

    def _run(self) -> None:
        while (bundle := self._waiting.get()) is not None and not self._stopping.is_set():
            try:
                self._server.send(bundle)
            except PromptProcessingError as error:
                self._lose(str(error))
            except Exception as error:  # nothing may end this thread
                self._lose(f"{type(error).__name__}: {error}")
            else:
                if self._trouble is not None:
                    _log.warning("Metrics are taken again; %d bundles were lost so far.", self._lost)
                self._trouble = None

    def _lose(self, reason: str) -> None:
        self._lost += 1
        if self._trouble is None:
            _log.error("Metrics are not uploaded: %s", reason)
        else:
            _log.debug("Metrics are not uploaded: %s", reason)
        self._trouble = reason
