"""Logs on their way to the monitor: a handler that never makes anybody wait."""

from __future__ import annotations

__all__ = ["HttpLogSink", "LogSink", "MonitorLogHandler", "StoreLogSink"]

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from models.errors import InvalidMessage, TemporarilyUnavailable
from models.streaming.strict_json import storable_text
from repos.streaming.monitor_http import MonitorHttp, NotSupported
from repos.streaming.monitor_log_store import LogStore

#: Attributes of records of which the monitor keeps what a line is about.
_LABELS = ("execution_id", "workflow_name", "run_id", "username")
#: Lines that may wait, that are sent at once, and characters of one.
_WAITING = 10_000
_BATCH = 500
_LONGEST = 10_000
#: Seconds that a line waits for company, and before another try.
_COMPANY = 0.25
_PAUSE = 5.0
#: Seconds between looks whether all lines are gone.
_LOOK = 0.01
#: Loggers of those who carry lines: what they say of that would never end.
_CARRIERS = ("httpx", "httpcore", "urllib3", "sqlalchemy", "repos.streaming.monitor_logs")

Row = dict[str, Any]


class LogSink(Protocol):
    """Where lines go."""

    def write(self, rows: Sequence[Row]) -> None:
        """Keep lines.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if they cannot be kept now.
        models.errors.InvalidMessage
            Raised if they are refused.
        """


class StoreLogSink:
    """Keeps lines in the monitor's own store.

    Parameters
    ----------
    logs : `repos.streaming.monitor_log_store.LogStore`
    """

    def __init__(self, logs: LogStore) -> None:
        self._logs = logs

    def write(self, rows: Sequence[Row]) -> None:
        """Keep lines."""
        self._logs.add_all(rows)


class HttpLogSink:
    """Sends lines to a monitor: many at once, or one by one if it takes no
    lists.

    Parameters
    ----------
    http : `repos.streaming.monitor_http.MonitorHttp`
    """

    def __init__(self, http: MonitorHttp) -> None:
        self._http = http
        self._takes_lists = True

    def write(self, rows: Sequence[Row]) -> None:
        """Send lines."""
        bodies = [{**row, "timestamp": row["timestamp"].isoformat()} for row in rows]
        if self._takes_lists:
            try:
                self._http.request("POST", "logs/", body=bodies)
                return
            except NotSupported:
                self._takes_lists = False
        for body in bodies:
            self._http.request("POST", "logs/", body=body)


class MonitorLogHandler(logging.Handler):
    """Hands lines of the log to the monitor from a thread of its own.

    A line that finds too many before it is dropped, and so are lines that
    cannot be sent when the process ends; `dropped` counts them. What a line is
    about, its record says: ``extra={"execution_id": ...}``.

    Parameters
    ----------
    sink : `LogSink`
    instance_name : `str` or callable
        Who writes; a function if the name is not known yet.
    app_name : `str`, optional
        As agents in the field have it.
    level : `int`, optional
        Of the lines to hand over, at least.
    """

    def __init__(
        self,
        sink: LogSink,
        *,
        instance_name: str | Callable[[], str],
        app_name: str = "base_agent",
        level: int = logging.INFO,
    ) -> None:
        super().__init__(level)
        self._sink = sink
        self._instance_name = (lambda: instance_name) if isinstance(instance_name, str) else instance_name
        self._app_name = app_name
        self._waiting: deque[Row] = deque()
        self._ready = threading.Event()
        self._stopping = threading.Event()
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="monitor-log", daemon=True)

    @property
    def dropped(self) -> int:
        """How many lines the monitor will never see."""
        return self._dropped

    def start(self) -> None:
        """Begin to hand over."""
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line; never waits and never raises."""
        carried = record.name.startswith(_CARRIERS) or threading.current_thread() is self._thread
        if carried or self._stopping.is_set():
            return
        try:
            row = self._row(record)
        except Exception:
            self.handleError(record)
            return
        if len(self._waiting) >= _WAITING:
            self._dropped += 1
            return
        self._waiting.append(row)
        self._ready.set()

    def flush(self) -> None:
        """Do nothing; lines go out by themselves. See `drain`."""

    def drain(self, timeout: float) -> bool:
        """Wait until all lines are handed over; say whether they are.

        Parameters
        ----------
        timeout : `float`
            Seconds.
        """
        deadline = time.monotonic() + timeout
        while self._waiting and self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(_LOOK)
        return not self._waiting

    def stop(self, timeout: float) -> None:
        """Hand over what waits, for some seconds at most, and end."""
        self._stopping.set()
        self._ready.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _row(self, record: logging.LogRecord) -> Row:
        message = record.getMessage()
        if record.exc_info and record.exc_info[0] is not None:
            message = f"{message}\n{logging.Formatter().formatException(record.exc_info)}"
        about = {name: getattr(record, name, None) for name in _LABELS}
        extra = {name: storable_text(str(value)) for name, value in about.items() if value is not None}
        return {
            "app_name": self._app_name,
            "instance_name": self._instance_name(),
            "timestamp": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelno,
            "levelname": record.levelname,
            "message": storable_text(message, longest=_LONGEST),
            "module": record.module,
            "funcname": record.funcName,
            "lineno": record.lineno,
            "process": record.process,
            "thread": None if record.thread is None else record.thread & (2**63 - 1),
            "extra_data": extra or None,
        }

    def _run(self) -> None:
        while self._waiting or not self._stopping.is_set():
            self._ready.wait()
            self._ready.clear()
            # Lines rarely come alone.
            self._stopping.wait(_COMPANY)
            while self._waiting:
                last = self._stopping.is_set()
                batch = [self._waiting[i] for i in range(min(_BATCH, len(self._waiting)))]
                if self._hand_over(batch):
                    for _ in batch:
                        self._waiting.popleft()
                elif last:
                    self._dropped += len(self._waiting)
                    self._waiting.clear()
                else:
                    self._stopping.wait(_PAUSE)

    def _hand_over(self, batch: Sequence[Row]) -> bool:
        try:
            self._sink.write(batch)
        except TemporarilyUnavailable:
            return False
        except InvalidMessage:
            self._dropped += len(batch)
        except Exception:
            # Whatever it is: a line of the log is not worth an agent's thread.
            self._dropped += len(batch)
        return True
