"""``outbox``: messages that wait, put back or thrown away by hand."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.commands.outbox import outbox
from models.errors import InvalidConfiguration
from models.events import ALERT, BUTLER_WRITER, OutboxMessage
from models.outcomes import Result, VisitOutcome
from models.streaming.bus import STOMP
from repos.ledger import Ledger
from repos.ledger_database import create_ledger_engine, writing
from repos.outbox import Outbox
from repos.streaming.database import create_streaming_engine
from repos.streaming.tables import OUTBOX
from tests.repos.test_ledger import DAY, DEPLOYMENT, make_visit

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A ledger with one message that waits, and three that were refused."""
    file = tmp_path / "ledger.sqlite3"
    engine = create_ledger_engine(f"sqlite:///{file}")
    messages = [
        OutboxMessage(BUTLER_WRITER, "writer", None, b"{}"),
        *(OutboxMessage(ALERT, f"alerts-{n}", "77", b"%d" % n) for n in range(3)),
    ]
    visit, result = make_visit("g1", 3), VisitOutcome(result=Result.PROCESSED)
    Ledger(engine).finish(visit, DEPLOYMENT, DAY, result, messages)
    store = Outbox(engine)
    for stored in store.pending(kind=ALERT):
        store.refuse(stored.id, "MessageSizeTooLargeError:\nmore than 5 bytes")
    engine.dispose()
    return file


def run(*arguments: object, answer: str | None = None, **env: str) -> tuple[int, str]:
    given = CliRunner().invoke(outbox, [str(a) for a in arguments], input=answer, env=env or None)
    return given.exit_code, given.output


def states(ledger: Path) -> list[str]:
    code, text = run("list", "--database", ledger, "--json")
    assert code == 0
    return [message["state"] for message in json.loads(text)["messages"]]


def test_what_is_there(ledger: Path) -> None:
    code, text = run("list", "--database", ledger)
    assert code == 0
    head, first, second, *_, count = text.splitlines()
    assert head.split("\t") == ["id", "state", "stored", "kind", "topic", "bytes", "of", "reason"]
    assert first.split("\t")[0:2] == ["1", "waiting"]
    assert first.split("\t")[3:] == ["butler-writer", "writer", "2", "DemoCam g1 3", ""]
    # A row is a line.
    assert second.endswith("MessageSizeTooLargeError: more than 5 bytes")
    assert count == "4 messages."


def test_part_of_what_is_there(ledger: Path) -> None:
    code, text = run("list", "--database", ledger, "--state", "refused", "--limit", 2)
    assert code == 0
    assert [line.partition("\t")[0] for line in text.splitlines()[:-1]] == ["id", "2", "3"]
    assert text.splitlines()[-1] == "3 messages, of which 2 are listed."
    assert run("list", "--database", ledger, "--topic", "none") == (0, "0 messages.\n")


def test_as_json(ledger: Path) -> None:
    code, text = run("list", "--database", ledger, "--json", "--kind", ALERT, "--limit", 1)
    assert code == 0
    found = json.loads(text)
    assert found["count"] == 3
    (message,) = found["messages"]
    assert message.pop("created").endswith("+00:00")
    assert message == {
        "id": 2,
        "state": "refused",
        "kind": ALERT,
        "topic": "alerts-0",
        "key": "77",
        "bytes": 1,
        "of": "DemoCam g1 3",
        "reason": "MessageSizeTooLargeError:\nmore than 5 bytes",
    }


@pytest.mark.parametrize("by", ["settings", "variable"])
def test_the_ledger_of_the_service(ledger: Path, tmp_path: Path, by: str) -> None:
    if by == "variable":
        assert run("list", PP_LEDGER_URL=f"sqlite:///{ledger}")[1].endswith("4 messages.\n")
        return
    settings = tmp_path / "settings.yaml"
    settings.write_text(f"PP_LEDGER_URL: sqlite:///{ledger}\n")
    assert run("list", "--settings", settings)[1].endswith("4 messages.\n")


def test_one_refused_message_is_put_back(ledger: Path) -> None:
    assert run("requeue", "--database", ledger, 3) == (0, "1 message will be sent again.\n")
    assert states(ledger) == ["waiting", "refused", "waiting", "refused"]
    code, text = run("requeue", "--database", ledger, 1, 2)
    assert code == 1
    assert text == "1 message will be sent again.\n1 message of those named: not there, or not refused.\n"


def test_all_of_a_topic_or_all_at_once_are_put_back(ledger: Path) -> None:
    assert run("requeue", "--database", ledger, "--topic", "alerts-1")[1].startswith("1 message will")
    assert run("requeue", "--database", ledger, "--all") == (0, "2 messages will be sent again.\n")
    assert run("requeue", "--database", ledger, "--all") == (0, "0 messages will be sent again.\n")
    assert set(states(ledger)) == {"waiting"}


def test_throwing_away_asks_first(ledger: Path) -> None:
    code, text = run("drop", "--database", ledger, "--all", answer="n\n")
    assert code == 1
    assert "Throw away 3 messages, for good?" in text
    # Nobody is there to ask.
    assert run("drop", "--database", ledger, "--all")[0] == 1
    assert len(states(ledger)) == 4
    code, text = run("drop", "--database", ledger, "--all", answer="y\n")
    assert (code, text.splitlines()[-1]) == (0, "3 messages thrown away.")
    assert states(ledger) == ["waiting"]


def test_what_waits_is_thrown_away_only_if_that_is_said(ledger: Path) -> None:
    assert (
        run("drop", "--database", ledger, "--kind", BUTLER_WRITER, "--yes")[1] == "0 messages thrown away.\n"
    )
    code, text = run("drop", "--database", ledger, "--kind", BUTLER_WRITER, "--state", "waiting", "--yes")
    assert (code, text.splitlines()[-1]) == (0, "1 message thrown away.")
    assert run("drop", "--database", ledger, 4, "--yes")[0] == 0
    assert states(ledger) == ["refused", "refused"]
    code, text = run("drop", "--database", ledger, 4, "--yes")
    assert (code, text.splitlines()[-1]) == (1, "1 message of those named: not there.")


def test_what_is_thrown_away_may_be_kept(ledger: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept" / "here"
    code, text = run("drop", "--database", ledger, "--all", "--yes", "--save", kept)
    assert (code, text.splitlines()[-1]) == (0, f"3 messages thrown away, saved in {kept}.")
    assert {file.name: file.read_bytes() for file in kept.iterdir()} == {
        "message-2": b"0",
        "message-3": b"1",
        "message-4": b"2",
    }


def test_what_cannot_be_saved_is_not_thrown_away(ledger: Path) -> None:
    code, text = run("drop", "--database", ledger, "--all", "--yes", "--save", ledger / "below-a-file")
    assert code == 1
    assert "nothing is thrown away" in text
    assert len(states(ledger)) == 4


@pytest.mark.parametrize("command", ["requeue", "drop"])
@pytest.mark.parametrize("chosen", [[], ["--all", 3]])
def test_nobody_means_everything_by_mistake(ledger: Path, command: str, chosen: list[object]) -> None:
    code, _ = run(command, "--database", ledger, *chosen)
    assert code == 2
    assert states(ledger) == ["waiting", "refused", "refused", "refused"]


def test_agents_of_the_streaming_workflow(tmp_path: Path) -> None:
    engine = create_streaming_engine(f"sqlite:///{tmp_path}/data-agent.db")
    row = {"kind": STOMP, "topic": "/topic/epictopic", "key": "data.ns", "payload": b"{}", "created": NOW}
    with writing(engine) as connection:
        connection.execute(OUTBOX.insert(), [row, {**row, "refused": "too large"}])
    engine.dispose()
    code, text = run("list", "--agent", "data", PP_TESTBED_DIRECTORY=str(tmp_path))
    assert code == 0
    waiting = ["1", "waiting", "2026-03-01 00:00:00", "stomp", "/topic/epictopic", "2", "data.ns", ""]
    assert text.splitlines()[1].split("\t") == waiting
    assert run("requeue", "--all", "--agent", "data", PP_TESTBED_DIRECTORY=str(tmp_path))[0] == 0
    code, text = run("list", "--agent", "data", "--database", tmp_path / "data-agent.db", "--json")
    assert [m["state"] for m in json.loads(text)["messages"]] == ["waiting", "waiting"]


def test_there_is_no_such_database(tmp_path: Path) -> None:
    for arguments in (["--agent", "processing"], ["--database", tmp_path / "none.db"]):
        given = CliRunner().invoke(
            outbox, ["list", *map(str, arguments)], env={"PP_TESTBED_DIRECTORY": str(tmp_path)}
        )
        assert isinstance(given.exception, InvalidConfiguration)
    assert list(tmp_path.iterdir()) == []
