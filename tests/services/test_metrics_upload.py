"""Upload of metrics: beside the visits, and harmless."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from models.errors import TemporarilyUnavailable
from models.metrics import MeasuredBundle
from services.metrics_upload import MetricsUpload

BUNDLE = MeasuredBundle(
    id="0", dataset_type="m", run="r", data_id={}, values={"a": {"x": 1.0}}, unix_time=0.0
)


class Server:
    """Takes metrics, when it is let."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.fails: Exception | None = None
        self.refuses: set[str] = set()
        self.asked = threading.Event()
        self.open = threading.Event()
        self.open.set()
        self.closed = False

    def send(self, bundle: MeasuredBundle) -> None:
        self.asked.set()
        self.open.wait()
        self.got.append(bundle.id)
        if self.fails is not None:
            raise self.fails
        if bundle.id in self.refuses:
            raise TemporarilyUnavailable("away")

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.open.set()


def bundles(*ids: str) -> list[MeasuredBundle]:
    return [replace(BUNDLE, id=i) for i in ids]


def test_in_order_and_once(server: Server) -> None:
    upload = MetricsUpload(server)
    upload.start()
    upload.offer(bundles("a", "b"))
    upload.offer(bundles("c"))
    upload.stop()
    assert server.got == ["a", "b", "c"]
    assert server.closed
    assert (upload.trouble, upload.lost) == (None, 0)


def test_nobody_waits_for_a_slow_server(server: Server) -> None:
    server.open.clear()
    upload = MetricsUpload(server, capacity=2)
    upload.start()
    upload.offer(bundles(*"abcdefgh"))
    # One may be with the server, two wait.
    assert upload.lost in (5, 6)
    assert upload.trouble == "more metrics wait than can be kept"
    server.open.set()
    upload.stop()
    # In order; the thread that sends may have begun at any of them.
    assert server.got[:2] == ["a", "b"]
    assert server.got == sorted(server.got) and len(server.got) == 8 - upload.lost


def test_a_server_that_hangs_does_not_hold_the_service(server: Server) -> None:
    server.open.clear()
    upload = MetricsUpload(server)
    upload.start()
    upload.offer(bundles("a"))
    upload.stop(timeout=0.05)
    assert server.closed


def test_the_end_is_waited_for_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.open.clear()
    upload = MetricsUpload(server, capacity=1)
    upload.start()
    (thread,) = [t for t in threading.enumerate() if t.name == "metrics-upload"]
    upload.offer(bundles("a"))
    assert server.asked.wait(60)
    upload.offer(bundles("b"))
    waited: list[float | None] = []
    monkeypatch.setattr(threading.Thread, "join", lambda _, timeout=None: waited.append(timeout))
    upload.stop(timeout=0.05)
    monkeypatch.undo()
    # That time went into waiting for room already.
    assert waited == [0.0]
    server.open.set()
    thread.join()


@pytest.mark.parametrize("error", [TemporarilyUnavailable("Sasquatch is away"), RuntimeError("what?")])
def test_what_is_not_taken_is_lost_and_told_once(
    server: Server, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    server.fails = error
    upload = MetricsUpload(server)
    upload.start()
    upload.offer(bundles("a", "b", "c"))
    upload.stop()
    assert server.got == ["a", "b", "c"]
    assert upload.lost == 3
    assert upload.trouble is not None and str(error) in upload.trouble
    assert [r.levelno for r in caplog.records if r.levelno >= logging.WARNING] == [logging.ERROR]


def test_recovery_is_told(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.refuses = {"a"}
    upload = MetricsUpload(server)
    upload.start()
    upload.offer(bundles("a", "b"))
    upload.stop()
    assert upload.trouble is None
    assert "Metrics are taken again; 1 bundles were lost so far." in caplog.text


def test_never_started(server: Server) -> None:
    MetricsUpload(server).stop()
    assert server.closed
