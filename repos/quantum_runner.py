"""Executes planned quanta on a Butler, in either form of local repo."""

from __future__ import annotations

__all__ = ["QuantumRunner", "RunReport"]

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lsst.daf.butler import DatasetRef, LimitedButler, Quantum
from lsst.pipe.base import PipelineTask, TaskFactory
from lsst.pipe.base.pipeline_graph import TaskNode
from lsst.pipe.base.single_quantum_executor import SingleQuantumExecutor

from models.errors import TaskFailed
from repos.quanta import PlannedQuantum

_log = logging.getLogger(__name__)


@dataclass
class RunReport:
    """What executing a pipeline came to.

    Attributes
    ----------
    executed : `list` [`PlannedQuantum`]
        Quanta that succeeded, found no work included.
    failed : `list` [`tuple` [`str`, `Exception`]]
        Labels of tasks that raised, and what.
    task_seconds : `float`
        Sum of the tasks' own ``run`` time.
    """

    executed: list[PlannedQuantum] = field(default_factory=list)
    failed: list[tuple[str, Exception]] = field(default_factory=list)
    task_seconds: float = 0.0

    def raise_failure(self, pipeline: str) -> None:
        """Raise for the first task that failed, if any did.

        Raises
        ------
        models.errors.TaskFailed
        """
        if self.failed:
            label, error = self.failed[0]
            raise TaskFailed(
                f"task {label} of pipeline {pipeline} failed: {type(error).__name__}: {error}"
            ) from error


class QuantumRunner:
    """Runs quanta one after another, like the middleware's own executor for
    one process: after a failure, tasks that do not depend on it still run.
    """

    def run(
        self,
        quanta: Sequence[PlannedQuantum],
        butler_of: Callable[[Quantum], LimitedButler],
        on_quantum: Callable[[PlannedQuantum], None] | None = None,
    ) -> RunReport:
        """Execute quanta.

        Parameters
        ----------
        quanta : `list` [`PlannedQuantum`]
            In an order in which they can be executed.
        butler_of : callable
            Maps a quantum to where its inputs are and its outputs go, a
            `lsst.daf.butler.LimitedButler` whose `close` does nothing.
        on_quantum : callable, optional
            Called after each quantum that succeeded.

        Returns
        -------
        report : `RunReport`

        Raises
        ------
        models.errors.InterruptSignal
            Raised if the slot was told to stop; exceptions of tasks are
            reported instead.
        """
        report = RunReport()
        factory = _TimingTaskFactory()
        executor = SingleQuantumExecutor(
            butler=None,
            task_factory=factory,
            limited_butler_factory=butler_of,
            assume_no_existing_outputs=True,
            raise_on_partial_outputs=True,
        )
        blocked: set[Any] = set()
        for planned in quanta:
            if any(ref.id in blocked for ref in _inputs(planned)):
                blocked.update(ref.id for ref in _outputs(planned))
                continue
            try:
                executor.execute(planned.task_node, planned.quantum, quantum_id=planned.quantum_id)
            except Exception as error:  # a task may raise anything
                report.failed.append((planned.task_node.label, error))
                blocked.update(ref.id for ref in _outputs(planned))
                continue
            report.executed.append(planned)
            if on_quantum is not None:
                on_quantum(planned)
        report.task_seconds = factory.seconds
        return report


class _TimingTaskFactory(TaskFactory):
    """Makes tasks as the default factory does, and measures their ``run``."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def makeTask(
        self, task_node: TaskNode, /, butler: LimitedButler, initInputRefs: Iterable[DatasetRef] | None
    ) -> PipelineTask:
        task = super().makeTask(task_node, butler, initInputRefs)
        run = task.run

        def timed_run(*args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            try:
                return run(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - begin

        task.run = timed_run
        return task


def _inputs(planned: PlannedQuantum) -> Iterable[DatasetRef]:
    for refs in planned.quantum.inputs.values():
        yield from refs


def _outputs(planned: PlannedQuantum) -> Iterable[DatasetRef]:
    for refs in planned.quantum.outputs.values():
        yield from refs
