"""Tasks and jobs of the local executor, kept in the database."""

from __future__ import annotations

__all__ = ["LocalJob", "LocalJobs", "LocalTask"]

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from models.streaming.datasets import CatalogueFile, DatasetId
from models.streaming.tasks import FAILED_JOBS, FINISHED, JobRecord, TaskSpec, TaskState
from repos.ledger_database import reading, writing
from repos.streaming.task_tables import LOCAL_JOBS, LOCAL_TASKS

#: Status of a job that waits; PanDA's word.
WAITING = "activated"
RUNNING = "running"
FAILED = "failed"
#: Names that a question has, and tasks that are forgotten at once.
_AT_ONCE = 500


@dataclass(frozen=True)
class LocalTask:
    """A task and its id."""

    id: int
    spec: TaskSpec


@dataclass(frozen=True)
class LocalJob:
    """A job, as it is in the table.

    Attributes
    ----------
    id, task : `int`
    filename, path, adler32 : `str`
    size_bytes : `int`
    status : `str`
    attempts : `int`
        How often it was begun, and ended.
    error : `str` or `None`
    started, ended : `datetime.datetime` or `None`
    """

    id: int
    task: int
    filename: str
    path: str
    size_bytes: int
    adler32: str
    status: str = WAITING
    attempts: int = 0
    error: str | None = None
    started: datetime | None = None
    ended: datetime | None = None

    @property
    def final(self) -> bool:
        """Whether nothing more happens to it."""
        return self.status in (FINISHED, FAILED)


class LocalJobs:
    """Keeps tasks and jobs. Every method raises
    `models.errors.TemporarilyUnavailable` while the database cannot be
    reached. Only one process at a time may change a namespace's.

    Parameters
    ----------
    engine : `sqlalchemy.Engine`
        See `repos.streaming.database`.
    namespace : `str`
    """

    def __init__(self, engine: sa.Engine, *, namespace: str) -> None:
        self._engine = engine
        self._namespace = namespace
        self._insert = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert

    def add_task(self, spec: TaskSpec) -> LocalTask:
        """Keep a task, or return the one that there is of its name."""
        row = {
            "namespace": self._namespace,
            "name": spec.name,
            "run_id": spec.run_id,
            "execution_id": spec.execution_id,
            "scope": spec.input.scope,
            "dataset": spec.input.name,
            "output": spec.output,
            "until_closed": spec.until_closed,
            "state": TaskState.RUNNING.value,
            "created": datetime.now(UTC),
        }
        named = LOCAL_TASKS.c.namespace == self._namespace, LOCAL_TASKS.c.name == spec.name
        with writing(self._engine) as connection:
            connection.execute(self._insert(LOCAL_TASKS).values(row).on_conflict_do_nothing())
            found = connection.execute(sa.select(LOCAL_TASKS).where(*named)).mappings().one()
        return _task(found)

    def has_task(self, name: str) -> bool:
        """Say whether there is a task of a name."""
        named = LOCAL_TASKS.c.namespace == self._namespace, LOCAL_TASKS.c.name == name
        with reading(self._engine) as connection:
            return connection.execute(sa.select(LOCAL_TASKS.c.id).where(*named)).first() is not None

    def state(self, task: int) -> TaskState | None:
        """Return how a task stands; None if there is none of this id."""
        query = sa.select(LOCAL_TASKS.c.state).where(LOCAL_TASKS.c.id == task)
        with reading(self._engine) as connection:
            state = connection.execute(query).scalar_one_or_none()
        return None if state is None else TaskState(state)

    def open_tasks(self) -> list[LocalTask]:
        """Return tasks that have not ended."""
        query = sa.select(LOCAL_TASKS).where(
            LOCAL_TASKS.c.namespace == self._namespace, LOCAL_TASKS.c.state == TaskState.RUNNING.value
        )
        with reading(self._engine) as connection:
            return [_task(row) for row in connection.execute(query).mappings()]

    def jobs(self, task: int) -> list[LocalJob]:
        """Return all jobs of a task, in the order in which files came."""
        columns = [LOCAL_JOBS.c[name] for name in LocalJob.__dataclass_fields__]
        query = sa.select(*columns).where(LOCAL_JOBS.c.task == task).order_by(LOCAL_JOBS.c.id)
        with reading(self._engine) as connection:
            return [LocalJob(**row) for row in connection.execute(query).mappings()]

    def last_change(self, task: int) -> int:
        """Return the number of the last change of a task's jobs."""
        query = sa.select(sa.func.coalesce(sa.func.max(LOCAL_JOBS.c.change), 0))
        with reading(self._engine) as connection:
            return int(connection.execute(query.where(LOCAL_JOBS.c.task == task)).scalar_one())

    def changes(self, task: int, *, after: int, limit: int) -> list[tuple[int, JobRecord]]:
        """Return jobs of a task that changed, by the number of their last
        change, the oldest first.
        """
        query = (
            sa.select(LOCAL_JOBS)
            .where(LOCAL_JOBS.c.task == task, LOCAL_JOBS.c.change > after)
            .order_by(LOCAL_JOBS.c.change)
            .limit(limit)
        )
        with reading(self._engine) as connection:
            return [(row["change"], _record(row)) for row in connection.execute(query).mappings()]

    def add_jobs(self, task: int, files: Sequence[CatalogueFile], *, change: int) -> list[LocalJob]:
        """Make jobs for files, once each, and return them, also those that
        there were; changes count from `change`.
        """
        created = datetime.now(UTC)
        rows: list[dict[str, Any]] = [
            {
                "task": task,
                "filename": file.name,
                "path": str(file.path),
                "size_bytes": file.size_bytes,
                "adler32": file.adler32,
                "status": WAITING,
                "attempts": 0,
                "created": created,
                "change": change + number,
            }
            for number, file in enumerate(files)
        ]
        names = [file.name for file in files]
        columns = [LOCAL_JOBS.c[name] for name in LocalJob.__dataclass_fields__]
        jobs: list[LocalJob] = []
        with writing(self._engine) as connection:
            if names:
                connection.execute(self._insert(LOCAL_JOBS).on_conflict_do_nothing(), rows)
            for start in range(0, len(names), _AT_ONCE):
                # By name: an earlier call may have made them, and not lived to tell.
                here = LOCAL_JOBS.c.task == task, LOCAL_JOBS.c.filename.in_(names[start : start + _AT_ONCE])
                query = sa.select(*columns).where(*here)
                jobs += [LocalJob(**row) for row in connection.execute(query).mappings()]
        return sorted(jobs, key=lambda job: job.id)

    def save(self, jobs: Iterable[tuple[int, LocalJob]]) -> None:
        """Keep what became of jobs, each with the number of the change."""
        rows = [
            {
                "b_id": job.id,
                "b_change": change,
                **{f"b_{name}": getattr(job, name) for name in _CHANGING},
            }
            for change, job in jobs
        ]
        if not rows:
            return
        statement = (
            LOCAL_JOBS.update()
            .where(LOCAL_JOBS.c.id == sa.bindparam("b_id"))
            .values({name: sa.bindparam(f"b_{name}") for name in (*_CHANGING, "change")})
        )
        with writing(self._engine) as connection:
            connection.execute(statement, rows)

    def end_task(self, task: int, state: TaskState) -> None:
        """Note how a task ended."""
        values = {"state": state.value, "ended": datetime.now(UTC)}
        with writing(self._engine) as connection:
            connection.execute(LOCAL_TASKS.update().where(LOCAL_TASKS.c.id == task).values(values))

    def forget(self, ended_before: datetime) -> list[LocalTask]:
        """Remove jobs of tasks that ended before some time; return those
        tasks. The tasks stay: each is submitted once for ever.
        """
        old = sa.and_(
            LOCAL_TASKS.c.namespace == self._namespace,
            LOCAL_TASKS.c.ended < sa.literal(ended_before, LOCAL_TASKS.c.ended.type),
            sa.exists().where(LOCAL_JOBS.c.task == LOCAL_TASKS.c.id),
        )
        with writing(self._engine) as connection:
            query = sa.select(LOCAL_TASKS).where(old).limit(_AT_ONCE)
            tasks = [_task(row) for row in connection.execute(query).mappings()]
            connection.execute(LOCAL_JOBS.delete().where(LOCAL_JOBS.c.task.in_([task.id for task in tasks])))
        return tasks


#: What changes in the life of a job.
_CHANGING = ("status", "attempts", "error", "started", "ended")


def _task(row: sa.RowMapping) -> LocalTask:
    spec = TaskSpec(
        name=row["name"],
        run_id=row["run_id"],
        execution_id=row["execution_id"],
        input=DatasetId(row["scope"], row["dataset"]),
        output=row["output"],
        namespace=row["namespace"],
        until_closed=bool(row["until_closed"]),
    )
    return LocalTask(row["id"], spec)


def _record(row: sa.RowMapping) -> JobRecord:
    return JobRecord(
        job_id=str(row["id"]),
        status=row["status"],
        inputs=(row["filename"],),
        attempts=row["attempts"],
        error=row["error"] if row["status"] in FAILED_JOBS else None,
        created=row["created"],
        started=row["started"],
        ended=row["ended"],
    )
