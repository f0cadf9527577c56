"""Connections to a ledger on PostgreSQL: few, short, and patient."""

from __future__ import annotations

__all__ = ["create_postgresql_engine"]

import logging
import random
import re
import threading
import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

from models.errors import InvalidConfiguration
from repos.ledger_schema import LEDGER, TableSchema, UnknownSchema
from repos.ledger_sqlite import DATABASE
from repos.postgresql import TIMEOUTS, refusal

_log = logging.getLogger(__name__)

#: Connections of one process at the same moment. Each lasts for one
#: transaction, of milliseconds, so that few serve many visits.
_AT_ONCE = 4
#: Seconds to wait for one of them, or for a place at a server that is full.
_PATIENCE = 30.0
#: Pauses before another try at a full server, seconds: at first, at most.
_PAUSES = 0.02, 2.0

_SERVER_OPTIONS = "-c statement_timeout=30s -c idle_in_transaction_session_timeout=60s"

_FULL = re.compile(r"too many (clients|connections)|remaining connection slots")


def create_postgresql_engine(
    url: sa.URL, *, read_only: bool = False, tables: TableSchema = LEDGER
) -> sa.Engine:
    """Make an engine; its tables are made or upgraded when it can be reached.

    A ledger's keeps no connection between transactions: thousands of workers
    with one each would be more than a server bears.

    Parameters
    ----------
    url : `sqlalchemy.URL`
        ``?schema=<name>`` puts the tables into a schema of that name.
    read_only : `bool`, optional
        Whether to look only.
    tables : `repos.ledger_schema.TableSchema`, optional
        The tables that it has; those of a ledger by default.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if the URL is not understood or the server refuses it.
    sqlalchemy.exc.DBAPIError
        Raised if the database cannot be read, with `read_only`. A service
        starts all the same and tries again when it needs its ledger.
    """
    schema = _schema_of(url, tables.setting)
    engine = _create_engine(url, schema, tables, read_only=read_only)
    if read_only:
        with engine.connect() as connection:
            try:
                tables.ensure(connection, schema=schema, read_only=True)
            except UnknownSchema as error:
                raise UnknownSchema(f"the {tables.what} {url!r}: {error}") from error
        return engine
    upgrade = _Upgrade(schema, tables)
    event.listen(engine, "engine_connect", upgrade.run)
    try:
        engine.connect().close()
    except DBAPIError as error:
        if (reason := refusal(error)) is not None:
            raise InvalidConfiguration(f"{tables.setting}: {url!r}: {reason}") from error
        _log.error(
            "The %s %r cannot be used for now: %s", tables.what, url, " ".join(str(error.orig).split())
        )
    return engine


class _Upgrade:
    """Brings the tables to their version with the first connection that can be
    had, before anybody uses it.
    """

    def __init__(self, schema: str | None, tables: TableSchema) -> None:
        self._schema = schema
        self._tables = tables
        self._lock = threading.Lock()
        self._done = False

    def run(self, connection: sa.Connection) -> None:
        if self._done:
            return
        with self._lock:
            if not self._done:
                with connection.begin():
                    self._tables.ensure(connection, schema=self._schema)
                self._done = True


def _create_engine(
    url: sa.URL, schema: str | None, tables: TableSchema, *, read_only: bool = False
) -> sa.Engine:
    given = url.query.get("options", "")
    options = [
        _SERVER_OPTIONS,
        *([f"-c search_path={schema}"] if schema is not None else []),
        *(["-c default_transaction_read_only=on"] if read_only else []),
        *([given] if isinstance(given, str) else given),
    ]
    engine = sa.create_engine(
        url.set(drivername="postgresql+psycopg2").difference_update_query(["schema", "options"]),
        connect_args={
            **{name: value for name, value in TIMEOUTS.items() if name not in url.query},
            "application_name": f"prompt-processing {tables.what}",
            "options": " ".join(options).strip(),
        },
        pool_size=_AT_ONCE,
        max_overflow=0,
        pool_timeout=_PATIENCE,
        use_native_hstore=False,
        execution_options={DATABASE: tables.database},
        pool_pre_ping=tables.few_users,
    )
    event.listen(engine, "do_connect", _connect)
    if not tables.few_users:
        event.listen(engine, "checkin", _close)
    return engine


def _connect(dialect: sa.Dialect, _record: ConnectionPoolEntry, args: Any, options: Any) -> Any:
    """Connect, for a while also to a server that has no place left."""
    deadline = time.monotonic() + _PATIENCE
    pause, longest = _PAUSES
    while True:
        try:
            return dialect.connect(*args, **options)
        except dialect.loaded_dbapi.OperationalError as error:
            if not _FULL.search(str(error)) or time.monotonic() > deadline:
                raise
        # Anything but the same moment for all who were sent away.
        time.sleep(random.uniform(0.0, pause))
        pause = min(2 * pause, longest)


def _close(_connection: Any, record: ConnectionPoolEntry) -> None:
    """Leave the pool a place without a connection."""
    record.invalidate()


def _schema_of(url: sa.URL, setting: str) -> str | None:
    schema = url.query.get("schema")
    if schema is None or (isinstance(schema, str) and re.fullmatch(r"[a-z_][a-z0-9_]*", schema)):
        return schema
    raise InvalidConfiguration(
        f"{setting}: {schema!r} cannot be the name of a schema; "
        "use small letters, digits and _, for example ?schema=prompt_processing"
    )
