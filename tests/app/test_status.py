"""``status``: the night so far, from the ledger."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from app.commands.status import status
from models.events import BUTLER_WRITER, OutboxMessage
from models.outcomes import Result, Timings, VisitOutcome
from repos.ledger import Ledger
from repos.ledger_database import LedgerLock, create_ledger_engine
from repos.outbox import Outbox
from simulator.servers.postgresql import PostgreSQLServer
from tests.repos.test_ledger import DAY, make_visit
from tests.servers import unique_name

PROCESSED = VisitOutcome(
    result=Result.PROCESSED,
    pipeline="ApPipe",
    outputs=9,
    alerts=4,
    timings=Timings(preload=1.26, total=12.0, image_to_alert=3.04),
)
FAILED = VisitOutcome(result=Result.FAILED, title="NoImageArrived", detail="no image\narrived")


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(status)
    return app


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.sqlite3"
    ledger = Ledger(create_ledger_engine(f"sqlite:///{path}"))
    ledger.claim(make_visit("old"), "d", DAY - 1)
    for detector in range(3):
        ledger.claim(make_visit("g1", detector), "d", DAY)
    message = OutboxMessage(BUTLER_WRITER, "t", None, b"{}")
    ledger.finish(make_visit("g1", 0), "d", DAY, PROCESSED, [message])
    ledger.finish(make_visit("g1", 1), "d", DAY, FAILED)
    return path


@pytest.mark.servers
def test_a_ledger_on_a_server(app: typer.Typer, postgresql: PostgreSQLServer) -> None:
    url = postgresql.create_database(unique_name("ledger"))
    Ledger(create_ledger_engine(f"{url}?schema=night")).finish(make_visit("g1", 0), "d", DAY, PROCESSED)
    code, text = run(app, "--ledger", f"{url}?schema=night")
    assert code == 0
    assert "9 outputs, 4 alerts" in text
    code, text = run(app, "--ledger", url)
    assert code == 1
    assert "it has no tables" in text


def run(app: typer.Typer, *arguments: object, **env: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments], env=env or None)
    return result.exit_code, result.output


def test_the_last_night(app: typer.Typer, file: Path) -> None:
    code, output = run(app, "--ledger", file)
    assert code == 0
    summary, waiting, head, *rows = output.splitlines()
    assert (
        summary == f"Night {DAY}: 3 visit-detectors (1 failed, 1 processed, 1 running), 9 outputs, 4 alerts"
    )
    assert waiting == "1 messages of kind butler-writer wait to be sent"
    assert head.split("\t")[:4] == ["started", "group", "detector", "state"]
    cells = {row.split("\t")[2]: row.split("\t")[3:] for row in rows}
    assert cells == {
        "0": ["processed", "1", "ApPipe", "1.3", "12.0", "3.0", "9", "4", ""],
        "1": ["failed", "1", "", "", "", "", "0", "0", "no image arrived"],
        "2": ["running", "1", "", "", "", "", "", "", ""],
    }


def test_messages_that_a_broker_refused(app: typer.Typer, file: Path) -> None:
    outbox = Outbox(create_ledger_engine(f"sqlite:///{file}"))
    (stored,) = outbox.lease(BUTLER_WRITER, "t", limit=9, seconds=60)
    outbox.refuse(stored.id, "too large")
    _, output = run(app, "--ledger", file)
    assert output.splitlines()[1] == (
        "1 messages of kind butler-writer were refused and are set aside; "
        "`prompt-processing outbox list` says why"
    )
    data = json.loads(run(app, "--ledger", file, "--json")[1])
    assert (data["waiting"], data["refused"]) == ({}, {"butler-writer": 1})


def test_another_night(app: typer.Typer, file: Path) -> None:
    _, output = run(app, "--ledger", f"sqlite:///{file}", "--day", DAY - 1)
    assert output.startswith(f"Night {DAY - 1}: 1 visit-detectors (1 running)")
    _, output = run(app, "--ledger", file, "--day", DAY + 1)
    assert output.startswith(f"Night {DAY + 1}: 0 visit-detectors (none)")


def test_only_what_went_wrong(app: typer.Typer, file: Path) -> None:
    _, output = run(app, "--ledger", file, "--errors")
    assert [line.split("\t")[3] for line in output.splitlines()[3:]] == ["failed"]


def test_no_more_than_asked_for(app: typer.Typer, file: Path) -> None:
    assert [len(run(app, "--ledger", file, "--limit", n)[1].splitlines()) for n in (0, 1, 2)] == [6, 4, 5]


def test_json(app: typer.Typer, file: Path) -> None:
    _, output = run(app, "--ledger", file, "--json")
    data = json.loads(output)
    assert data["day_obs"] == DAY
    assert data["waiting"] == {"butler-writer": 1}
    processed = next(v for v in data["visits"] if v["state"] == "processed")
    assert VisitOutcome.model_validate(processed["outcome"]) == PROCESSED


def test_while_a_service_runs(app: typer.Typer, file: Path) -> None:
    lock = LedgerLock(f"sqlite:///{file}")
    lock.acquire()
    with create_ledger_engine(f"sqlite:///{file}").begin():
        assert run(app, "--ledger", file)[0] == 0
    lock.release()


def test_the_settings_say_where(app: typer.Typer, file: Path) -> None:
    code, output = run(app, PP_STATE_DIR=str(file.parent), PP_LEDGER_URL=f"sqlite:///{file}")
    assert code == 0
    assert output.startswith(f"Night {DAY}")


def test_no_visits_yet(app: typer.Typer, tmp_path: Path) -> None:
    create_ledger_engine(f"sqlite:///{tmp_path}/l")
    assert run(app, "--ledger", tmp_path / "l") == (0, "There are no visits yet.\n")


@pytest.mark.parametrize("name", ["nowhere", "broken"])
def test_no_ledger(app: typer.Typer, tmp_path: Path, name: str) -> None:
    (tmp_path / "broken").write_bytes(b"x" * 4096)
    code, output = run(app, "--ledger", tmp_path / name)
    assert code == 1
    assert "ledger" in output
    assert "Traceback" not in output
