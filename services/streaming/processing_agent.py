"""The prompt processing agent: one task for each run, followed to its end.

Of the messages about a run, ``stf_ready`` has its task submitted; the others
tell what may be expected, so that a run whose ``stf_ready`` never came is
found out. Submission is repeated until it is known to have worked, under a
name that only depends on the run: whoever repeats what, there is one task.
"""

from __future__ import annotations

__all__ = ["AGENT_TYPE", "ProcessingAgent", "ProcessingLimits", "task_of"]

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from models.errors import InvalidConfiguration, InvalidMessage, PromptProcessingError, TemporarilyUnavailable
from models.streaming.datasets import DatasetId
from models.streaming.messages import EndRun, Message, RunImminent, RunMessage, StfGen, StfReady
from models.streaming.monitoring import AgentState, ExecutionStatus
from models.streaming.names import DEFAULT_SCOPE, dataset_name, output_dataset_name
from models.streaming.tasks import FAILED_TASKS, RunNote, RunTask, TaskPhase, TaskSpec, TaskState
from services.streaming.agent import AgentFacts
from services.streaming.executor import Executor
from services.streaming.file_claims import Claimant
from services.streaming.missed_runs import MissedRuns
from services.streaming.monitor import Monitor
from services.streaming.run_tasks import TaskStore
from services.streaming.task_following import Followed, Follower

_log = logging.getLogger(__name__)

#: As the monitor knows it.
AGENT_TYPE = "PROCESSING"
#: Failures in a row from which on they count as trouble.
_TROUBLE = 3


@dataclass(frozen=True)
class ProcessingLimits:
    """How patient the agent is.

    Attributes
    ----------
    poll_interval : `float`
        Seconds between looks at a task.
    poll_timeout : `float`
        Seconds after which a task is given up; 0: never.
    submissions : `int`
        Tries to submit a task; 0: no limit.
    back_off : `tuple` [`float`, `float`]
        Seconds before something that failed is tried again, at first and at
        most.
    """

    poll_interval: float = 60.0
    poll_timeout: float = 0.0
    submissions: int = 20
    back_off: tuple[float, float] = (2.0, 60.0)

    def pause(self, attempts: int) -> timedelta:
        """Return for how long to wait after so many failures in a row."""
        first, longest = self.back_off
        return timedelta(seconds=min(longest, first * 2.0 ** min(attempts - 1, 16)))


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


class ProcessingAgent:
    """Submits and follows tasks; a `services.streaming.agent.AgentLogic`.

    Parameters
    ----------
    name : `str`
        How it signs what it does to files.
    namespace : `str`
    nickname : `str`
        In names of output datasets.
    store : `services.streaming.run_tasks.TaskStore`
    executor : `services.streaming.executor.Executor`
    monitor : `services.streaming.monitor.Monitor`
    limits : `ProcessingLimits`, optional
    scope : `str`, optional
        Of datasets.
    now : callable, optional
        Returns the present time, aware.
    """

    def __init__(
        self,
        *,
        name: str,
        namespace: str,
        nickname: str,
        store: TaskStore,
        executor: Executor,
        monitor: Monitor,
        limits: ProcessingLimits | None = None,
        scope: str = DEFAULT_SCOPE,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._name = name
        self._namespace = namespace
        self._nickname = nickname
        self._store = store
        self._executor = executor
        self._monitor = monitor
        self._limits = limits or ProcessingLimits()
        self._scope = scope
        self._now = now
        self._follower = Follower(executor=executor, monitor=monitor)
        self._missed = MissedRuns(namespace=namespace, store=store, monitor=monitor, now=now)
        self._followed: dict[str, Followed] = {}
        self._due: dict[str, datetime] = {}
        self._announced: str | None = None
        self._failure: str | None = None
        self._waits: dict[str, str] = {}
        self._done = 0
        self._open: set[str] = set()
        self._ends = {"completed": 0, "failed": 0}

    def receive(self, messages: Sequence[Message]) -> None:
        """Keep what messages say of runs."""
        notes: dict[str, RunNote] = {}
        for message in messages:
            if isinstance(message, RunMessage | StfReady):
                run_id = message.run_id
                notes[run_id] = _merge(notes.get(run_id) or RunNote(run_id), message)
        self._store.note(list(notes.values()))
        for run_id in notes:
            if run_id in self._followed:
                self._followed[run_id].dirty = True
            # A run that was given up may be tried again at once.
            if notes[run_id].ready:
                self._due.pop(run_id, None)
        for message in messages:
            if isinstance(message, RunImminent):
                self._announced = message.run_id
            elif isinstance(message, RunMessage | StfReady) and message.run_id == self._announced:
                self._announced = None

    def recover(self) -> None:
        """Look for runs whose files wait and that nobody told of."""
        self._executor.start()
        for note in self._missed.look():
            if note.ready:
                _log.info("Run %s has files but no task: nobody told, or not yet.", note.run_id)
            self._store.note([note])

    def advance(self) -> float | None:
        """Submit and look at what is due."""
        runs = self._store.tasks()
        self._open = {run.run_id for run in runs}
        soonest: datetime | None = None
        for run in runs:
            due: datetime | None = self._due.get(run.run_id, run.due)
            if due is not None and due <= self._now():
                due = self._attend(run)
            if due is not None:
                soonest = due if soonest is None else min(soonest, due)
        return None if soonest is None else max(0.0, (soonest - self._now()).total_seconds())

    def facts(self) -> AgentFacts:
        """Say how it is doing."""
        if self._announced:
            description = f"PROCESSING agent. Preparing for run {self._announced}"
        else:
            completed, failed = self._ends["completed"], self._ends["failed"]
            description = (
                f"PROCESSING agent. Active: {len(self._open)}, completed: {completed}, failed: {failed}"
            )
        waits = "; ".join(self._waits.values())
        return AgentFacts(
            state=AgentState.PROCESSING if self._open else AgentState.READY,
            description=description,
            current_stf_count=sum(followed.in_hand for followed in list(self._followed.values())),
            total_stf_processed=self._done,
            trouble=waits or self._failure,
        )

    def _attend(self, run: RunTask) -> datetime | None:
        """Do what is due for a run; say when more is."""
        try:
            if run.phase is TaskPhase.SUBMITTING:
                run = self._submit(run)
            return self._follow(run) if run.phase is TaskPhase.SUBMITTED else None
        except InvalidConfiguration:
            # No run's trouble: the executor is another agent's, for example,
            # which may be at this run.
            raise
        except PromptProcessingError as error:
            return self._put_off(run, error)
        except Exception as error:
            # Whatever is wrong with one run, there are others.
            _log.exception("Run %s fails.", run.run_id, extra=_labels(run))
            return self._put_off(run, error)

    def _submit(self, run: RunTask) -> RunTask:
        """Have the task submitted, once or again: it will be there once."""
        task = self._task(run)
        try:
            task_id = self._executor.submit(task)
        except InvalidMessage as error:
            return self._give_up(run, f"the task {task.name} was refused: {error}")
        except TemporarilyUnavailable as error:
            if 0 < self._limits.submissions <= run.attempts + 1:
                return self._give_up(
                    run, f"the task {task.name} could not be submitted {run.attempts + 1} times: {error}"
                )
            raise
        now = self._now()
        run = replace(
            run,
            phase=TaskPhase.SUBMITTED,
            task_id=task_id,
            task_state=TaskState.RUNNING,
            attempts=0,
            error=None,
            due=now,
            submitted=now,
        )
        self._store.save(run)
        self._settle(run.run_id)
        _log.info("Run %s is task %s, %s.", run.run_id, task_id, task.name, extra=_labels(run))
        return run

    def _follow(self, run: RunTask) -> datetime | None:
        followed = self._followed.get(run.run_id) or self._begin(run)
        if run.execution_id != followed.claimant.execution_id:
            # Of a run that was not announced, a later message told it.
            followed.claimant = replace(followed.claimant, execution_id=run.execution_id)
        progress = self._follower.look(followed)
        self._settle(run.run_id)
        self._done += progress.processed + progress.failed
        processed, failed = progress.totals or (
            run.processed + progress.processed,
            run.failed + progress.failed,
        )
        seen = replace(
            run, task_state=progress.state, attempts=0, error=None, processed=processed, failed=failed
        )
        if progress.complete:
            self._complete(seen)
            return None
        if self._is_overdue(seen):
            self._give_up(
                seen, f"its task {run.task_id} is followed no longer, after {self._limits.poll_timeout:g} s"
            )
            return None
        due = self._now() + timedelta(seconds=0.0 if progress.more else self._limits.poll_interval)
        if seen != run:
            self._store.save(seen)
        self._due[run.run_id] = due
        return due

    def _begin(self, run: RunTask) -> Followed:
        if run.task_id is None:
            raise InvalidMessage(f"run {run.run_id} is followed but has no task")
        claimant = Claimant(
            agent=self._name,
            namespace=self._namespace,
            execution_id=run.execution_id,
            task_id=run.task_id,
            output=self._task(run).output,
        )
        followed = self._followed[run.run_id] = Followed(run.run_number, claimant)
        return followed

    def _task(self, run: RunTask) -> TaskSpec:
        return task_of(run, namespace=self._namespace, scope=self._scope, nickname=self._nickname)

    def _complete(self, run: RunTask) -> None:
        state = run.task_state or TaskState.DONE
        what = f"run {run.run_id}: task {run.task_id} is {state.value}"
        counts = f"{run.processed} files processed, {run.failed} failed"
        if state in FAILED_TASKS:
            self._fail_execution(run)
            self._failure = f"{what}, {counts}"
            _log.error("%s, %s; execution %s has failed.", what, counts, run.execution_id, extra=_labels(run))
        elif run.failed:
            self._failure = f"{what}, {counts}"
            _log.error("%s, %s.", what, counts, extra=_labels(run))
        else:
            self._failure = None
            _log.info("%s, %s.", what, counts, extra=_labels(run))
        # Last: until then all of it is done again at the next start.
        self._store.save(replace(run, phase=TaskPhase.COMPLETE))
        self._ends["failed" if state in FAILED_TASKS else "completed"] += 1
        self._forget(run.run_id)

    def _give_up(self, run: RunTask, reason: str) -> RunTask:
        self._fail_execution(run)
        self._failure = f"run {run.run_id}: {reason}"
        _log.error(
            "Run %s is given up: %s. Another stf_ready has it tried again.",
            *(run.run_id, reason),
            extra=_labels(run),
        )
        given_up = replace(run, phase=TaskPhase.GIVEN_UP, error=reason)
        self._store.save(given_up)
        self._ends["failed"] += 1
        self._forget(run.run_id)
        return given_up

    def _fail_execution(self, run: RunTask) -> None:
        if run.execution_id is None:
            return
        try:
            self._monitor.end_execution(run.execution_id, ExecutionStatus.FAILED, end_time=self._now())
        except InvalidMessage as error:
            _log.error("The monitor refuses that execution %s failed: %s", run.execution_id, error)

    def _put_off(self, run: RunTask, error: Exception) -> datetime:
        """Keep that something failed, and when to try again."""
        attempts = run.attempts + 1
        reason = str(error) or type(error).__name__
        due = self._now() + self._limits.pause(attempts)
        if attempts == 1 or attempts % 10 == 0:
            _log.warning(
                "Run %s waits, after %d failures: %s", run.run_id, attempts, reason, extra=_labels(run)
            )
        if attempts >= _TROUBLE:
            self._waits[run.run_id] = f"run {run.run_id} waits: {reason}"
        self._store.save(replace(run, attempts=attempts, error=reason, due=due))
        self._due[run.run_id] = due
        return due

    def _is_overdue(self, run: RunTask) -> bool:
        if not self._limits.poll_timeout or run.submitted is None:
            return False
        return self._now() - run.submitted > timedelta(seconds=self._limits.poll_timeout)

    def _settle(self, run_id: str) -> None:
        self._waits.pop(run_id, None)
        self._due.pop(run_id, None)

    def _forget(self, run_id: str) -> None:
        self._settle(run_id)
        self._open.discard(run_id)
        self._followed.pop(run_id, None)


def _labels(run: RunTask) -> dict[str, str | None]:
    """Return what a line of the log about a run is found by."""
    return {"run_id": run.run_id, "execution_id": run.execution_id}


def _merge(note: RunNote, message: RunMessage | StfReady) -> RunNote:
    note = replace(note, execution_id=note.execution_id or message.execution_id)
    if isinstance(message, RunImminent):
        return replace(note, dataset=message.dataset_name)
    if isinstance(message, EndRun):
        return replace(note, ended=True, total_files=message.total_stf_files)
    if isinstance(message, StfGen):
        return replace(note, file=True)
    return replace(note, ready=True) if isinstance(message, StfReady) else note
