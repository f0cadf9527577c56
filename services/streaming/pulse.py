"""An agent's signs of life, on a thread of their own."""

from __future__ import annotations

__all__ = ["HEARTBEAT", "Pulse"]

import logging
import threading
import time
from collections.abc import Callable
from functools import partial

from models.errors import PromptProcessingError
from models.streaming.monitoring import AgentReport, AgentState, AgentStatus
from services.streaming.monitor import Monitor

_log = logging.getLogger(__name__)

#: Seconds between signs of life, as in the field.
HEARTBEAT = 60.0
#: Seconds between looks at the agent, and before the monitor has heard of it.
_LOOK, _FIRST_LOOK = 1.0, 0.25
#: Seconds between signs of life while the number of files changes.
_AT_WORK = 10.0
#: Seconds before a monitor that is away is asked again.
_AGAIN = 5.0


class Pulse:
    """Tells the monitor how an agent is: when that changes, and now and then.

    Parameters
    ----------
    name, role : `str`
        The agent's name and type.
    subscription : `str`
        What the monitor knows as the agent's subscription.
    monitor : `services.streaming.monitor.Monitor`
    describe : callable
        Says how the agent is.
    interval : `float`, optional
        Seconds between signs of life.
    """

    def __init__(
        self,
        *,
        name: str,
        role: str,
        subscription: str,
        monitor: Monitor,
        describe: Callable[[], AgentReport],
        interval: float = HEARTBEAT,
    ) -> None:
        self._name = name
        self._role = role
        self._subscription = subscription
        self._monitor = monitor
        self._describe = describe
        self._interval = interval
        self._speechless = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"{role} pulse", daemon=True)

    def start(self) -> None:
        """Begin to report."""
        self._thread.start()

    def end(self) -> None:
        """Have the agent reported as exited, and no more; does not wait."""
        self._stop.set()

    def join(self, timeout: float) -> None:
        """Wait until the last report was made; safe if never started."""
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        told: tuple[object, ...] | None = None
        counted = 0, 0
        last = float("-inf")
        subscribed = False
        while not self._stop.wait(_FIRST_LOOK if told is None else _LOOK):
            report = self._look()
            if report is None:
                continue
            now = report.operational_state, report.status, report.mq_connected, report.description
            counts = report.current_stf_count, report.total_stf_processed
            interval = self._interval if counts == counted else min(_AT_WORK, self._interval)
            if now == told and time.monotonic() - last < interval:
                continue
            # A monitor that is away is asked again at the usual pace, not every second.
            if told is None and time.monotonic() - last < min(_AGAIN, self._interval):
                continue
            last, counted = time.monotonic(), counts
            told = now if self._tell(partial(self._monitor.report, report)) else None
            if told and not subscribed:
                subscribed = self._tell(partial(self._monitor.add_subscriber, self._subscription, self._role))
        report = self._look()
        if report is not None:
            gone = report.model_copy(
                update={"operational_state": AgentState.EXITED, "status": AgentStatus.EXITED}
            )
            self._tell(partial(self._monitor.report, gone))

    def _tell(self, what: Callable[[], None]) -> bool:
        try:
            what()
        except Exception as error:
            # Whatever it is: without this thread the agent would be taken for dead.
            foreseen = isinstance(error, PromptProcessingError)
            _log.warning("%s cannot tell the monitor how it is: %s", self._name, error, exc_info=not foreseen)
            return False
        return True

    def _look(self) -> AgentReport | None:
        try:
            return self._describe()
        except Exception:
            # As above.
            if not self._speechless:
                _log.exception("%s cannot say how it is.", self._name)
            self._speechless = True
            return None
