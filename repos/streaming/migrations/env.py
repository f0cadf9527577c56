"""What alembic runs: the migrations on the connection that it was given.

`repos.ledger_schema` calls it, inside a transaction of its own.
"""

from __future__ import annotations

__all__: list[str] = []

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    # A ledger's tables may be in the same database.
    version_table="streaming_version",
    # In SQLite too, statements that change tables can be rolled back.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
