"""Execution: the first pipeline that can be built is executed."""

from __future__ import annotations

from typing import Any

import pytest

from models.errors import InterruptSignal, NoPipelineBuilt, TaskFailed
from services.execution import PipelineExecution
from tests.services.world import Pipeline, Report


class Workspace:
    """Notes what is to be run in it."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.report = Report()
        self.fails: BaseException | None = None

    def run(
        self, pipeline: Pipeline, run: str, init_outputs: Any, *, on_start: Any = None, on_quantum: Any = None
    ) -> Report:
        self.log.append((pipeline.stem, run, init_outputs))
        if pipeline.unbuildable is not None:
            raise pipeline.unbuildable
        if on_start is not None:
            on_start()
        if on_quantum is not None:
            on_quantum("quantum")
        if self.fails is not None:
            raise self.fails
        return self.report


def execution() -> PipelineExecution:
    return PipelineExecution(init_outputs=lambda run, pipeline: {"init": f"{run}:{pipeline.stem}"})


def test_the_first_that_can_be_built() -> None:
    workspace, told = Workspace(), list[Any]()
    pipelines = [
        Pipeline("A.yaml", unbuildable=NoPipelineBuilt("no bias")),
        Pipeline("B.yaml", unbuildable=NoPipelineBuilt("empty graph")),
        Pipeline("C.yaml"),
        Pipeline("D.yaml"),
    ]
    executed = execution().run_first(
        pipelines, lambda stem: f"run/{stem}", workspace, on_start=told.append, on_quantum=told.append
    )
    assert (executed.stem, executed.run, executed.report) == ("C", "run/C", workspace.report)
    assert workspace.log == [(s, f"run/{s}", {"init": f"run/{s}:{s}"}) for s in "ABC"]
    # Each is told by its own name, and only when it really begins.
    assert told == ["C", "quantum"]


def test_nobody_need_be_told() -> None:
    assert execution().run_first([Pipeline("A.yaml")], str, Workspace()).stem == "A"


def test_none_can_be_built() -> None:
    pipelines = [Pipeline(f"{s}.yaml", unbuildable=NoPipelineBuilt(f"{s} lacks bias")) for s in "AB"]
    with pytest.raises(NoPipelineBuilt, match="A lacks bias; B lacks bias"):
        execution().run_first(pipelines, str, Workspace())


def test_none_is_given() -> None:
    with pytest.raises(NoPipelineBuilt, match="no pipeline is left"):
        execution().run_first([], str, Workspace())


@pytest.mark.parametrize("error", [RuntimeError("registry"), InterruptSignal("stopped")])
def test_once_begun_no_other_is_tried(error: BaseException) -> None:
    workspace = Workspace()
    workspace.fails = error
    with pytest.raises(type(error)):
        execution().run_first([Pipeline("A.yaml"), Pipeline("B.yaml")], str, workspace)
    assert [stem for stem, *_ in workspace.log] == ["A"]


def test_a_failed_task_is_in_the_report() -> None:
    workspace = Workspace()
    workspace.report.failed.append(("isr", ValueError("saturated")))
    executed = execution().run_first([Pipeline("A.yaml"), Pipeline("B.yaml")], str, workspace)
    with pytest.raises(TaskFailed, match="task isr of pipeline A failed: saturated"):
        executed.report.raise_failure(executed.stem)
