"""The data acquisition's journal: a file of SQLite that one process has.

What is in it survives the death of the process. For the sake of speed it is
not waited for the disk, so a power cut may take the last moments with it.
"""

from __future__ import annotations

__all__ = ["SqliteDaqJournal", "open_daq_journal"]

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

from pydantic import ValidationError

from models.errors import InvalidConfiguration, TemporarilyUnavailable
from models.streaming.bus import ReceivedMessage
from simulator.daq.journal import KeptCommand, KeptMessage, RunRecord

_VERSION = 1
_TABLES = f"""
BEGIN;
CREATE TABLE runs (execution_id TEXT PRIMARY KEY, record TEXT NOT NULL);
CREATE TABLE messages (
    number INTEGER PRIMARY KEY AUTOINCREMENT, destination TEXT NOT NULL, text TEXT NOT NULL
);
CREATE TABLE commands (
    number INTEGER PRIMARY KEY AUTOINCREMENT, destination TEXT NOT NULL, text TEXT NOT NULL,
    message_id TEXT, settled INTEGER NOT NULL DEFAULT 0, UNIQUE (message_id, text)
);
PRAGMA user_version = {_VERSION};
COMMIT;
"""
#: Commands that are remembered once they are settled.
_MEMORY = 1000
#: Processes that may share a directory.
_PLACES = 1000


class _InUse(Exception):
    """Another process has it."""


def open_daq_journal(directory: Path, name: str) -> SqliteDaqJournal:
    """Return a journal that no other process has: one in which a process that
    died left something, so that whoever comes next goes on with that, or else
    the first that there is.

    Parameters
    ----------
    directory : `pathlib.Path`
        Made if it is not there.
    name : `str`
        Of what the journals are for.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if it cannot be made or read.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidConfiguration(f"the data acquisition's directory cannot be made: {error}") from error
    with ExitStack() as rest:
        spare: SqliteDaqJournal | None = None
        for number in range(1, _PLACES):
            path = directory / f"{quote(name, safe='')}-{number}.journal"
            if spare is not None and not path.exists():
                break
            try:
                journal = SqliteDaqJournal(path)
            except _InUse:
                continue
            if journal.has_rest():
                return journal
            if spare is None:
                spare = journal
                rest.callback(journal.close)
            else:
                journal.close()
        if spare is not None:
            rest.pop_all()
            return spare
    raise InvalidConfiguration(f"all journals for {name} in {directory} are in use")


class SqliteDaqJournal:
    """A `simulator.daq.journal.DaqJournal` in a file.

    Parameters
    ----------
    path : `pathlib.Path`

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if it cannot be made or read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            self._connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise InvalidConfiguration(f"the journal {path} cannot be opened: {error}") from error
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    @property
    def lasting(self) -> bool:
        """Whether it outlives the process."""
        return True

    def has_rest(self) -> bool:
        """Say whether there is anything for another process to do."""
        query = (
            "SELECT EXISTS (SELECT 1 FROM runs) OR EXISTS (SELECT 1 FROM messages) "
            "OR EXISTS (SELECT 1 FROM commands WHERE NOT settled)"
        )
        with self._reading() as connection:
            return bool(connection.execute(query).fetchone()[0])

    def accept(self, message: ReceivedMessage) -> int | None:
        """Keep a command to be followed; None if it is settled."""
        known = "SELECT number, settled FROM commands WHERE message_id = ? AND text = ?"
        new = "INSERT INTO commands (destination, text, message_id) VALUES (?, ?, ?)"
        with self._writing() as connection:
            row = connection.execute(known, (message.message_id, message.text)).fetchone()
            if row is not None:
                return None if row[1] else int(row[0])
            values = message.destination, message.text, message.message_id
            return connection.execute(new, values).lastrowid

    def waiting(self) -> Sequence[KeptCommand]:
        """Return commands that are not settled, the oldest first."""
        query = "SELECT number, destination, text, message_id FROM commands WHERE NOT settled ORDER BY number"
        with self._reading() as connection:
            return [KeptCommand(row[0], ReceivedMessage(*row[1:])) for row in connection.execute(query)]

    def settle(self, command: int) -> None:
        """Note that a command needs no following any more."""
        with self._writing() as connection:
            _settle(connection, command)

    def post(self, destination: str, text: str, *, settles: int | None = None) -> int:
        """Keep a message to be sent, which may settle a command."""
        with self._writing() as connection:
            _settle(connection, settles)
            return _post(connection, destination, text)

    def save(
        self, record: RunRecord, *, message: tuple[str, str] | None = None, settles: int | None = None
    ) -> int | None:
        """Keep how an execution is now, and with it a message to be sent."""
        change = (
            "INSERT INTO runs (execution_id, record) VALUES (?, ?) "
            "ON CONFLICT (execution_id) DO UPDATE SET record = excluded.record"
        )
        with self._writing() as connection:
            connection.execute(change, (record.execution_id, record.model_dump_json()))
            _settle(connection, settles)
            return None if message is None else _post(connection, *message)

    def runs(self) -> Sequence[RunRecord]:
        """Return executions that are not forgotten, the oldest first.

        Raises
        ------
        models.errors.InvalidConfiguration
            Raised if one cannot be understood.
        """
        with self._reading() as connection:
            rows = connection.execute("SELECT record FROM runs ORDER BY rowid").fetchall()
        try:
            return [RunRecord.model_validate_json(row[0]) for row in rows]
        except ValidationError as error:
            raise InvalidConfiguration(
                f"{self._path} has a run that is not understood; move the file away: {error}"
            ) from error

    def forget(self, execution_id: str) -> None:
        """Keep an execution no longer."""
        with self._writing() as connection:
            connection.execute("DELETE FROM runs WHERE execution_id = ?", (execution_id,))

    def unsent(self) -> Sequence[KeptMessage]:
        """Return messages that the bus has not confirmed, the oldest first."""
        with self._reading() as connection:
            rows = connection.execute("SELECT number, destination, text FROM messages ORDER BY number")
            return [KeptMessage(*row) for row in rows]

    def sent(self, message: int) -> None:
        """Note that the bus has confirmed a message."""
        with self._writing() as connection:
            connection.execute("DELETE FROM messages WHERE number = ?", (message,))

    def close(self) -> None:
        """Let another process have it."""
        with self._lock:
            self._connection.close()

    def _prepare(self) -> None:
        """Take the file, and make its tables.

        Raises
        ------
        _InUse
            Raised if another process has it.
        """
        connection = self._connection
        try:
            # Kept until the process ends, however it does.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("BEGIN EXCLUSIVE")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            connection.execute("COMMIT")
            if version == 0:
                connection.executescript(_TABLES)
            # What is damaged within would be found in the middle of a run.
            damage = connection.execute("PRAGMA quick_check (1)").fetchone()[0]
            if damage != "ok":
                raise sqlite3.DatabaseError(damage)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise _InUse from error
            raise InvalidConfiguration(f"the journal {self._path} cannot be used: {error}") from error
        except sqlite3.Error as error:
            raise InvalidConfiguration(
                f"the journal {self._path} cannot be read, move it away: {error}"
            ) from error
        if version > _VERSION:
            raise InvalidConfiguration(
                f"the journal {self._path} is of a later version; use that, or move the file away"
            )

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._errors():
            self._connection.execute("BEGIN")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._errors():
            yield self._connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise TemporarilyUnavailable(f"the journal {self._path}: {error}") from error


def _settle(connection: sqlite3.Connection, command: int | None) -> None:
    if command is None:
        return
    connection.execute("UPDATE commands SET settled = 1 WHERE number = ?", (command,))
    connection.execute("DELETE FROM commands WHERE settled AND number <= ?", (command - _MEMORY,))


def _post(connection: sqlite3.Connection, destination: str, text: str) -> int:
    new = "INSERT INTO messages (destination, text) VALUES (?, ?)"
    return int(connection.execute(new, (destination, text)).lastrowid or 0)
