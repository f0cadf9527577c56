"""Tables of the processing agent and of the local executor."""

from __future__ import annotations

__all__ = ["LOCAL_JOBS", "LOCAL_TASKS", "RUN_TASKS"]

import sqlalchemy as sa

from repos.ledger_tables import UtcDateTime
from repos.streaming.tables import metadata, row_id

#: One row a run: what the processing agent does for it.
RUN_TASKS = sa.Table(
    "run_tasks",
    metadata,
    sa.Column("namespace", sa.Text, primary_key=True),
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("execution_id", sa.Text),
    sa.Column("dataset", sa.Text, comment="Name of the run's dataset, if a message told one."),
    sa.Column("phase", sa.Text, nullable=False, comment="models.streaming.tasks.TaskPhase."),
    sa.Column("task_id", sa.Text, comment="The executor's name of the task."),
    sa.Column("task_state", sa.Text, comment="models.streaming.tasks.TaskState."),
    sa.Column("attempts", sa.Integer, nullable=False, comment="Failures in a row."),
    sa.Column("error", sa.Text),
    sa.Column("due", UtcDateTime, nullable=False),
    sa.Column("submitted", UtcDateTime),
    sa.Column("ended", sa.Boolean, nullable=False),
    sa.Column("total_files", sa.Integer),
    sa.Column("processed", sa.Integer, nullable=False),
    sa.Column("failed", sa.Integer, nullable=False),
    sa.Index("run_tasks_by_phase", "namespace", "phase"),
    sa.Index("run_tasks_by_execution", "namespace", "execution_id"),
)

#: Tasks of the local executor.
LOCAL_TASKS = sa.Table(
    "local_tasks",
    metadata,
    row_id(),
    sa.Column("namespace", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("execution_id", sa.Text),
    sa.Column("scope", sa.Text, nullable=False),
    sa.Column("dataset", sa.Text, nullable=False),
    sa.Column("output", sa.Text, nullable=False),
    sa.Column("until_closed", sa.Boolean, nullable=False),
    sa.Column("state", sa.Text, nullable=False, comment="models.streaming.tasks.TaskState."),
    sa.Column("created", UtcDateTime, nullable=False),
    sa.Column("ended", UtcDateTime),
    sa.UniqueConstraint("namespace", "name", name="local_task_once"),
    sa.Index("local_tasks_by_state", "namespace", "state"),
)

#: Jobs of the local executor, one a file of a task's dataset.
LOCAL_JOBS = sa.Table(
    "local_jobs",
    metadata,
    row_id(),
    sa.Column("task", sa.BigInteger, nullable=False),
    sa.Column("filename", sa.Text, nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("adler32", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False, comment="activated, running, finished or failed."),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("created", UtcDateTime, nullable=False),
    sa.Column("started", UtcDateTime),
    sa.Column("ended", UtcDateTime),
    sa.Column("change", sa.BigInteger, nullable=False, comment="Rises with every change of the task's jobs."),
    sa.UniqueConstraint("task", "filename", name="local_job_once"),
    sa.Index("local_jobs_by_change", "task", "change"),
)
