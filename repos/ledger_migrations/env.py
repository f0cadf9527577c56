"""What alembic runs: the migrations on the connection that it was given.

`repos.ledger_schema` calls it, inside a transaction of its own.
"""

from __future__ import annotations

__all__: list[str] = []

from alembic import context

# In SQLite too, statements that change tables can be rolled back.
context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
