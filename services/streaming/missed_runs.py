"""Runs whose files wait for a task that nobody asked for."""

from __future__ import annotations

__all__ = ["MissedRuns"]

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from models.streaming.monitoring import Execution, ExecutionStatus, StfStatus
from models.streaming.tasks import RunNote, TaskPhase
from services.streaming.monitor import Monitor
from services.streaming.run_tasks import TaskStore

_RUN_ID = re.compile("[0-9]{1,18}")
#: How far back is looked.
_WINDOW = timedelta(days=1)
#: Between looks at all executions that are over.
_LOOK_BACK = timedelta(hours=1)
#: Executions that are over, and may have runs with files.
_OVER = (ExecutionStatus.COMPLETED, ExecutionStatus.TERMINATED)


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
        self._running: set[str] = set()
        self._looked_back: datetime | None = None

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
        back = self._looked_back is None or self._now() - self._looked_back > _LOOK_BACK
        found = {execution.execution_id: execution for execution in self._executions(back=back)}
        # What is found no more is not asked about any more.
        self._settled &= set(found)
        recent = [
            execution
            for execution in found.values()
            if execution.execution_id not in self._settled
            and (execution.start_time is None or execution.start_time > since)
        ]
        self._settled.update(self._store.executions([execution.execution_id for execution in recent]))
        for execution in recent:
            if execution.execution_id not in self._settled:
                yield from self._look_at(execution)
        self._running = {execution.execution_id for execution in recent} - self._settled
        if back:
            self._looked_back = self._now()

    def _executions(self, *, back: bool) -> Iterator[Execution]:
        """Yield those that run. Those that are over are many, and seldom asked
        for; meanwhile, such as ran at the last look.
        """
        over = set(self._running)
        for execution in self._monitor.executions(self._namespace, status=ExecutionStatus.RUNNING):
            over.discard(execution.execution_id)
            yield execution
        if not back:
            known = (self._monitor.execution(execution_id) for execution_id in sorted(over))
            yield from (execution for execution in known if execution and execution.status in _OVER)
            return
        for status in _OVER:
            yield from self._monitor.executions(self._namespace, status=status)

    def _look_at(self, execution: Execution) -> Iterator[RunNote]:
        runs: dict[str, str | None] = {}
        for body in self._monitor.messages(execution.execution_id):
            run_id = str(body.get("run_id") or "")
            if _RUN_ID.fullmatch(run_id):
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
        return not waiting.isdisjoint(self._monitor.tally_files(int(run_id)))
