"""The prompt processing agent: one task for each run, followed to its end.

Of the messages about a run, ``stf_ready`` has its task submitted; the others
tell what may be expected, so that a run whose ``stf_ready`` never came is
found out.
"""

from __future__ import annotations

__all__ = ["AGENT_TYPE", "ProcessingAgent"]

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from models.streaming.messages import EndRun, Message, RunImminent, RunMessage, StfGen, StfReady
from models.streaming.monitoring import AgentState
from models.streaming.names import DEFAULT_SCOPE
from models.streaming.tasks import RunNote
from services.streaming.agent_logic import AgentFacts
from services.streaming.executor import Executor
from services.streaming.missed_runs import MissedRuns
from services.streaming.monitor import Monitor
from services.streaming.run_tasks import TaskStore
from services.streaming.task_attendance import ProcessingLimits, TaskAttendance

_log = logging.getLogger(__name__)

#: As the monitor knows it.
AGENT_TYPE = "PROCESSING"


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
        self._namespace = namespace
        self._store = store
        self._executor = executor
        self._now = now
        self._tasks = TaskAttendance(
            name=name,
            namespace=namespace,
            nickname=nickname,
            scope=scope,
            store=store,
            executor=executor,
            monitor=monitor,
            limits=limits or ProcessingLimits(),
            now=now,
        )
        self._missed = MissedRuns(namespace=namespace, store=store, monitor=monitor, now=now)
        self._announced: str | None = None
        self._open = 0

    def receive(self, messages: Sequence[Message]) -> None:
        """Keep what messages say of runs."""
        notes: dict[str, RunNote] = {}
        for message in messages:
            if isinstance(message, RunMessage | StfReady):
                run_id = message.run_id
                notes[run_id] = _merge(notes.get(run_id) or RunNote(run_id), message)
        self._store.note(list(notes.values()))
        for note in notes.values():
            self._tasks.hear(note.run_id, ready=note.ready)
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
        self._open = len(runs)
        dues = [self._tasks.attend(run) for run in runs]
        self._open -= dues.count(None)
        soonest = min((due for due in dues if due is not None), default=None)
        return None if soonest is None else max(0.0, (soonest - self._now()).total_seconds())

    def finish(self, timeout: float) -> None:
        """Have the executor answer what it was asked, and keep it."""
        self._tasks.finish(timeout)
        self.advance()

    def facts(self) -> AgentFacts:
        """Say how it is doing."""
        if self._announced:
            description = f"PROCESSING agent. Preparing for run {self._announced}"
        else:
            completed, failed = self._tasks.ends
            description = f"PROCESSING agent. Active: {self._open}, completed: {completed}, failed: {failed}"
        return AgentFacts(
            state=AgentState.PROCESSING if self._open else AgentState.READY,
            description=description,
            current_stf_count=self._tasks.in_hand,
            total_stf_processed=self._tasks.done,
            trouble=self._tasks.trouble,
        )


def _merge(note: RunNote, message: RunMessage | StfReady) -> RunNote:
    note = replace(note, execution_id=note.execution_id or message.execution_id)
    if isinstance(message, RunImminent):
        return replace(note, dataset=message.dataset_name)
    if isinstance(message, EndRun):
        return replace(note, ended=True, total_files=message.total_stf_files)
    if isinstance(message, StfGen):
        return replace(note, file=True)
    return replace(note, ready=True) if isinstance(message, StfReady) else note
