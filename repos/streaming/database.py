"""The streaming workflow's database: SQLite, or PostgreSQL.

One schema serves the agents, the embedded catalogue, the local executor and
the monitor; each may have a database of its own, or share one.
"""

from __future__ import annotations

__all__ = ["STREAMING", "StreamingEngine", "create_streaming_engine", "embedded_file"]

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from models.errors import InvalidConfiguration
from repos.ledger_database import ledger_errors
from repos.ledger_postgresql import create_postgresql_engine
from repos.ledger_schema import TableSchema
from repos.ledger_sqlite import create_sqlite_engine

#: For those who hand a connection on without using it.
StreamingEngine = sa.Engine


def streaming_schema(setting: str) -> TableSchema:
    """Return the tables as part of a database that a setting names."""
    return TableSchema(
        what="streaming database",
        setting=setting,
        latest="files_of_runs",
        migrations=Path(__file__).resolve().parent / "migrations",
        marker="inbox",
        database="streaming database",
        version_table="streaming_version",
        few_users=True,
    )


STREAMING = streaming_schema("PP_STREAMING_DATABASE")


def create_streaming_engine(
    url: str, *, setting: str = STREAMING.setting, read_only: bool = False
) -> sa.Engine:
    """Connect to a database of the streaming workflow, and make or upgrade
    its tables.

    Transactions on it are those of `repos.ledger_database`: `reading`,
    `writing`, `single_statement`.

    Parameters
    ----------
    url : `str`
        SQLAlchemy URL, of a file of SQLite or of PostgreSQL.
    setting : `str`, optional
        The variable that holds the URL, for errors.
    read_only : `bool`, optional
        Whether to look only.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if the URL is not understood, or the database cannot be made or
        refuses us.
    models.errors.TemporarilyUnavailable
        Raised if the database cannot be read, with `read_only`.
    """
    parsed, file = _parse(url, setting)
    tables = streaming_schema(setting)
    if file is not None:
        return create_sqlite_engine(parsed, file, read_only=read_only, schema=tables)
    backend = parsed.get_backend_name()
    if backend != "postgresql":
        raise InvalidConfiguration(f"{setting}: {backend} is not supported; use sqlite or postgresql")
    with ledger_errors(database=tables.database):
        return create_postgresql_engine(parsed, read_only=read_only, tables=tables)


def embedded_file(url: str, *, setting: str = STREAMING.setting) -> Path | None:
    """Return the file of an embedded database; None for one on a server.

    Parameters
    ----------
    url, setting : `str`
        See `create_streaming_engine`.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if the URL is not understood.
    """
    return _parse(url, setting)[1]


def _parse(url: str, setting: str) -> tuple[sa.URL, Path | None]:
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError) as error:
        raise InvalidConfiguration(f"{setting}: it is no SQLAlchemy URL: {error}") from error
    if parsed.get_backend_name() != "sqlite":
        return parsed, None
    if not parsed.database or parsed.database == ":memory:":
        raise InvalidConfiguration(f"{setting} must name a file: a database in memory would not survive")
    return parsed, Path(parsed.database)
