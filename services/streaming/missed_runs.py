"""Runs whose files wait for a task that nobody asked for."""

from __future__ import annotations

__all__ = ["MissedRuns"]

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from models.streaming.monitoring import Execution, ExecutionStatus, StfStatus
from models.streaming.tasks import RunNote, TaskPhase
from services.streaming.monitor import Monitor
from services.streaming.run_tasks import TaskStore

#: How far back is looked.
_WINDOW = timedelta(days=1)
#: Executions that may have runs with files.
_STATUSES = (ExecutionStatus.RUNNING, ExecutionStatus.COMPLETED, ExecutionStatus.TERMINATED)


class MissedRuns:
    """Finds runs with files but without a task: their ``stf_ready`` was lost,
    or sent while nobody listened.

    Parameters
    ----------
    namespace : `str`
    store : `services.streaming.run_tasks.TaskStore`
    monitor : `services.streaming.monitor.Monitor`
    now : callable
        Returns the present time, aware.
    """

    def __init__(
        self, *, namespace: str, store: TaskStore, monitor: Monitor, now: Callable[[], datetime]
    ) -> None:
        self._namespace = namespace
        self._store = store
        self._monitor = monitor
        self._now = now
        self._settled: set[str] = set()

    def look(self) -> Iterator[RunNote]:
        """Yield what is to be noted of runs that were missed.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the monitor or the database cannot be reached.
        """
        since = self._now() - _WINDOW
        for run in self._store.tasks((TaskPhase.EXPECTED,)):
            if run.due > since and self._has_files(run.run_id):
                yield RunNote(run.run_id, run.execution_id, ready=True)
        self._settled.update(self._store.executions())
        for status in _STATUSES:
            for execution in self._monitor.executions(self._namespace, status=status):
                recent = execution.start_time is None or execution.start_time > since
                if recent and execution.execution_id not in self._settled:
                    yield from self._look_at(execution)

    def _look_at(self, execution: Execution) -> Iterator[RunNote]:
        runs: dict[str, str | None] = {}
        for body in self._monitor.messages(execution.execution_id):
            run_id = str(body.get("run_id") or "")
            if run_id.isdecimal():
                dataset = body.get("dataset")
                runs[run_id] = dataset if isinstance(dataset, str) else runs.get(run_id)
        settled = bool(runs) or execution.status != ExecutionStatus.RUNNING
        for run_id, dataset in runs.items():
            # Runs that are known are looked at above, or have a task.
            if self._store.task(run_id) is None:
                ready = self._has_files(run_id)
                yield RunNote(run_id, execution.execution_id, dataset, ready=ready)
        if settled:
            self._settled.add(execution.execution_id)

    def _has_files(self, run_id: str) -> bool:
        waiting = {StfStatus.REGISTERED, StfStatus.PROCESSING}
        return bool(self._monitor.files(int(run_id), statuses=waiting))
