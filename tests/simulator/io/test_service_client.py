"""What became of a visit, as the service tells it."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import unquote

import pytest

from app.web.schemas import VisitReport
from models.ledger import RUNNING, VisitRecord
from models.outcomes import Result, VisitOutcome
from models.visits import FannedOutVisit
from simulator.io.service_client import is_ready, look_up_visit
from tests.visits import make_visit

NOW = datetime(2026, 11, 21, tzinfo=UTC)


class Server(http.server.ThreadingHTTPServer):
    """Knows visits by path; is ready when told so."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.visits: dict[str, bytes] = {}
        self.ready = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        body = self.server.visits.get(unquote(self.path), b"")
        found = 200 if body else 404
        self.send_response(self.server.ready if self.path == "/ready" else found)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def visit() -> FannedOutVisit:
    # As a camera may name its groups.
    return make_visit(groupId="2026-11-21T00:00:00.000 #1?/a", detector=7)


def know(server: Server, visit: FannedOutVisit, outcome: VisitOutcome | None, attempts: int = 1) -> None:
    """Let the service know a visit, in its own words."""
    record = VisitRecord(
        visit=visit,
        deployment_id="d1",
        day_obs=20261121,
        state=RUNNING if outcome is None else outcome.result,
        attempts=attempts,
        owner="host",
        created=NOW,
        started=NOW,
        finished=None if outcome is None else NOW,
        outcome=outcome,
    )
    path = f"/api/visits/{visit.instrument}/{visit.groupId}/{visit.detector}"
    server.visits[path] = VisitReport.of(record).model_dump_json().encode()


def test_unknown_and_running_visits_have_no_answer(server: Server, visit: FannedOutVisit) -> None:
    assert look_up_visit(server.url, visit) is None
    know(server, visit, None)
    assert look_up_visit(server.url, visit) is None


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (Result.PROCESSED, 200),
        (Result.FAILED, 500),
        (Result.NOT_RETRIABLE, 500),
        (Result.INTERRUPTED, 503),
    ],
)
def test_result(server: Server, visit: FannedOutVisit, result: Result, status: int) -> None:
    know(server, visit, VisitOutcome(result=result, detail="so it was", outputs=5, alerts=3), attempts=2)
    # A slash at the end of the service's address does no harm.
    answer = look_up_visit(f"{server.url}/", visit)
    assert answer is not None
    assert (answer.status, answer.attempts) == (status, 2)
    assert (answer.body["detail"], answer.body["outputs"], answer.body["alerts"]) == ("so it was", 5, 3)


def test_the_detector_counts(server: Server, visit: FannedOutVisit) -> None:
    know(server, visit, VisitOutcome(result=Result.PROCESSED))
    assert look_up_visit(server.url, visit.model_copy(update={"detector": 8})) is None


def test_ready(server: Server) -> None:
    assert is_ready(server.url)
    server.ready = 503
    assert not is_ready(server.url)


def test_a_service_that_is_not_there(server: Server, visit: FannedOutVisit) -> None:
    server.server_close()
    assert look_up_visit(server.url, visit) is None
    assert not is_ready(server.url)
