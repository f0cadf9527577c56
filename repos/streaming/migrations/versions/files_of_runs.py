"""Files of one run are found in the order in which they are listed."""

from __future__ import annotations

__all__ = ["downgrade", "upgrade"]

from alembic import op

revision = "files_of_runs"
down_revision = "first"
branch_labels = None
depends_on = None

_TABLE = "swf_stf_files"


def upgrade() -> None:
    """Make the indices by which a run of any length is listed a page at a
    time; the first one does what the one that goes did.
    """
    op.create_index("swf_stf_files_status", _TABLE, ["run", "status", "created_at", "stf_filename"])
    op.create_index("swf_stf_files_recent", _TABLE, ["run", "created_at", "stf_filename"])
    op.drop_index("swf_stf_files_run", _TABLE)


def downgrade() -> None:
    """Return to the index that there was."""
    op.create_index("swf_stf_files_run", _TABLE, ["run", "status"])
    op.drop_index("swf_stf_files_recent", _TABLE)
    op.drop_index("swf_stf_files_status", _TABLE)
