"""The first tables."""

from __future__ import annotations

__all__: list[str] = []

import importlib
import importlib.util

from alembic import op

from repos.streaming.tables import metadata

revision = "first"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them."""
    for name in ("monitor_tables", "catalogue_tables", "data_tables", "task_tables"):
        if importlib.util.find_spec(f"repos.streaming.{name}") is not None:
            importlib.import_module(f"repos.streaming.{name}")
    metadata.create_all(op.get_bind())
