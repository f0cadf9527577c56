"""What is due for a run that needs a task: submit it, follow it to its end.

Submission is repeated until it is known to have worked, under a name that only
depends on the run: whoever repeats what, there is one task.
"""

from __future__ import annotations

__all__ = ["ProcessingLimits", "TaskAttendance"]

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from models.errors import InvalidConfiguration, InvalidMessage, PromptProcessingError, TemporarilyUnavailable
from models.streaming.tasks import RunTask, TaskPhase, TaskSpec, TaskState
from services.streaming.executor import Executor
from services.streaming.file_claims import Claimant
from services.streaming.monitor import Monitor
from services.streaming.run_tasks import TaskStore, task_of
from services.streaming.slow_calls import LOOK, SlowCalls, StillBusy
from services.streaming.task_ends import TaskEnds, labels
from services.streaming.task_following import Followed, Follower

_log = logging.getLogger(__name__)

#: Failures in a row from which on they count as trouble.
_TROUBLE = 3
#: Runs in trouble that a sign of life names.
_NAMED = 3
#: What takes long, and may be under way for a run.
_SUBMIT, _LOOK_AT = "submit the task", "look at the task"


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
    patience : `float`
        Seconds for which all wait for the executor when it is asked about one
        run, before others have their turn meanwhile.
    """

    poll_interval: float = 60.0
    poll_timeout: float = 0.0
    submissions: int = 20
    back_off: tuple[float, float] = (2.0, 60.0)
    patience: float = 0.2

    def pause(self, attempts: int) -> timedelta:
        """Return for how long to wait after so many failures in a row."""
        first, longest = self.back_off
        return timedelta(seconds=min(longest, first * 2.0 ** min(attempts - 1, 16)))


class TaskAttendance:
    """Does what is due for runs, one at a time, and remembers how they stand.

    Parameters
    ----------
    name : `str`
        How the agent signs what it does to files.
    namespace : `str`
    nickname : `str`
        In names of output datasets.
    scope : `str`
        Of datasets.
    store : `services.streaming.run_tasks.TaskStore`
    executor : `services.streaming.executor.Executor`
    monitor : `services.streaming.monitor.Monitor`
    limits : `ProcessingLimits`
    now : callable
        Returns the present time, aware.
    """

    def __init__(
        self,
        *,
        name: str,
        namespace: str,
        nickname: str,
        scope: str,
        store: TaskStore,
        executor: Executor,
        monitor: Monitor,
        limits: ProcessingLimits,
        now: Callable[[], datetime],
    ) -> None:
        self._name = name
        self._namespace = namespace
        self._nickname = nickname
        self._scope = scope
        self._store = store
        self._executor = executor
        self._monitor = monitor
        self._limits = limits
        self._now = now
        self._follower = Follower(executor=executor, monitor=monitor)
        self._calls = SlowCalls(patience=limits.patience)
        self._followed: dict[str, Followed] = {}
        self._due: dict[str, datetime] = {}
        self._waits: dict[str, str] = {}
        self._ends = TaskEnds(store=store, monitor=monitor, now=now)
        self._done = 0

    @property
    def ends(self) -> tuple[int, int]:
        """Tasks that have completed, and that have failed."""
        return self._ends.completed, self._ends.failed

    @property
    def in_hand(self) -> int:
        """Files of tasks that are followed."""
        return sum(followed.in_hand for followed in list(self._followed.values()))

    @property
    def done(self) -> int:
        """Files that got their last status."""
        return self._done

    @property
    def trouble(self) -> str | None:
        """What keeps runs waiting, or failed last; from any thread."""
        waits = list(self._waits.values())
        # While PanDA is away, all of them wait, mostly for the same reason.
        more = [f"{len(waits) - _NAMED} more wait"] if len(waits) > _NAMED else []
        return "; ".join([*waits[:_NAMED], *more]) or self._ends.failure

    def hear(self, run_id: str, *, ready: bool) -> None:
        """Note that there is news of a run; `ready`: that it may be tried again
        at once, if it was given up.
        """
        if run_id in self._followed:
            self._followed[run_id].dirty = True
        if ready:
            self._due.pop(run_id, None)

    def attend(self, run: RunTask) -> datetime | None:
        """Do what is due for a run; say when more is, None if never.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the agent's own database is away.
        models.errors.InvalidConfiguration
            Raised if no task can be executed at all.
        """
        due = self._due.get(run.run_id, run.due)
        if due is None or due > self._now():
            return due
        try:
            if run.phase is TaskPhase.SUBMITTING:
                run = self._submit(run)
            return self._follow(run) if run.phase is TaskPhase.SUBMITTED else None
        except StillBusy:
            return self._now() + timedelta(seconds=LOOK)
        except InvalidConfiguration:
            # No run's trouble: the executor is another agent's, for example,
            # which may be at this run.
            raise
        except PromptProcessingError as error:
            return self._put_off(run, error)
        except Exception as error:
            # Whatever is wrong with one run, there are others.
            _log.exception("Run %s fails.", run.run_id, extra=labels(run))
            return self._put_off(run, error)

    def finish(self, timeout: float) -> None:
        """Begin nothing any more; wait for answers that are under way."""
        self._calls.finish(timeout)

    def _submit(self, run: RunTask) -> RunTask:
        """Have the task submitted, once or again: it will be there once."""
        task = self._task(run)
        try:
            task_id = self._calls.ask(run.run_id, _SUBMIT, lambda: self._executor.submit(task))
        except InvalidMessage as error:
            return self._end(run, f"the task {task.name} was refused: {error}")
        except TemporarilyUnavailable as error:
            if 0 < self._limits.submissions <= run.attempts + 1:
                return self._end(
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
        _log.info("Run %s is task %s, %s.", run.run_id, task_id, task.name, extra=labels(run))
        return run

    def _follow(self, run: RunTask) -> datetime | None:
        followed = self._followed.get(run.run_id) or self._begin(run)
        if self._calls.is_busy(run.run_id):
            raise StillBusy
        if run.execution_id != followed.claimant.execution_id:
            # Of a run that was not announced, a later message told it.
            followed.claimant = replace(followed.claimant, execution_id=run.execution_id)
        progress = self._calls.ask(run.run_id, _LOOK_AT, lambda: self._follower.look(followed))
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
            self._ends.complete(seen)
            self._forget(run.run_id)
            return None
        if self._is_overdue(seen):
            self._end(
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

    def _end(self, run: RunTask, reason: str) -> RunTask:
        run = self._ends.give_up(run, reason)
        self._forget(run.run_id)
        return run

    def _put_off(self, run: RunTask, error: Exception) -> datetime:
        """Keep that something failed, and when to try again."""
        attempts = run.attempts + 1
        reason = str(error) or type(error).__name__
        due = self._now() + self._limits.pause(attempts)
        if attempts == 1 or attempts % 10 == 0:
            _log.warning(
                "Run %s waits, after %d failures: %s", run.run_id, attempts, reason, extra=labels(run)
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
        self._followed.pop(run_id, None)
