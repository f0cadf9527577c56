"""What the monitor does besides answering: it hears the bus."""

from __future__ import annotations

__all__ = ["MonitorService"]

import logging
import threading

from app.streaming.rest.stream import MessageStream
from models.errors import TemporarilyUnavailable
from repos.streaming.monitor_store import MonitorStore
from services.streaming.bus import Bus
from services.streaming.message_recorder import MessageRecorder

_log = logging.getLogger(__name__)

#: Seconds between looks for agents that fell silent.
_SWEEP = 30.0
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
    """

    def __init__(self, *, store: MonitorStore, stream: MessageStream, bus: Bus | None, topic: str) -> None:
        self._store = store
        self._stream = stream
        self._bus = bus
        self._topic = topic
        self._stopping = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep, name="silent-agents", daemon=True)

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
            recorder = MessageRecorder(self._store.messages)
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
            except TemporarilyUnavailable as error:
                _log.warning("Silent agents cannot be noted: %s", error)
            except Exception:
                # Whatever it is: without this thread they never would be.
                _log.exception("Silent agents cannot be noted.")
