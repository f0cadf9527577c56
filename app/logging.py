"""Logs: one JSON object a line, labelled with the visit it is about.

Every module, task and library logs with the standard `logging`; what is
particular happens in the one handler of the root logger. The labels are those
of the present context (`contextvars`), so that threads which process
different visits do not mix them up. Only new threads start without labels.
"""

from __future__ import annotations

__all__ = ["JsonFormatter", "add_exposures", "configure_logging", "log_labels", "visit_labels"]

import json
import logging
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType, TracebackType
from typing import Any, TextIO

from stamina.instrumentation import LoggingOnRetryHook, set_on_retry_hooks

from config.values import LOG_LEVELS
from models.visits import NextVisit

#: Labels of the present context, in the order in which they were set.
_labels: ContextVar[Mapping[str, object]] = ContextVar("log_labels", default=MappingProxyType({}))

#: Loggers of which only errors are heard unless their level is set: what they
#: warn of (a package manager that nobody uses is not there) is no trouble.
_NOISY = ("lsst.utils.packages",)

_log = logging.getLogger(__name__)


class JsonFormatter(logging.Formatter):
    """Makes a line of JSON of a record, with the labels of the context."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end.

        Never raises: a call to the log that is wrong still gives a line.
        """
        line: dict[str, object] = {
            "asctime": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "message": _message(record),
            "name": record.name,
            "funcName": record.funcName,
            "lineno": record.lineno,
            "pathname": record.pathname,
            "process": record.process,
            "thread": record.thread,
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = self.formatException(record.exc_info)
        elif record.exc_text:
            line["exception"] = record.exc_text
        if record.stack_info:
            line["stack"] = record.stack_info
        # A label cannot stand in for what the line itself says.
        return json.dumps({**_labels.get(), **line}, default=str)


def configure_logging(levels: Mapping[str, int], *, stream: TextIO | None = None) -> None:
    """Send all logs of this process, and of those it forks, to one stream.

    Parameters
    ----------
    levels : mapping [`str`, `int`]
        Levels by logger, "" for the root; see
        `config.settings.ServiceSettings.log_levels`.
    stream : file, optional
        Where lines go; standard error by default.
    """
    # The middleware names these when it is imported, which is not everywhere.
    for name in ("VERBOSE", "TRACE"):
        logging.addLevelName(LOG_LEVELS[name], name)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    for logger, level in {**dict.fromkeys(_NOISY, logging.ERROR), **levels}.items():
        logging.getLogger(logger or None).setLevel(level)
    logging.captureWarnings(True)
    # Retries would go to standard output in another format.
    set_on_retry_hooks([LoggingOnRetryHook])
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


@contextmanager
def log_labels(labels: Mapping[str, object]) -> Iterator[None]:
    """Label all lines of the log within the context; `None` is left out."""
    given = {name: value for name, value in labels.items() if value is not None}
    token = _labels.set({**_labels.get(), **given})
    try:
        yield
    finally:
        _labels.reset(token)


@contextmanager
def visit_labels(visit: NextVisit, *, day_obs: int | None = None) -> Iterator[None]:
    """Label all lines of the log within the context with a visit.

    Parameters
    ----------
    visit : `models.visits.NextVisit`
        The visit, of one detector or of all.
    day_obs : `int`, optional
        Day of observation, fixed when the visit was begun, YYYYMMDD.
    """
    labels = {
        "instrument": visit.instrument,
        "day_obs": day_obs,
        "group": visit.groupId,
        "survey": visit.survey,
        "detector": getattr(visit, "detector", None),
    }
    with log_labels(labels):
        yield


def add_exposures(exposures: Iterable[int]) -> None:
    """Label all further lines with exposures, until the visit's context ends."""
    labels = _labels.get()
    known = labels.get("exposures")
    before = known if isinstance(known, list) else []
    _labels.set({**labels, "exposures": [*dict.fromkeys([*before, *exposures])]})


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:
        return f"{record.msg!r} % {record.args!r} ({type(error).__name__}: {error})"


def _log_uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    _log.critical("Uncaught %s: %s", kind.__name__, error, exc_info=(kind, error, traceback))


def _log_uncaught_in_thread(arguments: Any) -> None:
    if arguments.exc_value is not None:
        name = arguments.thread.name if arguments.thread else "a thread"
        exc_info = (arguments.exc_type, arguments.exc_value, arguments.exc_traceback)
        _log.critical("Uncaught %s in %s.", arguments.exc_type.__name__, name, exc_info=exc_info)
