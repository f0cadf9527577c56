"""Tasks: what processes a run's files, and the jobs that a task consists of.

Names of states are PanDA's.
"""

from __future__ import annotations

__all__ = [
    "FAILED_JOBS",
    "FAILED_TASKS",
    "FINISHED",
    "TERMINAL_TASKS",
    "JobChanges",
    "JobRecord",
    "RunNote",
    "RunTask",
    "TaskPhase",
    "TaskSpec",
    "TaskState",
]

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from models.streaming.datasets import DatasetId


class TaskState(StrEnum):
    """How a task stands; every state in which it still works is `RUNNING`."""

    RUNNING = "running"
    DONE = "done"
    FINISHED = "finished"
    FAILED = "failed"
    ABORTED = "aborted"
    CANCELLED = "cancelled"
    CLOSED = "closed"


#: States in which a task does nothing more.
TERMINAL_TASKS = frozenset(TaskState) - {TaskState.RUNNING}
#: Those in which it did not do what it was for. `FINISHED` is none of them:
#: some files could not be processed, but the others were.
FAILED_TASKS = frozenset({TaskState.FAILED, TaskState.ABORTED, TaskState.CANCELLED, TaskState.CLOSED})

#: Status of a job that succeeded, and of jobs that did not.
FINISHED = "finished"
FAILED_JOBS = frozenset({"failed", "cancelled", "closed"})


@dataclass(frozen=True)
class TaskSpec:
    """A task that is to be submitted.

    Attributes
    ----------
    name : `str`
        The same whenever the task is submitted again; of two submissions of a
        name the second has no effect.
    run_id : `str`
        Digits.
    execution_id : `str` or `None`
    input : `models.streaming.datasets.DatasetId`
        The dataset whose files are processed.
    output : `str`
        Name of the dataset of what comes out.
    namespace : `str`
    until_closed : `bool`
        Whether files that are attached later are processed too, until the
        dataset is closed.
    """

    name: str
    run_id: str
    execution_id: str | None
    input: DatasetId
    output: str
    namespace: str
    until_closed: bool = True


@dataclass(frozen=True)
class JobRecord:
    """A job.

    Attributes
    ----------
    job_id : `str`
    status : `str`
        In PanDA's words; see `FINISHED` and `FAILED_JOBS`.
    inputs : `tuple` [`str`, ...]
        Names of its input files.
    attempts : `int`
        How often it was begun.
    error : `str` or `None`
    retried : `bool`
        Whether, having failed, it will be tried again.
    created, started, ended : `datetime.datetime` or `None`
        UTC.
    """

    job_id: str
    status: str
    inputs: tuple[str, ...] = ()
    attempts: int = 0
    error: str | None = None
    retried: bool = False
    created: datetime | None = None
    started: datetime | None = None
    ended: datetime | None = None

    @property
    def failed(self) -> bool:
        """Whether it failed for good."""
        return self.status in FAILED_JOBS and not self.retried

    @property
    def final(self) -> bool:
        """Whether its status does not change any more."""
        return self.status == FINISHED or self.status in FAILED_JOBS


@dataclass(frozen=True)
class JobChanges:
    """What became of a task's jobs since someone last asked.

    Attributes
    ----------
    jobs : `tuple` [`JobRecord`, ...]
    cursor : `object`
        To be handed over with the next question; means nothing to others, and
        nothing after a restart.
    more : `bool`
        Whether to ask again at once.
    """

    jobs: tuple[JobRecord, ...]
    cursor: object
    more: bool = False


class TaskPhase(StrEnum):
    """How far the processing agent is with a run's task."""

    EXPECTED = "expected"
    """The run is known, but has no file yet."""
    SUBMITTING = "submitting"
    """A task shall be submitted, and perhaps was."""
    SUBMITTED = "submitted"
    """There is a task, which is followed."""
    COMPLETE = "complete"
    """The task has ended, and its files have their last status."""
    GIVEN_UP = "given-up"
    """It could not be submitted, or followed to its end; another ``stf_ready``
    has it tried again.
    """


@dataclass(frozen=True)
class RunNote:
    """What messages said about a run.

    Attributes
    ----------
    dataset : `str` or `None`
        Name of its dataset, if told.
    ready : `bool`
        Whether its first file can be processed.
    file : `bool`
        Whether a file of it was announced.
    ended : `bool`
    total_files : `int` or `None`
    """

    run_id: str
    execution_id: str | None = None
    dataset: str | None = None
    ready: bool = False
    file: bool = False
    ended: bool = False
    total_files: int | None = None


@dataclass(frozen=True)
class RunTask:
    """What the processing agent keeps of a run.

    Attributes
    ----------
    run_id, execution_id
        See `RunNote`.
    due : `datetime.datetime`
        When to do something for it next, UTC.
    dataset : `str` or `None`
        Name of its dataset, if a message told one.
    phase : `TaskPhase`
    task_id : `str` or `None`
        The executor's name of the task.
    task_state : `TaskState` or `None`
    attempts : `int`
        How often in a row something failed: submission, later a look.
    error : `str` or `None`
        The last failure.
    submitted : `datetime.datetime` or `None`
        When the task was there.
    processed, failed : `int`
        Files by their last status.
    """

    run_id: str
    due: datetime
    execution_id: str | None = None
    dataset: str | None = None
    phase: TaskPhase = TaskPhase.EXPECTED
    task_id: str | None = None
    task_state: TaskState | None = None
    attempts: int = 0
    error: str | None = None
    submitted: datetime | None = None
    ended: bool = False
    total_files: int | None = None
    processed: int = 0
    failed: int = 0

    @property
    def run_number(self) -> int:
        """The run as a number."""
        return int(self.run_id)
