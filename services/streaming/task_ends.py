"""How a run's task ends: completed, or given up; and who is told."""

from __future__ import annotations

__all__ = ["TaskEnds", "labels"]

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from models.errors import InvalidMessage
from models.streaming.monitoring import ExecutionStatus
from models.streaming.tasks import FAILED_TASKS, RunTask, TaskPhase, TaskState
from services.streaming.monitor import Monitor
from services.streaming.run_tasks import TaskStore

_log = logging.getLogger(__name__)


def labels(run: RunTask) -> dict[str, str | None]:
    """Return what a line of the log about a run is found by."""
    return {"run_id": run.run_id, "execution_id": run.execution_id}


class TaskEnds:
    """Ends tasks, and counts them.

    Parameters
    ----------
    store : `services.streaming.run_tasks.TaskStore`
    monitor : `services.streaming.monitor.Monitor`
    now : callable
        Returns the present time, aware.

    Attributes
    ----------
    completed, failed : `int`
        Tasks that have ended so.
    failure : `str` or `None`
        What went wrong with the last one.
    """

    def __init__(self, *, store: TaskStore, monitor: Monitor, now: Callable[[], datetime]) -> None:
        self._store = store
        self._monitor = monitor
        self._now = now
        self.completed = 0
        self.failed = 0
        self.failure: str | None = None

    def complete(self, run: RunTask) -> None:
        """Have done with a run whose task has ended.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the monitor or the database is away.
        """
        state = run.task_state or TaskState.DONE
        what = f"run {run.run_id}: task {run.task_id} is {state.value}"
        counts = f"{run.processed} files processed, {run.failed} failed"
        if state in FAILED_TASKS:
            self._fail_execution(run)
            self.failure = f"{what}, {counts}"
            _log.error("%s, %s; execution %s has failed.", what, counts, run.execution_id, extra=labels(run))
        elif run.failed:
            self.failure = f"{what}, {counts}"
            _log.error("%s, %s.", what, counts, extra=labels(run))
        else:
            self.failure = None
            _log.info("%s, %s.", what, counts, extra=labels(run))
        # Last: until then all of it is done again at the next start.
        self._store.save(replace(run, phase=TaskPhase.COMPLETE))
        if state in FAILED_TASKS:
            self.failed += 1
        else:
            self.completed += 1

    def give_up(self, run: RunTask, reason: str) -> RunTask:
        """Have done with a run whose task cannot be had; return it.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the monitor or the database is away.
        """
        self._fail_execution(run)
        self.failure = f"run {run.run_id}: {reason}"
        _log.error(
            "Run %s is given up: %s. Another stf_ready has it tried again.",
            *(run.run_id, reason),
            extra=labels(run),
        )
        given_up = replace(run, phase=TaskPhase.GIVEN_UP, error=reason)
        self._store.save(given_up)
        self.failed += 1
        return given_up

    def _fail_execution(self, run: RunTask) -> None:
        if run.execution_id is None:
            return
        try:
            self._monitor.end_execution(run.execution_id, ExecutionStatus.FAILED, end_time=self._now())
        except InvalidMessage as error:
            _log.error("The monitor refuses that execution %s failed: %s", run.execution_id, error)
