"""Connections to an embedded ledger: an SQLite file in WAL mode."""

from __future__ import annotations

__all__ = ["DATABASE", "DURABLE", "READS", "create_sqlite_engine"]

import os
import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from models.errors import InvalidConfiguration
from repos.ledger_schema import LEDGER, TableSchema, UnknownSchema

#: Seconds that a transaction waits for another, or for a free connection.
_BUSY_TIMEOUT = 30.0

#: Execution option of engines: what errors call the database.
DATABASE = "ledger_database"
#: Execution option of transactions that only read.
READS = "ledger_reads"
#: Execution option of transactions that must survive a power cut.
DURABLE = "ledger_durable"


def create_sqlite_engine(
    url: sa.URL, path: Path, *, read_only: bool = False, schema: TableSchema = LEDGER
) -> sa.Engine:
    """Open, and make or upgrade, an embedded ledger.

    Parameters
    ----------
    url : `sqlalchemy.URL`
    path : `pathlib.Path`
        Its file.
    read_only : `bool`, optional
        Whether to look only.
    schema : `repos.ledger_schema.TableSchema`, optional
        The tables that it has; those of a ledger by default.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if it cannot be opened.
    """
    if read_only:
        if not path.exists():
            raise InvalidConfiguration(
                f"there is no {schema.what} {path}; has the service run with these settings?"
            )
        # Readers of a database in WAL mode need its index, which goes away
        # with its last user and which they must be able to make again.
        made_anew = os.access(path.parent, os.W_OK) or path.with_name(f"{path.name}-shm").exists()
        mode = "mode=ro" if made_anew else "immutable=1"
        url = sa.make_url(f"sqlite:///file:{path.absolute()}?{mode}&uri=true")
    engine = sa.create_engine(
        url,
        connect_args={"timeout": _BUSY_TIMEOUT, "check_same_thread": False},
        pool_timeout=_BUSY_TIMEOUT,
        execution_options={DATABASE: schema.database},
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
        synchronous = "FULL" if options.get(DURABLE, False) else "NORMAL"
        connection.exec_driver_sql(f"PRAGMA synchronous={synchronous}")
        # A transaction that read before it writes could not wait for another
        # writer but had to fail, so those that may write say so at once.
        connection.exec_driver_sql("BEGIN" if options.get(READS, False) else "BEGIN IMMEDIATE")

    try:
        if read_only:
            with engine.connect().execution_options(**{READS: True}) as connection:
                schema.ensure(connection, read_only=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            with engine.begin() as connection:
                schema.ensure(connection)
    except UnknownSchema as error:
        raise UnknownSchema(f"the {schema.what} {path}: {error}") from error
    except (OSError, SQLAlchemyError) as error:
        cause = getattr(error, "orig", None) or error
        raise InvalidConfiguration(f"the {schema.what} {path} cannot be opened: {cause}") from error
    return engine
