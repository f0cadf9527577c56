"""Tables of the embedded catalogue: datasets, and their files."""

from __future__ import annotations

__all__ = ["CATALOGUE_DATASETS", "CATALOGUE_FILES"]

import sqlalchemy as sa

from repos.ledger_tables import UtcDateTime
from repos.streaming.tables import metadata, row_id

CATALOGUE_DATASETS = sa.Table(
    "catalogue_datasets",
    metadata,
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("open", sa.Boolean, nullable=False),
    sa.Column("created", UtcDateTime, nullable=False),
    sa.Column("closed", UtcDateTime),
    sa.Column("expires", UtcDateTime, nullable=False, comment="Noted, and left to an operator to act on."),
)

#: One row a file; ids are in the order of attachment.
CATALOGUE_FILES = sa.Table(
    "catalogue_files",
    metadata,
    row_id(),
    sa.Column("scope", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("dataset", sa.Text, nullable=False, comment="Name of its dataset, of the same scope."),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("adler32", sa.Text, nullable=False),
    sa.Column("guid", sa.Text, nullable=False),
    sa.Column("metadata", sa.JSON, nullable=False),
    sa.Column("added", UtcDateTime, nullable=False),
    sa.UniqueConstraint("scope", "name", name="catalogue_file_once"),
    sa.Index("catalogue_files_of_dataset", "scope", "dataset", "id"),
)
