"""What the processing agent keeps of the runs' tasks."""

from __future__ import annotations

__all__ = ["TaskStore"]

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from models.streaming.tasks import FAILED_TASKS, RunNote, RunTask, TaskPhase, TaskState
from repos.ledger_database import reading, writing
from repos.streaming.task_tables import RUN_TASKS

_COLUMNS = [column for column in RUN_TASKS.c if column.name != "namespace"]
_OPEN = (TaskPhase.SUBMITTING, TaskPhase.SUBMITTED)
#: For how long files of a run whose task has failed are let come together.
_LATE_FILES = timedelta(seconds=60)
#: Executions that a question has.
_AT_ONCE = 500


class TaskStore:
    """Keeps tasks of runs; a `services.streaming.run_tasks.TaskStore`.

    Parameters
    ----------
    engine : `sqlalchemy.Engine`
        See `repos.streaming.database`.
    namespace : `str`
    now : callable, optional
        Returns the present time, aware.
    """

    def __init__(
        self,
        engine: sa.Engine,
        *,
        namespace: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._engine = engine
        self._namespace = namespace
        self._now = now

    def note(self, notes: Sequence[RunNote]) -> None:
        """Keep what messages said, all of it or nothing.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        if not notes:
            return
        with writing(self._engine) as connection:
            known = self._select(connection, RUN_TASKS.c.run_id.in_({note.run_id for note in notes}))
            before = {task.run_id: task for task in known}
            after = dict(before)
            now = self._now()
            for note in notes:
                task = after.get(note.run_id) or RunTask(note.run_id, due=now)
                after[note.run_id] = _apply(task, note, now)
            for run_id, task in after.items():
                if run_id not in before:
                    connection.execute(RUN_TASKS.insert().values(self._row(task)))
                elif task != before[run_id]:
                    self._update(connection, task)

    def task(self, run_id: str) -> RunTask | None:
        """Return what there is of a run.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        with reading(self._engine) as connection:
            found = self._select(connection, RUN_TASKS.c.run_id == run_id)
        return found[0] if found else None

    def tasks(self, phases: Collection[TaskPhase] = _OPEN) -> list[RunTask]:
        """Return runs of some phases; by default, those that need work.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        with reading(self._engine) as connection:
            return self._select(connection, RUN_TASKS.c.phase.in_([phase.value for phase in phases]))

    def executions(self, among: Collection[str]) -> set[str]:
        """Return those of some executions whose runs have a task, or had one.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        query = sa.select(RUN_TASKS.c.execution_id).where(
            RUN_TASKS.c.namespace == self._namespace,
            RUN_TASKS.c.phase != TaskPhase.EXPECTED.value,
        )
        names = sorted(among)
        found: set[str] = set()
        with reading(self._engine) as connection:
            for start in range(0, len(names), _AT_ONCE):
                here = RUN_TASKS.c.execution_id.in_(names[start : start + _AT_ONCE])
                found.update(connection.execute(query.where(here)).scalars())
        return found

    def counts(self) -> dict[TaskPhase, int]:
        """Return how many runs there are of each phase.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        query = (
            sa.select(RUN_TASKS.c.phase, sa.func.count())
            .where(RUN_TASKS.c.namespace == self._namespace)
            .group_by(RUN_TASKS.c.phase)
        )
        with reading(self._engine) as connection:
            return {TaskPhase(phase): number for phase, number in connection.execute(query)}

    def save(self, task: RunTask) -> None:
        """Keep what became of a run that is known.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        with writing(self._engine) as connection:
            self._update(connection, task)

    def _select(self, connection: sa.Connection, which: sa.ColumnElement[bool]) -> list[RunTask]:
        query = sa.select(*_COLUMNS).where(RUN_TASKS.c.namespace == self._namespace, which)
        # Ordered here: for an order, SQLite would go through all runs of all times.
        return sorted(
            (_task(row) for row in connection.execute(query).mappings()), key=lambda task: task.run_id
        )

    def _update(self, connection: sa.Connection, task: RunTask) -> None:
        here = RUN_TASKS.c.namespace == self._namespace, RUN_TASKS.c.run_id == task.run_id
        connection.execute(RUN_TASKS.update().where(*here).values(self._row(task)))

    def _row(self, task: RunTask) -> dict[str, Any]:
        state = task.task_state
        plain = {"phase": task.phase.value, "task_state": state.value if state else None}
        return {**vars(task), **plain, "namespace": self._namespace}


def _apply(task: RunTask, note: RunNote, now: datetime) -> RunTask:
    values: dict[str, Any] = {}
    if note.execution_id and not task.execution_id:
        values["execution_id"] = note.execution_id
    if note.dataset and not task.dataset:
        values["dataset"] = note.dataset
    if note.ended:
        values["ended"] = True
    if note.total_files is not None:
        values["total_files"] = note.total_files
    if note.ready and task.phase in (TaskPhase.EXPECTED, TaskPhase.GIVEN_UP):
        # A task that there is already is followed, not submitted again.
        phase = TaskPhase.SUBMITTED if task.task_id else TaskPhase.SUBMITTING
        values |= {"phase": phase, "attempts": 0, "error": None, "due": now}
        if task.task_id:
            values["submitted"] = now
    has_failed = task.phase is TaskPhase.COMPLETE and task.task_state in FAILED_TASKS
    if has_failed and (note.file or note.ended):
        values |= {"phase": TaskPhase.SUBMITTED, "due": now + _LATE_FILES}
    return replace(task, **values)


def _task(row: sa.RowMapping) -> RunTask:
    values = dict(row)
    state = values["task_state"]
    values["phase"] = TaskPhase(values["phase"])
    values["task_state"] = TaskState(state) if state else None
    return RunTask(**values)
