"""Execution: try pipelines in order of preference until one can be built."""

from __future__ import annotations

__all__ = ["ExecutedPipeline", "PipelineExecution", "PipelineWorkspace"]

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from models.errors import NoPipelineBuilt
from services.preload import RunnablePipeline

_log = logging.getLogger(__name__)


class PipelineReport(Protocol):
    """What executing a pipeline came to."""

    task_seconds: float

    def raise_failure(self, pipeline: str) -> None:
        """Raise `models.errors.TaskFailed` if a task failed."""


class PipelineWorkspace(Protocol):
    """Where a visit's datasets are, and its pipelines run."""

    def run(
        self,
        pipeline: Any,
        run: str,
        init_outputs: Mapping[str, Any],
        *,
        on_start: Callable[[], None] | None = None,
        on_quantum: Callable[[Any], None] | None = None,
    ) -> PipelineReport:
        """Build and execute a pipeline."""


@dataclass(frozen=True)
class ExecutedPipeline:
    """A pipeline that was executed, successfully or not.

    Attributes
    ----------
    stem : `str`
    run : `str`
        Its output run.
    report : `PipelineReport`
    """

    stem: str
    run: str
    report: PipelineReport


class PipelineExecution:
    """Runs the first of several pipelines that can be built.

    Parameters
    ----------
    init_outputs : callable
        Maps output run and pipeline to the init-outputs that its tasks need.
    """

    def __init__(self, *, init_outputs: Callable[[str, Any], Mapping[str, Any]]) -> None:
        self._init_outputs = init_outputs

    def run_first(
        self,
        pipelines: Sequence[RunnablePipeline],
        run_of: Callable[[str], str],
        workspace: PipelineWorkspace,
        *,
        on_start: Callable[[str], None] | None = None,
        on_quantum: Callable[[Any], None] | None = None,
    ) -> ExecutedPipeline:
        """Execute the first pipeline that can be built.

        Parameters
        ----------
        pipelines : `list` [`RunnablePipeline`]
            In order of preference.
        run_of : callable
            Maps a pipeline's stem to its output run.
        workspace : `PipelineWorkspace`
        on_start : callable, optional
            Called with the stem when a pipeline is about to be executed; from
            then on no other is tried.
        on_quantum : callable, optional
            Called after each quantum that succeeded.

        Returns
        -------
        executed : `ExecutedPipeline`
            Its tasks may have failed; ask the report.

        Raises
        ------
        models.errors.NoPipelineBuilt
            Raised if none can be built; the text says why for each.
        """
        reasons = []
        for pipeline in pipelines:
            run = run_of(pipeline.stem)
            try:
                report = workspace.run(
                    pipeline,
                    run,
                    self._init_outputs(run, pipeline),
                    on_start=None if on_start is None else partial(on_start, pipeline.stem),
                    on_quantum=on_quantum,
                )
            except NoPipelineBuilt as error:
                _log.warning("Pipeline %s cannot run, trying the next: %s", pipeline.stem, error)
                reasons.append(str(error))
                continue
            return ExecutedPipeline(pipeline.stem, run, report)
        raise NoPipelineBuilt("; ".join(reasons) or "no pipeline is left to try")
