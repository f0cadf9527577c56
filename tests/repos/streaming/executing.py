"""Datasets to execute tasks on, and an executor for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from models.errors import TemporarilyUnavailable
from models.streaming.datasets import CatalogueFile, DatasetId
from models.streaming.tasks import JobRecord, TaskSpec, TaskState
from repos.streaming.database import create_streaming_engine
from repos.streaming.local_executor import LocalExecutor
from repos.streaming.local_jobs import LocalJobs
from repos.streaming.payloads import PayloadRunner, parse_payload
from services.streaming.executor import Executor

NAMESPACE = "test-user"
DATASET = DatasetId("group.daq", "swf.100010.run")
TASK = TaskSpec(
    name="user.alice.swf.100010.processed",
    run_id="100010",
    execution_id="prompt_processing-alice-0001",
    input=DATASET,
    output="user.alice.swf.100010.processed",
    namespace=NAMESPACE,
)
PATH = "/usr/local/bin:/usr/bin:/bin"


def until(what: Callable[[], Any], seconds: float = 120.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)
    return found


class Dataset:
    """A catalogue of one dataset."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "stf"
        self.directory.mkdir(exist_ok=True)
        self.attached: list[CatalogueFile] = []
        self.open: bool | None = True
        self.away = False

    def attach(self, *sequences: int, content: str = "{}") -> None:
        for sequence in sequences:
            path = self.directory / f"swf.100010.{sequence:06d}.stf"
            path.write_text(content)
            self.attached.append(CatalogueFile(path.name, path, len(content), "00f600fb", "a-guid"))

    def files(self, dataset: DatasetId, *, after: int = 0) -> Sequence[CatalogueFile]:
        assert dataset == DATASET
        if self.away:
            raise TemporarilyUnavailable("the catalogue is away")
        return self.attached[after:]

    def is_open(self, dataset: DatasetId) -> bool | None:
        assert dataset == DATASET
        if self.away:
            raise TemporarilyUnavailable("the catalogue is away")
        return self.open


class Place:
    """A directory with a dataset, in which executors come and go."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.dataset = Dataset(directory)
        self.outputs = directory / "outputs" / TASK.output
        self.executors: list[LocalExecutor] = []

    def engine(self) -> sa.Engine:
        return create_streaming_engine(f"sqlite:///{self.directory}/agent.sqlite3")

    def executor(
        self,
        payload: str = "true",
        *,
        workers: int = 2,
        attempts: int = 1,
        timeout: float | None = 20.0,
        namespace: str = NAMESPACE,
        keep: timedelta | None = None,
    ) -> LocalExecutor:
        executor = LocalExecutor(
            jobs=LocalJobs(self.engine(), namespace=namespace),
            catalogue=self.dataset,
            runner=PayloadRunner(
                command=parse_payload(payload, directory=self.directory, search=PATH),
                directory=self.directory / "outputs",
                environment={"PATH": PATH},
                timeout=timeout,
            ),
            workers=workers,
            attempts=attempts,
            poll=(0.02, 0.1),
            keep=keep,
        )
        self.executors.append(executor)
        return executor

    def close(self) -> None:
        for executor in self.executors:
            executor.close()

    def names(self) -> list[str]:
        return sorted(path.name for path in self.outputs.iterdir() if not path.name.startswith("."))


def ended(executor: Executor, task_id: str) -> TaskState:
    """Wait until a task has ended."""
    until(lambda: executor.status(task_id) is not TaskState.RUNNING)
    return executor.status(task_id)


def all_jobs(executor: LocalExecutor, task_id: str) -> list[JobRecord]:
    return sorted(executor.jobs(task_id).jobs, key=lambda job: job.inputs)
