"""Brings tables to the version that this code works with.

The steps of a ledger are those of `repos.ledger_migrations`, the same for
SQLite and PostgreSQL; those of the streaming workflow's database are in
`repos.streaming.migrations`.
"""

from __future__ import annotations

__all__ = ["LATEST", "LEDGER", "TableSchema", "UnknownSchema", "installed_version"]

import logging
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from models.errors import InvalidConfiguration

_log = logging.getLogger(__name__)

#: Version of the tables that this code works with: the last migration. A
#: process looks for just this when it starts and, if it is there, needs
#: nothing of alembic.
LATEST = "refusals"

#: Any number will do; it must be the same in every version of this project.
_ADVISORY_LOCK = 0x7070_6C65_6467_6572


class UnknownSchema(InvalidConfiguration):
    """The tables are missing, or of a version before this one."""


@dataclass(frozen=True)
class TableSchema:
    """A set of tables and the steps that lead to it.

    Attributes
    ----------
    what : `str`
        What a person calls a database with them.
    setting : `str`
        The variable that names the database.
    latest : `str`
        The last migration.
    migrations : `pathlib.Path`
        Directory of alembic's steps.
    marker : `str`
        A table that was there from the first version on.
    database : `str`, optional
        What errors call the database.
    version_table : `str`, optional
        Where alembic notes the version.
    few_users : `bool`, optional
        Whether so few processes use such a database that each may keep its
        connections.
    """

    what: str
    setting: str
    latest: str
    migrations: Path
    marker: str
    database: str = "ledger's database"
    version_table: str = "alembic_version"
    few_users: bool = False

    def installed(self, connection: sa.Connection) -> str | None:
        """Return the version of the tables; None if alembic never saw them."""
        if not sa.inspect(connection).has_table(self.version_table):
            return None
        table = sa.table(self.version_table, sa.column("version_num"))
        version: str | None = connection.execute(sa.select(table.c.version_num)).scalar_one_or_none()
        return version

    def ensure(
        self, connection: sa.Connection, *, schema: str | None = None, read_only: bool = False
    ) -> None:
        """Make or upgrade the tables, in the caller's transaction.

        Any number of processes may do so at once: one does, the others wait
        and find it done. Tables of a later version are left alone, so that a
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
        version = self.installed(connection)
        if version == self.latest:
            return
        if read_only:
            there = version is not None or sa.inspect(connection).has_table(self.marker)
            raise UnknownSchema(
                "its tables are of an earlier version; whatever writes to it upgrades them at its start"
                if there
                else "it has no tables; has the service run with these settings?"
            )
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
            if schema is not None:
                connection.execute(sa.schema.CreateSchema(schema, if_not_exists=True))
            version = self.installed(connection)
        # Alembic is needed once in the life of a database, not in every process.
        from alembic import command
        from alembic.config import Config
        from alembic.script import ScriptDirectory

        config = Config()
        config.set_main_option("script_location", str(self.migrations))
        known = {step.revision for step in ScriptDirectory.from_config(config).walk_revisions()}
        if version is not None and version not in known:
            _log.warning(
                "The %s's tables are of a later version, %r; they are used as they are.", self.what, version
            )
            return
        if version != self.latest:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            _log.info("The %s's tables are of version %r now.", self.what, self.latest)


#: The tables of a ledger.
LEDGER = TableSchema(
    what="ledger",
    setting="PP_LEDGER_URL",
    latest=LATEST,
    migrations=Path(__file__).resolve().parent / "ledger_migrations",
    marker="visits",
)


def installed_version(connection: sa.Connection) -> str | None:
    """Return the version of a ledger's tables; None if alembic never saw it."""
    return LEDGER.installed(connection)
