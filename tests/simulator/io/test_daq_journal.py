"""The data acquisition's journal on disk."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from models.errors import InvalidConfiguration, TemporarilyUnavailable
from models.streaming.bus import ReceivedMessage
from models.streaming.messages import COMMAND_QUEUE, RUN_TOPIC
from simulator.daq.journal import DaqJournal, NoJournal, RunRecord
from simulator.daq.progress import Progress
from simulator.io.daq_journal import SqliteDaqJournal, open_daq_journal

RECORD = RunRecord(
    execution_id="prompt_processing-alice-0001",
    namespace="test-user",
    sender="daq",
    workflow="{}",
    start_time=datetime(2026, 3, 14, tzinfo=UTC),
)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqliteDaqJournal]:
    journal = SqliteDaqJournal(tmp_path / "a.journal")
    yield journal
    journal.close()


def command(message_id: str | None = "ID:1", text: str = "{}") -> ReceivedMessage:
    return ReceivedMessage(COMMAND_QUEUE, text, message_id)


def test_messages_wait_in_their_order(journal: SqliteDaqJournal) -> None:
    numbers = [journal.post(RUN_TOPIC, text) for text in ("one", "two", "three")]
    assert numbers == sorted(set(numbers))
    journal.sent(numbers[1])
    assert [(kept.destination, kept.text) for kept in journal.unsent()] == [
        (RUN_TOPIC, "one"),
        (RUN_TOPIC, "three"),
    ]
    # A number is not given again, however few are left.
    for kept in journal.unsent():
        journal.sent(kept.number)
    assert journal.post(RUN_TOPIC, "four") > numbers[-1]


def test_a_run_with_its_message(journal: SqliteDaqJournal) -> None:
    assert journal.save(RECORD) is None
    later = RECORD.model_copy(update={"progress": Progress(told=1, tick=5)})
    number = journal.save(later, message=(RUN_TOPIC, "one"))
    assert journal.runs() == [later]
    assert [kept.number for kept in journal.unsent()] == [number]
    journal.forget(RECORD.execution_id)
    assert journal.runs() == []


def test_commands_are_settled_with_what_came_of_them(journal: SqliteDaqJournal) -> None:
    numbers = [journal.accept(command(f"ID:{n}")) for n in range(3)]
    assert [kept.number for kept in journal.waiting()] == numbers
    assert journal.waiting()[0].message == command("ID:0")
    journal.settle(numbers[0])
    journal.post(RUN_TOPIC, "refused", settles=numbers[1])
    journal.save(RECORD, settles=numbers[2])
    assert journal.waiting() == []


@pytest.mark.parametrize("kind", [NoJournal, None])
def test_a_command_that_comes_again(journal: SqliteDaqJournal, kind: type[DaqJournal] | None) -> None:
    any_journal: DaqJournal = kind() if kind else journal
    number = any_journal.accept(command())
    assert number is not None
    any_journal.settle(number)
    assert any_journal.accept(command()) is None
    # Brokers that lost their memory may give an id again, and some give none.
    assert any_journal.accept(command(text='{"other": 1}')) is not None
    first = any_journal.accept(command(None))
    assert first is not None
    any_journal.settle(first)
    assert any_journal.accept(command(None)) is not None


def test_a_command_that_is_not_settled_is_the_same_when_it_comes_again(journal: SqliteDaqJournal) -> None:
    number = journal.accept(command())
    assert journal.accept(command()) == number
    assert len(journal.waiting()) == 1


def test_commands_are_not_remembered_for_ever(
    journal: SqliteDaqJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simulator.io.daq_journal._MEMORY", 3)
    waits = journal.accept(command("ID:waits"))
    for n in range(5):
        number = journal.accept(command(f"ID:{n}"))
        assert number is not None
        journal.settle(number)
    assert [journal.accept(command(f"ID:{n}")) is None for n in (1, 2, 3, 4)] == [False, True, True, True]
    assert waits in [kept.number for kept in journal.waiting()]


def test_each_process_has_its_own_and_finds_it_again(tmp_path: Path) -> None:
    first, second = (open_daq_journal(tmp_path / "daq", "DAQ.a/b") for _ in range(2))
    first.post(RUN_TOPIC, "first")
    second.post(RUN_TOPIC, "second")
    other = open_daq_journal(tmp_path / "daq", "DAQ.c")
    assert other.unsent() == []
    second.close()
    again = open_daq_journal(tmp_path / "daq", "DAQ.a/b")
    assert [kept.text for kept in again.unsent()] == ["second"]
    for journal in (first, again, other):
        journal.close()
    last = open_daq_journal(tmp_path / "daq", "DAQ.a/b")
    assert [kept.text for kept in last.unsent()] == ["first"]
    last.close()


def test_what_a_process_left_is_taken_up_first(tmp_path: Path) -> None:
    first, second, third = (open_daq_journal(tmp_path, "DAQ") for _ in range(3))
    number = second.accept(command())
    for journal in (first, second, third):
        journal.close()
    again = open_daq_journal(tmp_path, "DAQ")
    assert [kept.number for kept in again.waiting()] == [number]
    assert number is not None
    again.settle(number)
    again.close()
    # Nothing is left, and nothing more is made.
    last = open_daq_journal(tmp_path, "DAQ")
    assert not last.has_rest()
    last.close()
    assert len(list(tmp_path.glob("*.journal"))) == 3


KILLED = """
import os, signal, sys
from pathlib import Path
from simulator.io.daq_journal import open_daq_journal
journal = open_daq_journal(Path(sys.argv[1]), "DAQ")
for number in range(100):
    journal.post("/topic/any", str(number))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_it_has_survives_sigkill(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    journal = open_daq_journal(tmp_path, "DAQ")
    assert [kept.text for kept in journal.unsent()] == [str(number) for number in range(100)]
    journal.close()


def test_a_file_of_something_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    path.write_text("This is no journal. " * 100)
    with pytest.raises(InvalidConfiguration, match=r"a\.journal cannot be read, move it away"):
        SqliteDaqJournal(path)
    with pytest.raises(InvalidConfiguration, match="cannot be opened"):
        SqliteDaqJournal(tmp_path)
    with pytest.raises(InvalidConfiguration, match="cannot be made"):
        open_daq_journal(path / "daq", "DAQ")


@pytest.mark.parametrize("page", [1, 3])
def test_a_damaged_journal_is_named(tmp_path: Path, page: int) -> None:
    path = tmp_path / "a.journal"
    journal = SqliteDaqJournal(path)
    for number in range(100):
        journal.save(RECORD.model_copy(update={"execution_id": f"a-{number}"}), message=(RUN_TOPIC, "x" * 99))
    journal.close()
    content = bytearray(path.read_bytes())
    content[page * 4096 : page * 4096 + 2000] = b"\xff" * 2000
    path.write_bytes(content)
    with pytest.raises(InvalidConfiguration, match=r"a\.journal cannot be read, move it away"):
        SqliteDaqJournal(path)


def test_a_journal_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "a.journal")
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(InvalidConfiguration, match="later version"):
        SqliteDaqJournal(tmp_path / "a.journal")


def test_a_run_that_is_not_understood_is_told(journal: SqliteDaqJournal) -> None:
    journal.save(RECORD)
    with journal._writing() as connection:
        connection.execute("UPDATE runs SET record = '{}'")
    with pytest.raises(InvalidConfiguration, match=r"a\.journal has a run that is not understood"):
        journal.runs()


def test_what_cannot_be_written_is_not_there(journal: SqliteDaqJournal) -> None:
    with journal._writing() as connection:
        # As a full disk would have it.
        connection.execute("DROP TABLE messages")
    with pytest.raises(TemporarilyUnavailable, match=r"a\.journal"):
        journal.save(RECORD, message=(RUN_TOPIC, "one"))
    assert journal.runs() == []
