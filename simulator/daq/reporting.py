"""Signs of life, and what the monitor is still to be told."""

from __future__ import annotations

__all__ = ["Reporter"]

import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple

from models.errors import InvalidMessage, PromptProcessingError
from models.streaming.monitoring import AgentReport, ExecutionStatus
from simulator.daq.monitor import DaqMonitor

_log = logging.getLogger(__name__)

#: Seconds between signs of life, as in the field.
HEARTBEAT = 60.0
#: Seconds before the monitor is told again what it did not take.
_AGAIN = 5.0
#: Seconds between looks whether the bus came or went.
_GLANCE = 0.5


class _End(NamedTuple):
    """How an execution ended."""

    status: ExecutionStatus
    time: datetime
    unannounced_run: int | None


class Reporter:
    """Tells the monitor how the agent is, on a thread of its own.

    Parameters
    ----------
    monitor : `simulator.daq.monitor.DaqMonitor`
    describe : callable
        Returns the sign of life as of now; None before the agent has a name.
    connected : callable
        Says whether the bus is there; when it comes or goes is reported.
    interval : `float`, optional
        Seconds between signs of life.
    again : `float`, optional
        Seconds before the monitor is told again what it did not take.
    told : callable, optional
        Is called with an execution of which the monitor knows that it ended.
    """

    def __init__(
        self,
        *,
        monitor: DaqMonitor,
        describe: Callable[[], AgentReport | None],
        connected: Callable[[], bool],
        interval: float = HEARTBEAT,
        again: float = _AGAIN,
        told: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._monitor = monitor
        self._describe = describe
        self._connected = connected
        self._interval = interval
        self._again = again
        self._told = told
        self._wake = threading.Condition()
        self._changed = False
        self._closing = False
        self._endings: dict[str, _End] = {}
        self._silent = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to report."""
        self._thread = threading.Thread(target=self._run, name="daq-heartbeat", daemon=True)
        self._thread.start()

    def tell(self) -> None:
        """Report soon: what the agent does has changed."""
        with self._wake:
            self._changed = True
            self._wake.notify_all()

    def end_execution(
        self,
        execution_id: str,
        status: ExecutionStatus,
        *,
        end_time: datetime,
        insist: bool = True,
        unannounced_run: int | None = None,
    ) -> bool:
        """Tell how an execution ended: now, or as soon as the monitor takes it.

        Parameters
        ----------
        execution_id : `str`
        status : `models.streaming.monitoring.ExecutionStatus`
        end_time : `datetime.datetime`
            Aware.
        insist : `bool`, optional
            Whether the monitor must know the execution, so that it is told
            until it takes that.
        unannounced_run : `int`, optional
            A run of it that is over, too, and of which the bus says nothing.

        Returns
        -------
        told : `bool`
            Whether it is told by now.
        """
        if self._try_ending(execution_id, _End(status, end_time, unannounced_run)):
            return True
        if insist:
            self.end_later(execution_id, status, end_time=end_time, unannounced_run=unannounced_run)
        else:
            self._note_told(execution_id)
        return False

    def end_later(
        self,
        execution_id: str,
        status: ExecutionStatus,
        *,
        end_time: datetime,
        unannounced_run: int | None = None,
    ) -> None:
        """Tell how an execution ended as soon as the monitor takes it; see
        `end_execution`.
        """
        with self._wake:
            self._endings[execution_id] = _End(status, end_time, unannounced_run)
            self._wake.notify_all()

    def stop(self, timeout: float = 3.0) -> None:
        """Report a last time and end. Safe if never started."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        if self._thread is None:
            return
        self._thread.join(timeout)
        with self._wake:
            untold = dict(self._endings)
        for execution_id, end in untold.items():
            _log.error("The monitor was not told that execution %s is %s.", execution_id, end.status)

    def _run(self) -> None:
        due = again = time.monotonic()
        connected = False
        while True:
            with self._wake:
                self._wake.wait_for(
                    lambda: self._changed or self._closing, min(max(due - time.monotonic(), 0), _GLANCE)
                )
                closing, changed, self._changed = self._closing, self._changed, False
                endings = dict(self._endings)
            now, before, connected = time.monotonic(), connected, self._connected()
            if closing or now >= again:
                again = now + self._again
                self._try_endings(endings)
            if closing or changed or connected != before or now >= due:
                taken = self._report()
                due = time.monotonic() + (self._interval if taken else min(self._interval, self._again))
            if closing:
                return

    def _try_endings(self, endings: Mapping[str, _End]) -> None:
        for execution_id, end in endings.items():
            if self._try_ending(execution_id, end):
                with self._wake:
                    del self._endings[execution_id]

    def _report(self) -> bool:
        try:
            report = self._describe()
            if report is not None:
                self._monitor.report(report)
        except PromptProcessingError as error:
            if not self._silent:
                _log.warning("The monitor takes no sign of life, it is tried again: %s", error)
            self._silent = True
        except Exception:
            # The thread must live on, whatever a monitor's client raises.
            _log.exception("No sign of life could be given.")
        else:
            self._silent = False
            return True
        return False

    def _try_ending(self, execution_id: str, end: _End) -> bool:
        try:
            self._monitor.end_execution(execution_id, end.status, end_time=end.time)
            if end.unannounced_run is not None:
                self._monitor.end_run(end.unannounced_run, at=end.time)
        except InvalidMessage as error:
            _log.error(
                "The monitor refuses that execution %s is %s: %s",
                execution_id,
                end.status,
                error,
                extra={"execution_id": execution_id},
            )
        except Exception as error:
            _log.warning(
                "The monitor could not be told that execution %s is %s, it is tried again: %s",
                execution_id,
                end.status,
                error,
            )
            return False
        self._note_told(execution_id)
        return True

    def _note_told(self, execution_id: str) -> None:
        try:
            self._told(execution_id)
        except Exception:
            # It is told again by the next process, which changes nothing.
            _log.exception("It is not kept that the end of execution %s was told.", execution_id)
