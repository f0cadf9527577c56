"""What the processing agent lives in: a monitor, an executor, a clock, and a
database that outlives it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from models.errors import InvalidMessage, TemporarilyUnavailable
from models.streaming.messages import EndRun, RunImminent, StfGen, StfReady
from models.streaming.monitoring import Execution, ExecutionStatus, FileTally, FileUpdate, StfFile, StfStatus
from models.streaming.names import stf_filename
from models.streaming.tasks import JobChanges, JobRecord, RunTask, TaskSpec, TaskState
from repos.streaming.database import create_streaming_engine
from repos.streaming.task_store import TaskStore
from services.streaming.processing_agent import ProcessingAgent
from services.streaming.task_attendance import ProcessingLimits

NAMESPACE = "test-user"
RUN = "100010"
EXECUTION = "prompt_processing-alice-0001"


class PlainMonitor:
    """Files, executions and messages, in memory."""

    def __init__(self) -> None:
        self.rows: dict[UUID, StfFile] = {}
        self.updates: list[FileUpdate] = []
        self.asked: list[frozenset[StfStatus] | None] = []
        self.names_asked = 0
        self.asked_executions: list[ExecutionStatus] = []
        self.known = {EXECUTION: Execution(execution_id=EXECUTION, status="running", namespace=NAMESPACE)}
        self.bodies: dict[str, list[Mapping[str, Any]]] = {}
        self.away = False
        self.refused: set[str] = set()

    def add_files(self, *sequences: int, run: str = RUN, **metadata: Any) -> None:
        for sequence in sequences:
            row = StfFile(
                file_id=uuid4(),
                run=int(run),
                stf_filename=stf_filename(run, sequence),
                status=StfStatus.REGISTERED,
                metadata={"sequence": sequence, **metadata},
            )
            self.rows[row.file_id] = row

    def row(self, sequence: int, run: str = RUN) -> StfFile:
        return next(r for r in self.rows.values() if r.stf_filename == stf_filename(run, sequence))

    def statuses(self) -> dict[int, str]:
        return {row.metadata["sequence"]: row.status.value for row in self.rows.values()}

    def files(self, run_number: int, *, statuses: Collection[StfStatus] | None = None) -> Sequence[StfFile]:
        self._check()
        self.asked.append(None if statuses is None else frozenset(statuses))
        return [
            row
            for row in self.rows.values()
            if row.run == run_number and (statuses is None or row.status in statuses)
        ]

    def file_names(self, run_number: int) -> Iterator[str]:
        self._check()
        self.names_asked += 1
        yield from [row.stf_filename for row in self.rows.values() if row.run == run_number]

    def tally_files(self, run_number: int) -> dict[str, FileTally]:
        self._check()
        rows = [row for row in self.rows.values() if row.run == run_number]
        latest = {row.status.value: row for row in rows}
        counts = Counter(row.status.value for row in rows)
        return {status: FileTally(count=counts[status], latest=row) for status, row in latest.items()}

    def update_files(self, run_number: int, updates: Sequence[FileUpdate]) -> None:
        self._check()
        if any(self.rows[update.file_id].stf_filename in self.refused for update in updates):
            raise InvalidMessage("one of them will not do")
        for update in updates:
            row = self.rows[update.file_id]
            assert row.run == run_number
            merged = {**row.metadata, **update.metadata}
            self.rows[row.file_id] = row.model_copy(update={"status": update.status, "metadata": merged})
            self.updates.append(update)

    def executions(self, namespace: str, *, status: ExecutionStatus) -> Sequence[Execution]:
        self._check()
        self.asked_executions.append(status)
        return [e for e in self.known.values() if e.namespace == namespace and e.status == status]

    def execution(self, execution_id: str) -> Execution | None:
        self._check()
        return self.known.get(execution_id)

    def end_execution(self, execution_id: str, status: ExecutionStatus, *, end_time: datetime) -> None:
        self._check()
        ended = {"status": status, "end_time": end_time}
        self.known[execution_id] = self.known[execution_id].model_copy(update=ended)

    def messages(self, execution_id: str) -> Sequence[Mapping[str, Any]]:
        self._check()
        return self.bodies.get(execution_id, [])

    def _check(self) -> None:
        if self.away:
            raise TemporarilyUnavailable("the monitor is away")


class PlainExecutor:
    """Has tasks do what the test says."""

    def __init__(self) -> None:
        self.submitted: list[TaskSpec] = []
        self.ids: dict[str, str] = {}
        self.states: dict[str, TaskState] = {}
        self.changes: list[JobRecord] = []
        self.started = 0
        self.fails: Exception | None = None
        self.dies_after_submission = False

    def start(self) -> None:
        self.started += 1

    def submit(self, task: TaskSpec) -> str:
        if self.fails is not None:
            raise self.fails
        self.submitted.append(task)
        id_ = self.ids.setdefault(task.name, str(501 + len(self.ids)))
        self.states.setdefault(id_, TaskState.RUNNING)
        if self.dies_after_submission:
            raise KeyboardInterrupt
        return id_

    def status(self, task_id: str) -> TaskState:
        if self.fails is not None:
            raise self.fails
        return self.states[task_id]

    def jobs(self, task_id: str, *, cursor: object | None = None) -> JobChanges:
        after = cursor if isinstance(cursor, int) else 0
        page = tuple(self.changes[after : after + 2])
        return JobChanges(page, after + len(page), more=after + len(page) < len(self.changes))

    def add(self, job_id: str, sequence: int, status: str, **more: Any) -> None:
        self.changes.append(JobRecord(job_id, status, (stf_filename(RUN, sequence),), **more))

    def close(self) -> None:
        pass


class World:
    """Monitor, executor and database; agents in it may die."""

    def __init__(self, directory: Path, **limits: Any) -> None:
        self.monitor = PlainMonitor()
        self.executor = PlainExecutor()
        self.time = datetime(2026, 5, 1, tzinfo=UTC)
        self.limits = ProcessingLimits(**{"poll_interval": 10.0, "patience": 600.0, **limits})
        self._engine = create_streaming_engine(f"sqlite:///{directory}/agent.sqlite3")
        self.store = TaskStore(self._engine, namespace=NAMESPACE, now=lambda: self.time)
        self.agent = self.new_agent()

    def new_agent(self) -> ProcessingAgent:
        self.agent = ProcessingAgent(
            name="processing-agent-alice-1",
            namespace=NAMESPACE,
            nickname="alice",
            store=self.store,
            executor=self.executor,
            monitor=self.monitor,  # type: ignore[arg-type]
            limits=self.limits,
            now=lambda: self.time,
        )
        return self.agent

    @property
    def run(self) -> RunTask:
        task = self.store.task(RUN)
        assert task is not None
        return task

    def advance(self, seconds: float = 0.0) -> float | None:
        """Let time pass; have the agent do all that is due."""
        self.time += timedelta(seconds=seconds)
        due: float | None = 0.0
        while due == 0.0:
            due = self.agent.advance()
        return due


COMMON = {"namespace": NAMESPACE, "execution_id": EXECUTION, "run_id": RUN}


def run_imminent(**more: Any) -> RunImminent:
    return RunImminent(**{**COMMON, "dataset": f"swf.{RUN}.run", **more})


def stf_ready(**more: Any) -> StfReady:
    return StfReady(**{**COMMON, **more})


def stf_gen(sequence: int) -> StfGen:
    return StfGen(**COMMON, sequence=sequence, filename=stf_filename(RUN, sequence))


def end_run(total: int) -> EndRun:
    return EndRun(**COMMON, total_stf_files=total)
