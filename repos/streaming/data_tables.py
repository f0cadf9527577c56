"""Tables of the data agent: runs, and their files."""

from __future__ import annotations

__all__ = ["DATA_FILES", "DATA_RUNS"]

import sqlalchemy as sa

from repos.ledger_tables import UtcDateTime
from repos.streaming.tables import metadata

DATA_RUNS = sa.Table(
    "data_runs",
    metadata,
    sa.Column("namespace", sa.Text, primary_key=True),
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("scope", sa.Text, nullable=False),
    sa.Column("dataset", sa.Text, nullable=False),
    sa.Column("execution_id", sa.Text),
    sa.Column("container", sa.Text, comment="Directory in which the dataset's folder is."),
    sa.Column("announced", sa.Boolean, nullable=False, comment="Whether its run_imminent came."),
    sa.Column("run_conditions", sa.JSON, nullable=False),
    sa.Column("first_seen", UtcDateTime, nullable=False),
    sa.Column("last_sign", UtcDateTime, nullable=False),
    sa.Column("ended", UtcDateTime, comment="When its end became known."),
    sa.Column("end_assumed", sa.Boolean, nullable=False, comment="Whether end_run never came."),
    sa.Column("total", sa.BigInteger, comment="Number of files that end_run told."),
    sa.Column("dataset_created", sa.Boolean, nullable=False),
    sa.Column("run_opened", sa.Boolean, nullable=False, comment="Whether the monitor knows the run."),
    sa.Column("ready", sa.Boolean, nullable=False, comment="Whether stf_ready is sent or stored to be."),
    sa.Column("ready_heard", sa.Boolean, nullable=False),
    sa.Column("closed", UtcDateTime, comment="When the dataset was closed."),
    sa.Column("finished", UtcDateTime),
    sa.Column("complete", sa.Boolean, comment="Whether the closed dataset has all files."),
    sa.Column("note", sa.Text, comment="What went wrong."),
    sa.Index("data_runs_unfinished", "namespace", "finished"),
)

DATA_FILES = sa.Table(
    "data_files",
    metadata,
    sa.Column("namespace", sa.Text, primary_key=True),
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("filename", sa.Text, primary_key=True),
    sa.Column("guid", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("sequence", sa.BigInteger),
    sa.Column("machine_state", sa.Text),
    sa.Column("substate", sa.Text),
    sa.Column("expected_size", sa.BigInteger, comment="As announced."),
    sa.Column("expected_checksum", sa.Text, comment="As announced."),
    sa.Column("size_bytes", sa.BigInteger),
    sa.Column("adler32", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False, comment="How often it was looked for in vain."),
    sa.Column("due", UtcDateTime, comment="When to look for it again; null: now."),
    sa.Column("error", sa.Text),
    sa.Index("data_files_by_state", "namespace", "run_id", "state"),
)
