"""The tasks of runs, and what the processing agent needs of where it keeps them."""

from __future__ import annotations

__all__ = ["TaskStore", "task_of"]

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from models.streaming.datasets import DatasetId
from models.streaming.names import dataset_name, output_dataset_name
from models.streaming.tasks import RunNote, RunTask, TaskPhase, TaskSpec


class TaskStore(Protocol):
    """Keeps what is known of the runs of a namespace. Every method raises
    `models.errors.TemporarilyUnavailable` while the database is away.
    """

    def note(self, notes: Sequence[RunNote]) -> None:
        """Keep what messages said, all of it or nothing. A run whose first
        file is ready gets to `models.streaming.tasks.TaskPhase.SUBMITTING`,
        once. One whose task has failed is followed again, some time later, if
        there are files still: nothing will process them.
        """

    def task(self, run_id: str) -> RunTask | None:
        """Return what there is of a run."""

    def tasks(self, phases: Collection[TaskPhase] = ...) -> Sequence[RunTask]:
        """Return runs of some phases; by default, those that need work."""

    def executions(self, among: Collection[str]) -> Collection[str]:
        """Return those of some executions whose runs have a task, or had one."""

    def counts(self) -> Mapping[TaskPhase, int]:
        """Return how many runs there are of each phase."""

    def save(self, task: RunTask) -> None:
        """Keep what became of a run that is known."""


def task_of(run: RunTask, *, namespace: str, scope: str, nickname: str) -> TaskSpec:
    """Return the task of a run."""
    output = output_dataset_name(run.run_id, nickname)
    return TaskSpec(
        name=output,
        run_id=run.run_id,
        execution_id=run.execution_id,
        input=DatasetId(scope, run.dataset or dataset_name(run.run_id)),
        output=output,
        namespace=namespace,
    )
