"""Connections to the ledger's database, and the lock on an embedded one.

What is particular to SQLite is here and nowhere else.
"""

from __future__ import annotations

__all__ = [
    "LedgerLock",
    "create_ledger_engine",
    "embedded_ledger_file",
    "ledger_errors",
    "reading",
    "writing",
]

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from models.errors import InvalidConfiguration, TemporarilyUnavailable
from repos.ledger_tables import metadata

#: Seconds that a transaction waits for another, or for a free connection.
_BUSY_TIMEOUT = 30.0

#: Execution option of transactions that only read.
_READS = "ledger_reads"
#: Execution option of transactions that must survive a power cut.
_DURABLE = "ledger_durable"


def create_ledger_engine(url: str, *, read_only: bool = False) -> sa.Engine:
    """Connect to the ledger's database, and make its tables if need be.

    Parameters
    ----------
    url : `str`
        SQLAlchemy URL.
    read_only : `bool`, optional
        Whether to look only: nothing is made, and no lock is needed.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if the URL is not understood or the database cannot be made.
    models.errors.TemporarilyUnavailable
        Raised if the database cannot be reached.
    """
    parsed = _parse(url)
    if (path := embedded_ledger_file(url)) is not None:
        return _create_sqlite_engine(parsed, path, read_only=read_only)
    engine = sa.create_engine(parsed, pool_pre_ping=True, pool_timeout=_BUSY_TIMEOUT)
    if not read_only:
        with ledger_errors():
            metadata.create_all(engine)
    return engine


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
    with ledger_errors(), engine.connect().execution_options(**{_READS: True}) as connection:
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
    options = {_DURABLE: durable}
    with ledger_errors(), engine.connect().execution_options(**options) as connection, connection.begin():
        yield connection


@contextmanager
def ledger_errors() -> Iterator[None]:
    """Translate the database's errors.

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
        raise TemporarilyUnavailable(f"the ledger's database: {cause}") from error


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
        return sa.make_url(url)
    except ArgumentError as error:
        raise InvalidConfiguration(f"PP_LEDGER_URL is not a database URL: {error}") from error


def _create_sqlite_engine(url: sa.URL, path: Path, *, read_only: bool) -> sa.Engine:
    if read_only:
        if not path.exists():
            raise InvalidConfiguration(f"there is no ledger {path}; has the service run with these settings?")
        # Readers of a database in WAL mode need its index, which goes away
        # with its last user and which they must be able to make again.
        made_anew = os.access(path.parent, os.W_OK) or path.with_name(f"{path.name}-shm").exists()
        mode = "mode=ro" if made_anew else "immutable=1"
        url = sa.make_url(f"sqlite:///file:{path.absolute()}?{mode}&uri=true")
    engine = sa.create_engine(
        url, connect_args={"timeout": _BUSY_TIMEOUT, "check_same_thread": False}, pool_timeout=_BUSY_TIMEOUT
    )

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: Any) -> None:
        # SQLAlchemy, not the driver, begins transactions: see below.
        connection.isolation_level = None
        if not read_only:
            connection.execute("PRAGMA journal_mode=WAL")

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        options = connection.get_execution_options()
        synchronous = "FULL" if options.get(_DURABLE, False) else "NORMAL"
        connection.exec_driver_sql(f"PRAGMA synchronous={synchronous}")
        # A transaction that read before it writes could not wait for another
        # writer but had to fail, so those that may write say so at once.
        connection.exec_driver_sql("BEGIN" if options.get(_READS, False) else "BEGIN IMMEDIATE")

    if not read_only:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            metadata.create_all(engine)
        except (OSError, SQLAlchemyError) as error:
            cause = getattr(error, "orig", None) or error
            raise InvalidConfiguration(f"the ledger {path} cannot be opened: {cause}") from error
    return engine
