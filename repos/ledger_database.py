"""Connections to the ledger's database, and the lock on an embedded one.

What is particular to a database is in `repos.ledger_sqlite` and
`repos.ledger_postgresql`.
"""

from __future__ import annotations

__all__ = [
    "LedgerLock",
    "create_ledger_engine",
    "embedded_ledger_file",
    "ledger_errors",
    "reading",
    "single_statement",
    "writing",
]

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from models.errors import InvalidConfiguration, TemporarilyUnavailable
from repos.ledger_postgresql import create_postgresql_engine
from repos.ledger_schema import LEDGER
from repos.ledger_sqlite import DATABASE, DURABLE, READS, create_sqlite_engine


def create_ledger_engine(url: str, *, read_only: bool = False) -> sa.Engine:
    """Connect to the ledger's database, and make or upgrade its tables.

    On a server that happens as soon as it can be reached.

    Parameters
    ----------
    url : `str`
        SQLAlchemy URL, of SQLite or PostgreSQL.
    read_only : `bool`, optional
        Whether to look only: nothing is made, and no lock is needed.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if the URL is not understood, or the database cannot be made or
        refuses us.
    models.errors.TemporarilyUnavailable
        Raised if the database cannot be read, with `read_only`.
    """
    parsed = _parse(url)
    if (path := embedded_ledger_file(url)) is not None:
        return create_sqlite_engine(parsed, path, read_only=read_only)
    with ledger_errors():
        return create_postgresql_engine(parsed, read_only=read_only)


def embedded_ledger_file(url: str) -> Path | None:
    """Return the file of an embedded ledger; None for one on a server.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if the URL is not understood.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() != "sqlite":
        return None
    if not parsed.database or parsed.database == ":memory:":
        raise InvalidConfiguration("PP_LEDGER_URL must name a file: a ledger in memory would not survive")
    return Path(parsed.database)


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Open a transaction that only reads; it never waits for a writer."""
    with ledger_errors(engine), engine.connect().execution_options(**{READS: True}) as connection:
        yield connection


@contextmanager
def writing(engine: sa.Engine, *, durable: bool = False) -> Iterator[sa.Connection]:
    """Open a transaction that writes; it is committed at the end.

    Parameters
    ----------
    engine : `sqlalchemy.Engine`
    durable : `bool`, optional
        Whether it must survive a power cut, and not only the death of this
        process, which every one survives. It costs a wait for the disk.

    Raises
    ------
    models.errors.TemporarilyUnavailable
        Raised if the database cannot be reached; nothing is written.
    """
    options = {DURABLE: durable}
    with (
        ledger_errors(engine),
        engine.connect().execution_options(**options) as connection,
        connection.begin(),
    ):
        yield connection


@contextmanager
def single_statement(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Open a connection for one statement that changes something; if it reads
    afterwards, what it reads may have been changed by others.

    Raises
    ------
    models.errors.TemporarilyUnavailable
        Raised if the database cannot be reached.
    """
    if engine.dialect.name == "sqlite":
        with writing(engine) as connection:
            yield connection
        return
    # The answer is the commit: the server is asked once instead of three times.
    with (
        ledger_errors(engine),
        engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
    ):
        yield connection


@contextmanager
def ledger_errors(engine: sa.Engine | None = None, *, database: str = LEDGER.database) -> Iterator[None]:
    """Translate the database's errors.

    Parameters
    ----------
    engine : `sqlalchemy.Engine`, optional
        Says whose database it is.
    database : `str`, optional
        Whose it is if there is no engine yet, or it does not say.

    Raises
    ------
    models.errors.TemporarilyUnavailable
        Raised for each of them: away, locked, disk full.
    """
    try:
        yield
    except (DBAPIError, PoolTimeout) as error:
        # Without the statement and its parameters, which hold whole messages.
        cause = getattr(error, "orig", None) or error
        options = engine.get_execution_options() if engine is not None else {}
        name = options.get(DATABASE, database)
        raise TemporarilyUnavailable(f"the {name}: {cause}") from error


class LedgerLock:
    """Sees to it that one service only uses an embedded ledger.

    Its parent alone keeps claims in order, so a second service on the same
    file would take visits of the first for left-overs. Databases on a server
    need no such lock, and get none.

    Parameters
    ----------
    url : `str`
        SQLAlchemy URL of the ledger.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if the URL is not understood.
    """

    def __init__(self, url: str) -> None:
        path = embedded_ledger_file(url)
        self._path = path
        self._lock = None if path is None else filelock.FileLock(f"{path}.lock", thread_local=False)

    def acquire(self, timeout: float = 5.0) -> None:
        """Take the lock; it is given back when the process ends.

        Parameters
        ----------
        timeout : `float`, optional
            Seconds for which to wait for a service that is just stopping.

        Raises
        ------
        models.errors.InvalidConfiguration
            Raised if another service has it, or its file cannot be written.
        """
        if self._lock is None or self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=timeout)
        except filelock.Timeout as error:
            raise InvalidConfiguration(
                f"another service uses the ledger {self._path}; stop it, or give this one its own "
                "PP_STATE_DIR or PP_LEDGER_URL"
            ) from error
        except OSError as error:
            raise InvalidConfiguration(f"the ledger {self._path} cannot be locked: {error}") from error

    def release(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            self._lock.release()


def _parse(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except ArgumentError as error:
        raise InvalidConfiguration(f"PP_LEDGER_URL is not a database URL: {error}") from error
    backend = parsed.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise InvalidConfiguration(f"PP_LEDGER_URL: a ledger cannot be kept in {backend}; use PostgreSQL")
    return parsed
