"""What the monitor does besides answering: it hears the bus, and tidies up."""

from __future__ import annotations

__all__ = ["MonitorService"]

import logging
import threading
from datetime import UTC, datetime, timedelta

from app.streaming.monitor_metrics import MonitorMetrics
from app.streaming.rest.stream import MessageStream
from models.errors import TemporarilyUnavailable
from repos.streaming.monitor_store import MonitorStore
from services.streaming.bus import Bus
from services.streaming.message_recorder import MessageRecorder

_log = logging.getLogger(__name__)

#: Seconds between looks for agents that fell silent and for rows that are old.
_SWEEP = 30.0
#: Old rows that are removed at once, and seconds between that others can write.
_HANDFUL = 5000
_BREATH = 0.1
#: Seconds for the bus to end.
_FAREWELL = 5.0
#: Name of the subscription for which the broker keeps messages.
_SUBSCRIPTION = "monitor"


class MonitorService:
    """The monitor's threads.

    Parameters
    ----------
    store : `repos.streaming.monitor_store.MonitorStore`
    stream : `app.streaming.rest.stream.MessageStream`
    bus : `services.streaming.bus.Bus`, optional
        Without one, nothing is recorded.
    topic : `str`
        Destination whose messages are recorded.
    keep : `datetime.timedelta`, optional
        How long messages and logs are kept; for ever by default.

    Attributes
    ----------
    metrics : `app.streaming.monitor_metrics.MonitorMetrics`
    """

    def __init__(
        self,
        *,
        store: MonitorStore,
        stream: MessageStream,
        bus: Bus | None,
        topic: str,
        keep: timedelta | None = None,
    ) -> None:
        self._store = store
        self._stream = stream
        self._bus = bus
        self._topic = topic
        self._keep = keep
        self.metrics = MonitorMetrics(store, bus_connected=lambda: self.bus_connected)
        self._stopping = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep, name="monitor-sweeper", daemon=True)

    @property
    def bus_connected(self) -> bool | None:
        """Whether messages flow; None without a bus."""
        return None if self._bus is None else self._bus.connected

    def trouble(self) -> str | None:
        """Say why nobody can be answered, if so."""
        try:
            self._store.messages.latest()
        except TemporarilyUnavailable as error:
            return str(error)
        return None

    def start(self) -> None:
        """Begin."""
        if self._bus is not None:
            recorder = MessageRecorder(self.metrics)
            durable = _SUBSCRIPTION if self._topic.startswith("/topic/") else None
            self._bus.subscribe(self._topic, recorder.receive, durable=durable)
            self._bus.start()
        self._sweeper.start()

    def begin_shutdown(self) -> None:
        """Send those away who listen; may be called twice."""
        self._stopping.set()
        self._stream.stop()

    def close(self) -> None:
        """End; safe if never started."""
        self.begin_shutdown()
        if self._bus is not None:
            self._bus.stop(_FAREWELL)
        if self._sweeper.is_alive():
            self._sweeper.join(_FAREWELL)

    def _sweep(self) -> None:
        while not self._stopping.wait(_SWEEP):
            try:
                self._store.agents.mark_silent()
                self._forget()
            except TemporarilyUnavailable as error:
                _log.warning("Neither silent agents nor old rows are looked for: %s", error)
            except Exception:
                # Whatever it is: without this thread they never would be.
                _log.exception("Neither silent agents nor old rows are looked for.")

    def _forget(self) -> None:
        """Remove messages and logs that are too old."""
        if self._keep is None:
            return
        before = datetime.now(UTC) - self._keep
        for rows in (self._store.messages, self._store.logs):
            while rows.forget(before, at_most=_HANDFUL) == _HANDFUL:
                if self._stopping.wait(_BREATH):
                    return
