"""JSON logs: fields, labels, threads, forks, middleware."""

from __future__ import annotations

import io
import json
import logging
import multiprocessing
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from app.logging import JsonFormatter, add_exposures, configure_logging, log_labels, visit_labels
from models.visits import SummitVisit
from tests.repos.test_ledger import make_visit

FIELDS = {"asctime", "level", "message", "name", "funcName", "lineno", "pathname", "process", "thread"}
LEVELS = {"": logging.WARNING, "services": logging.DEBUG, "lsst": logging.INFO}


class Lines(io.StringIO):
    """A stream of which the lines can be read as JSON."""

    def parsed(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


@pytest.fixture
def lines() -> Iterator[Lines]:
    before = {name: logging.getLogger(name).level for name in LEVELS if name}
    stream = Lines()
    configure_logging(LEVELS, stream=stream)
    yield stream
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def test_a_line_has_exactly_these_fields(lines: Lines) -> None:
    logging.getLogger("services.x").info("hello %s", "world")
    (line,) = lines.parsed()
    assert set(line) == FIELDS
    assert line["level"] == "INFO"
    assert line["message"] == "hello world"
    assert line["name"] == "services.x"
    assert line["funcName"] == "test_a_line_has_exactly_these_fields"
    assert line["pathname"] == __file__
    assert (line["process"], line["thread"]) == (os.getpid(), threading.get_ident())


def test_levels(lines: Lines) -> None:
    for name in ("services", "lsst.x", "other"):
        for level in (logging.DEBUG, logging.INFO, logging.WARNING):
            logging.getLogger(name).log(level, name)
    levels = [(line["name"], line["level"]) for line in lines.parsed()]
    assert levels == [
        ("services", "DEBUG"),
        ("services", "INFO"),
        ("services", "WARNING"),
        ("lsst.x", "INFO"),
        ("lsst.x", "WARNING"),
        ("other", "WARNING"),
    ]


@pytest.mark.parametrize(("level", "name"), [(15, "VERBOSE"), (5, "TRACE")])
def test_the_middlewares_levels_have_names(lines: Lines, level: int, name: str) -> None:
    logger = logging.getLogger("services.levels")
    logger.setLevel(1)
    logger.log(level, "x")
    assert [line["level"] for line in lines.parsed()] == [name]


def test_labels_of_a_visit(lines: Lines) -> None:
    log = logging.getLogger("services")
    log.info("before")
    with visit_labels(make_visit(), day_obs=20250401):
        log.info("within")
        add_exposures([12])
        add_exposures([12, 13])
        log.info("later")
    log.info("after")
    before, within, later, after = lines.parsed()
    labels = {"instrument": "DemoCam", "day_obs": 20250401, "group": "g1", "survey": "deep", "detector": 3}
    assert set(before) == FIELDS
    assert {k: within[k] for k in within.keys() - FIELDS} == labels
    assert {k: later[k] for k in later.keys() - FIELDS} == labels | {"exposures": [12, 13]}
    assert set(after) == FIELDS


def test_what_is_not_known_is_no_label(lines: Lines) -> None:
    whole = SummitVisit.model_validate(make_visit().model_dump())
    with visit_labels(whole):
        logging.getLogger("services").info("x")
    (line,) = lines.parsed()
    assert set(line) - FIELDS == {"instrument", "group", "survey"}


def test_labels_nest_and_never_hide_fields(lines: Lines) -> None:
    with log_labels({"group": "outer", "message": "label"}):
        with log_labels({"group": "inner"}):
            logging.getLogger("services").info("one")
        logging.getLogger("services").info("two")
    assert [(line["group"], line["message"]) for line in lines.parsed()] == [
        ("inner", "one"),
        ("outer", "two"),
    ]


def test_threads_keep_their_own_labels(lines: Lines) -> None:
    together = threading.Barrier(8)

    def work(detector: int) -> None:
        with visit_labels(make_visit(detector=detector)):
            together.wait()
            add_exposures([100 + detector])
            together.wait()
            logging.getLogger("services").info("%d", detector)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = sorted((int(line["message"]), line["detector"], line["exposures"]) for line in lines.parsed())
    assert found == [(n, n, [100 + n]) for n in range(8)]


def test_a_forked_process_logs_alike(capfd: pytest.CaptureFixture[str], lines: Lines) -> None:
    configure_logging(LEVELS, stream=open(os.dup(2), "w"))  # noqa: SIM115 (closed with the handler)

    def child() -> None:
        with visit_labels(make_visit(detector=9)):
            logging.getLogger("lsst.task").info("in a slot")

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    # Python 3.12 and later warn of forks beside threads, in a line like any other.
    written = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    found = [line for line in written if line["name"] != "py.warnings"]
    assert [(line["message"], line["detector"], line["process"]) for line in found] == [
        ("in a slot", 9, process.pid)
    ]


def test_exceptions_are_a_field(lines: Lines) -> None:
    try:
        raise RuntimeError("broken\nin two lines")
    except RuntimeError:
        logging.getLogger("services").exception("failed")
    logging.getLogger("services").info("nothing", exc_info=True)  # noqa: LOG014 (the point)
    failed, nothing = lines.parsed()
    assert failed["message"] == "failed"
    assert failed["exception"].startswith("Traceback")
    assert "broken\nin two lines" in failed["exception"]
    assert "exception" not in nothing


def test_a_wrong_call_still_gives_a_line() -> None:
    record = logging.LogRecord("services", logging.INFO, __file__, 1, "%d %d", ("x",), None)
    line = json.loads(JsonFormatter().format(record))
    assert "'%d %d'" in line["message"]


@pytest.mark.parametrize(
    "value",
    ["new\nline", "\ud800", "\x00", '"', "é", object()],
    ids=["lines", "surrogate", "null", "quote", "letter", "object"],
)
def test_any_value_is_one_line(value: object) -> None:
    record = logging.LogRecord("services", logging.INFO, __file__, 1, "%s", (value,), None)
    with log_labels({"group": value}):
        text = JsonFormatter().format(record)
    assert "\n" not in text
    line = json.loads(text)
    assert line["message"] == str(value)
    assert line["group"] == str(value)


def test_warnings_and_uncaught_errors_are_lines(lines: Lines) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("careful", stacklevel=1)

    def fail() -> None:
        raise RuntimeError("in a thread")

    thread = threading.Thread(target=fail, name="worker")
    # Pytest has a hook of its own.
    thread.start()
    thread.join()
    sys.excepthook(RuntimeError, RuntimeError("at the top"), None)
    warning, in_thread, top = lines.parsed()
    assert warning["name"] == "py.warnings"
    assert "careful" in warning["message"]
    assert in_thread["message"] == "Uncaught RuntimeError in worker."
    assert "in a thread" in in_thread["exception"]
    assert top["message"] == "Uncaught RuntimeError: at the top"


def test_the_middlewares_own_capture_goes_on(lines: Lines) -> None:
    butler_logging = pytest.importorskip("lsst.daf.butler.logging")
    handler = butler_logging.ButlerLogRecordHandler()
    task_log = logging.getLogger("lsst.isr")
    task_log.addHandler(handler)
    try:
        with butler_logging.ButlerMDC.set_mdc({"LABEL": "isr"}), visit_labels(make_visit()):
            task_log.info("flattened")
    finally:
        task_log.removeHandler(handler)
    assert [record.message for record in handler.records] == ["flattened"]
    (line,) = lines.parsed()
    assert (line["message"], line["group"]) == ("flattened", "g1")
