"""What the processing agent keeps of runs, in both kinds of databases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from models.streaming.datasets import CatalogueFile
from models.streaming.tasks import FINISHED, RunNote, TaskPhase, TaskState
from repos.streaming.database import create_streaming_engine
from repos.streaming.local_jobs import LocalJobs
from repos.streaming.task_store import TaskStore
from simulator.servers.postgresql import PostgreSQLServer
from tests.repos.streaming.executing import NAMESPACE, TASK

NOW = datetime(2026, 5, 1, tzinfo=UTC)
RUN = "100010"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    url = f"sqlite:///{tmp_path}/agent.sqlite3"
    if request.param == "postgresql":
        server: PostgreSQLServer = request.getfixturevalue("postgresql")
        url = server.create_database(f"tasks_{uuid4().hex}")
    engine = create_streaming_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def store(engine: sa.Engine) -> TaskStore:
    return TaskStore(engine, namespace=NAMESPACE, now=lambda: NOW)


def test_notes_of_messages_add_up(store: TaskStore) -> None:
    store.note([RunNote(RUN, dataset="d"), RunNote("100011")])
    store.note([RunNote(RUN, "e", dataset="other"), RunNote(RUN, "late", ended=True, total_files=3)])
    task = store.task(RUN)
    assert task is not None
    assert (task.dataset, task.execution_id, task.ended, task.total_files) == ("d", "e", True, 3)
    assert (task.phase, task.due, task.run_number) == (TaskPhase.EXPECTED, NOW, 100010)
    assert store.tasks() == []
    assert [t.run_id for t in store.tasks([TaskPhase.EXPECTED])] == [RUN, "100011"]
    assert store.counts() == {TaskPhase.EXPECTED: 2}
    assert store.task("1") is None


def test_a_task_survives(store: TaskStore, engine: sa.Engine) -> None:
    store.note([RunNote(RUN, "e"), RunNote("100011", "f")])
    assert store.executions(["e", "f", "g"]) == set()
    store.note([RunNote(RUN, ready=True)])
    assert store.executions(["e", "f", "g"]) == {"e"}
    (task,) = store.tasks()
    assert task.phase is TaskPhase.SUBMITTING
    saved = replace(
        task,
        phase=TaskPhase.SUBMITTED,
        task_id="7",
        task_state=TaskState.RUNNING,
        attempts=2,
        error="e",
        due=NOW + timedelta(seconds=5),
        submitted=NOW,
        processed=3,
        failed=1,
    )
    store.save(saved)
    assert TaskStore(engine, namespace=NAMESPACE).tasks() == [saved]
    store.note([RunNote(RUN, ready=True)])
    assert store.task(RUN) == saved
    assert TaskStore(engine, namespace="another").task(RUN) is None


@pytest.mark.parametrize(("task_id", "phase"), [(None, TaskPhase.SUBMITTING), ("7", TaskPhase.SUBMITTED)])
def test_a_run_that_was_given_up_is_tried_again(
    store: TaskStore, task_id: str | None, phase: TaskPhase
) -> None:
    store.note([RunNote(RUN, ready=True)])
    (task,) = store.tasks()
    store.save(replace(task, phase=TaskPhase.GIVEN_UP, task_id=task_id, error="e", attempts=4))
    assert store.tasks() == []
    store.note([RunNote(RUN, ready=True)])
    (again,) = store.tasks()
    assert (again.phase, again.attempts, again.error) == (phase, 0, None)


def test_a_question_costs_the_same_however_many_runs_there_were(engine: sa.Engine, store: TaskStore) -> None:
    """SQLite says how it looks; PostgreSQL decides by how many there are."""
    if engine.dialect.name != "sqlite":
        return
    plans: list[str] = []

    @sa.event.listens_for(engine, "before_cursor_execute")
    def explain(_connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "run_tasks" in statement:
            rows = cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
            plans.append(rows[0][3])

    store.tasks()
    store.tasks([TaskPhase.EXPECTED])
    store.executions(["e"])
    by_phase = "SEARCH run_tasks USING INDEX run_tasks_by_phase (namespace=? AND phase=?)"
    by_execution = "SEARCH run_tasks USING INDEX run_tasks_by_execution (namespace=? AND execution_id=?)"
    assert plans == [by_phase, by_phase, by_execution]


def test_old_jobs_are_forgotten_but_not_their_task(engine: sa.Engine) -> None:
    jobs = LocalJobs(engine, namespace=NAMESPACE)
    task, running = jobs.add_task(TASK), jobs.add_task(replace(TASK, name="running"))
    for one in (task, running):
        jobs.add_jobs(one.id, [CatalogueFile("1.stf", Path("/x/1.stf"), 1, "00000001", "g")], change=1)
    jobs.end_task(task.id, TaskState.DONE)
    now = datetime.now(UTC)
    assert jobs.forget(now - timedelta(days=1)) == []
    assert LocalJobs(engine, namespace="another").forget(now + timedelta(days=1)) == []
    assert jobs.forget(now + timedelta(days=1)) == [task]
    assert jobs.forget(now + timedelta(days=1)) == []
    assert (jobs.jobs(task.id), len(jobs.jobs(running.id))) == ([], 1)
    assert (jobs.add_task(TASK), jobs.state(task.id)) == (task, TaskState.DONE)


def test_jobs_of_the_local_executor(engine: sa.Engine) -> None:
    jobs = LocalJobs(engine, namespace=NAMESPACE)
    task = jobs.add_task(TASK)
    assert jobs.add_task(replace(TASK, output="another")) == task
    assert LocalJobs(engine, namespace="another").add_task(TASK) != task
    assert jobs.open_tasks() == [task]
    files = [CatalogueFile(f"{n}.stf", Path(f"/x/{n}.stf"), 1, "00000001", "g") for n in range(3)]
    first = jobs.add_jobs(task.id, files[:2], change=1)
    assert [job.filename for job in first] == ["0.stf", "1.stf"]
    again = jobs.add_jobs(task.id, files, change=3)
    assert [job.id for job in again[:2]] == [job.id for job in first]
    assert [job.filename for job in again] == ["0.stf", "1.stf", "2.stf"]
    assert jobs.last_change(task.id) == 5
    jobs.save([(6, replace(first[0], status=FINISHED, attempts=1, started=NOW, ended=NOW))])
    ((change, record),) = jobs.changes(task.id, after=5, limit=10)
    assert (change, record.inputs, record.status, record.ended) == (6, ("0.stf",), FINISHED, NOW)
    assert [job.status for job in jobs.jobs(task.id)] == [FINISHED, "activated", "activated"]
    jobs.end_task(task.id, TaskState.FINISHED)
    assert (jobs.state(task.id), jobs.open_tasks()) == (TaskState.FINISHED, [])
    assert jobs.state(999) is None
