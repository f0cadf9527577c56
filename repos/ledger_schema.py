"""Brings a ledger's tables to the version that this code works with.

The steps are those of `repos.ledger_migrations`, the same for SQLite and
PostgreSQL.
"""

from __future__ import annotations

__all__ = ["LATEST", "UnknownSchema", "ensure_schema", "installed_version"]

import logging
from pathlib import Path

import sqlalchemy as sa

from models.errors import InvalidConfiguration

_log = logging.getLogger(__name__)

#: Version of the tables that this code works with: the last migration. A
#: process looks for just this when it starts and, if it is there, needs
#: nothing of alembic.
LATEST = "refusals"

_MIGRATIONS = Path(__file__).resolve().parent / "ledger_migrations"
_VERSIONS = sa.Table("alembic_version", sa.MetaData(), sa.Column("version_num", sa.String(32)))

#: Any number will do; it must be the same in every version of this project.
_ADVISORY_LOCK = 0x7070_6C65_6467_6572


class UnknownSchema(InvalidConfiguration):
    """The ledger's tables are missing, or of a version before this one."""


def installed_version(connection: sa.Connection) -> str | None:
    """Return the version of a ledger's tables; None if alembic never saw it."""
    if not sa.inspect(connection).has_table(_VERSIONS.name):
        return None
    version: str | None = connection.execute(sa.select(_VERSIONS)).scalar_one_or_none()
    return version


def ensure_schema(connection: sa.Connection, *, schema: str | None = None, read_only: bool = False) -> None:
    """Make or upgrade the tables, in the caller's transaction.

    Any number of processes may do so at once: one does, the others wait and
    find it done. Tables of a later version are left alone, so that a
    deployment can be rolled back: migrations only ever add.

    Parameters
    ----------
    connection : `sqlalchemy.Connection`
        In SQLite one that holds the write lock, unless `read_only`.
    schema : `str`, optional
        Schema of a PostgreSQL database, made if it is not there.
    read_only : `bool`, optional
        Whether to look only.

    Raises
    ------
    UnknownSchema
        Raised if something is to be done that `read_only` forbids.
    """
    version = installed_version(connection)
    if version == LATEST:
        return
    if read_only:
        there = version is not None or sa.inspect(connection).has_table("visits")
        raise UnknownSchema(
            "its tables are of an earlier version; the service upgrades them when it starts"
            if there
            else "it has no tables; has the service run with these settings?"
        )
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
        if schema is not None:
            connection.execute(sa.schema.CreateSchema(schema, if_not_exists=True))
        version = installed_version(connection)
    # Alembic is needed once in the life of a ledger, not in every process.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    known = {step.revision for step in ScriptDirectory.from_config(config).walk_revisions()}
    if version is not None and version not in known:
        _log.warning("The ledger's tables are of a later version, %r; they are used as they are.", version)
        return
    if version != LATEST:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        _log.info("The ledger's tables are of version %r now.", LATEST)
