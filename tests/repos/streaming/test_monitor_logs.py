"""Logs on their way to the monitor."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from models.errors import InvalidMessage, TemporarilyUnavailable
from repos.streaming import monitor_logs
from repos.streaming.monitor_http import MonitorHttp
from repos.streaming.monitor_logs import HttpLogSink, MonitorLogHandler, StoreLogSink
from tests.repos.streaming.monitors import FieldMonitor, our_monitor, served


class _Sink:
    """Keeps lines, when it is well and the gate is open."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.batches = 0
        self.failures: list[Exception] = []
        self.gate = threading.Event()
        self.gate.set()

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        assert self.gate.wait(60)
        if self.failures:
            raise self.failures.pop(0)
        self.batches += 1
        self.rows.extend(rows)


Make = Callable[..., tuple[logging.Logger, MonitorLogHandler]]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    monkeypatch.setattr(monitor_logs, "_PAUSE", 0.01)
    monkeypatch.setattr(monitor_logs, "_COMPANY", 0.01)
    logger = logging.getLogger("tests.monitor_logs")
    logger.setLevel(logging.DEBUG)
    handlers: list[MonitorLogHandler] = []

    def make_one(sink: Any, **options: Any) -> tuple[logging.Logger, MonitorLogHandler]:
        handler = MonitorLogHandler(sink, instance_name="data-agent-alice-1", **options)
        handlers.append(handler)
        logger.addHandler(handler)
        handler.start()
        return logger, handler

    yield make_one
    for handler in handlers:
        logger.removeHandler(handler)
        handler.stop(5)


def test_lines_have_the_fields(make: Make) -> None:
    sink = _Sink()
    log, handler = make(sink)
    about = {"run_id": "100010", "execution_id": "e-2", "username": "alice", "secret": "x"}
    log.info("registered %d files", 3, extra=about)
    log.debug("too quiet")
    log.warning("plain \0 \ud800")
    assert handler.drain(5)
    first, second = sink.rows
    assert first["message"] == "registered 3 files"
    assert (first["app_name"], first["instance_name"]) == ("base_agent", "data-agent-alice-1")
    assert (first["level"], first["levelname"]) == (20, "INFO")
    assert first["extra_data"] == {"execution_id": "e-2", "run_id": "100010", "username": "alice"}
    assert first["timestamp"].tzinfo is not None
    assert first["funcname"] == "test_lines_have_the_fields"
    assert second["extra_data"] is None and second["message"] == "plain \ufffd ?"


def test_a_traceback_is_part_of_the_message(make: Make) -> None:
    sink = _Sink()
    log, handler = make(sink)
    try:
        raise ValueError("no good")
    except ValueError:
        log.exception("it broke")
    assert handler.drain(5)
    assert "it broke\nTraceback" in sink.rows[0]["message"] and "no good" in sink.rows[0]["message"]


def test_nobody_waits_and_what_is_too_much_is_counted(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor_logs, "_WAITING", 5)
    sink = _Sink()
    sink.gate.clear()
    log, handler = make(sink)
    for number in range(8):
        log.info("line %d", number)
    assert handler.dropped == 3
    sink.gate.set()
    assert handler.drain(5)
    assert [row["message"] for row in sink.rows] == [f"line {number}" for number in range(5)]


def test_lines_wait_while_the_monitor_is_away(make: Make) -> None:
    sink = _Sink()
    sink.failures = [TemporarilyUnavailable("away"), TemporarilyUnavailable("away")]
    log, handler = make(sink)
    log.info("one")
    log.info("two")
    assert handler.drain(5)
    assert [row["message"] for row in sink.rows] == ["one", "two"] and handler.dropped == 0


@pytest.mark.parametrize("error", [InvalidMessage("no"), ValueError("what")])
def test_lines_that_are_refused_hold_up_no_others(make: Make, error: Exception) -> None:
    sink = _Sink()
    sink.failures = [error]
    log, handler = make(sink)
    log.info("refused")
    assert handler.drain(5)
    log.info("taken")
    assert handler.drain(5)
    assert [row["message"] for row in sink.rows] == ["taken"] and handler.dropped == 1


def test_at_the_end_what_waits_is_sent_or_counted(make: Make) -> None:
    sink = _Sink()
    log, handler = make(sink)
    log.info("sent")
    handler.stop(5)
    assert len(sink.rows) == 1
    log.info("too late")
    away = _Sink()
    away.failures = [TemporarilyUnavailable("away")] * 1000
    log, handler = make(away)
    log.info("lost")
    handler.stop(5)
    assert handler.dropped == 1


def test_who_carries_lines_is_not_listened_to(make: Make) -> None:
    sink = _Sink()
    _, handler = make(sink)
    for name in ("httpx", "httpcore.http11", "repos.streaming.monitor_logs"):
        handler.handle(logging.LogRecord(name, logging.ERROR, "x.py", 1, "sent", None, None))
    assert handler.drain(5) and sink.rows == []


def test_into_the_store_and_over_http(make: Make, tmp_path: Path) -> None:
    app, store = our_monitor(tmp_path)
    log, handler = make(StoreLogSink(store.logs), app_name="testbed")
    log.error("in the process", extra={"execution_id": "e"})
    assert handler.drain(5)
    log.removeHandler(handler)
    with served(app) as url:
        # Logs need no token.
        log, handler = make(HttpLogSink(MonitorHttp(url)))
        log.error("one", extra={"execution_id": "e"})
        log.error("two", extra={"execution_id": "e"})
        assert handler.drain(5) and handler.dropped == 0
    lines = store.logs.listed(execution_id="e").items
    assert {line["message"] for line in lines} == {"in the process", "one", "two"}
    assert store.logs.listed(app_name="testbed").total == 1


def test_one_by_one_where_lists_are_not_taken(make: Make) -> None:
    field = FieldMonitor()
    with served(field.app) as url:
        log, handler = make(HttpLogSink(MonitorHttp(url)))
        log.info("one")
        log.info("two")
        assert handler.drain(5)
        log.info("three")
        assert handler.drain(5)
    assert [line["message"] for line in field.logs] == ["one", "two", "three"]
    assert field.logs[0]["timestamp"].endswith("+00:00")
