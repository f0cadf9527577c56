"""What became of a run, in figures and as the tree of the field's document."""

from __future__ import annotations

__all__ = ["MEANINGS", "RunSummary", "Standing", "summary_tree"]

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict
from rich.text import Text
from rich.tree import Tree

#: Messages in the order in which they come, and what each means.
MEANINGS = {
    "run_imminent": "agents prepared",
    "start_run": "physics phase began",
    "stf_gen": "STF files generated",
    "stf_ready": "task asked for",
    "pause_run": "standby",
    "resume_run": "physics phase went on",
    "end_run": "run complete",
    "run_workflow_failed": "a command could not be followed",
}

#: What has the dataset's task, by the executor.
_SUBMITTED = {"local": "task", "panda": "PanDA"}


@dataclass(frozen=True)
class Standing:
    """How an execution stands at a moment.

    Attributes
    ----------
    execution_status : `str`
    run_number : `int` or `None`
        None before the run is known.
    generated, registered, processed, failed : `int`
        STF files: announced, known to the monitor, and by their last status.
    total : `int` or `None`
        How many there will be; None until somebody knows.
    dataset : `str`
    dataset_open : `bool` or `None`
        None if there is none, or nobody can say.
    dataset_files : `int` or `None`
        How many files are in it, if somebody can say.
    task_id, task_state : `str` or `None`
    messages : mapping
        Recorded ones by type, in the order of the first of each.
    agents : `tuple` [`str`, ...]
    over : `bool`
        Whether nothing more will happen.
    waiting_for : `str`
        What is still to come, for people.
    """

    execution_id: str
    execution_status: str = "pending"
    run_number: int | None = None
    generated: int = 0
    registered: int = 0
    processed: int = 0
    failed: int = 0
    total: int | None = None
    dataset: str = ""
    dataset_open: bool | None = None
    dataset_files: int | None = None
    task_id: str | None = None
    task_state: str | None = None
    messages: Mapping[str, int] = field(default_factory=dict)
    agents: tuple[str, ...] = ()
    over: bool = False
    waiting_for: str = ""


class RunSummary(BaseModel):
    """What became of a run.

    Attributes
    ----------
    duration_s, simulated_s : `float` or `None`
        Of the simulation: by the clock, and in simulated seconds.
    total_s : `float`
        By the clock, until everything was processed and recorded.
    dataset_status : `str`
        ``open``, ``closed`` or ``unknown``.
    executor : `str`
        ``local`` or ``panda``.
    faults : `tuple` [`str`, ...]
        What is not as it should be.
    """

    model_config = ConfigDict(frozen=True)

    execution_id: str
    execution_status: str
    run_number: int | None = None
    namespace: str = ""
    duration_s: float | None = None
    simulated_s: float | None = None
    total_s: float = 0.0
    realtime: bool = True
    stf_files: int = 0
    registered: int = 0
    processed: int = 0
    failed: int = 0
    dataset: str = ""
    dataset_status: str = "unknown"
    dataset_files: int | None = None
    messages: dict[str, int] = {}
    agents: tuple[str, ...] = ()
    executor: str = "local"
    task_id: str | None = None
    task_state: str | None = None
    faults: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, standing: Standing, *, stopped: bool = False, faults: tuple[str, ...] = (), **more: Any
    ) -> RunSummary:
        """Return the summary of a run.

        Parameters
        ----------
        standing : `Standing`
            How it stood in the end.
        stopped : `bool`, optional
            Whether it was stopped on request; it then may be terminated.
        faults : `tuple` [`str`, ...], optional
            What is known to be wrong already.
        **more
            Other fields.
        """
        status = {None: "unknown", True: "open", False: "closed"}[standing.dataset_open]
        return cls(
            execution_id=standing.execution_id,
            execution_status=standing.execution_status,
            run_number=standing.run_number,
            stf_files=standing.generated,
            registered=standing.registered,
            processed=standing.processed,
            failed=standing.failed,
            dataset=standing.dataset,
            dataset_status=status,
            dataset_files=standing.dataset_files,
            messages=dict(standing.messages),
            agents=standing.agents,
            task_id=standing.task_id,
            task_state=standing.task_state,
            faults=(*faults, *_faults(standing, stopped=stopped)),
            **more,
        )


def _faults(standing: Standing, *, stopped: bool) -> list[str]:
    faults = []
    # A stop may come when the run has come to its end already.
    wanted = ("terminated", "completed") if stopped else ("completed",)
    if standing.execution_status not in wanted:
        faults.append(
            f"the execution {standing.execution_id} is {standing.execution_status}, not {wanted[0]}"
        )
    if standing.processed < standing.generated:
        failed = f", {standing.failed} failed" if standing.failed else ""
        faults.append(f"{standing.processed} of {standing.generated} STF files were processed{failed}")
    if standing.dataset_files is not None and standing.dataset_files != standing.generated:
        faults.append(f"{standing.dataset_files} of {standing.generated} STF files are in the dataset")
    if standing.dataset_open:
        faults.append(f"the dataset {standing.dataset} is open")
    if standing.waiting_for and not standing.over:
        faults.append(f"given up while waiting for: {standing.waiting_for}")
    return faults


def summary_tree(summary: RunSummary, *, ascii_only: bool = False) -> Tree:
    """Return the tree of the field's document, with numbers.

    Parameters
    ----------
    summary : `RunSummary`
    ascii_only : `bool`, optional
        Whether who reads it knows no other characters.
    """
    arrow = "->" if ascii_only else "→"
    tree = Tree(Text(f"Run {summary.run_number or '?'} Summary:"), guide_style="")
    tree.add(Text(_duration(summary)))
    tree.add(Text(_files(summary)))
    tree.add(Text(f"Dataset: {summary.dataset or 'none'} ({_dataset(summary)})"))
    messages = tree.add("Messages:")
    for kind, count in summary.messages.items():
        times = f" (x{count})" if count > 1 else ""
        messages.add(Text(f"{kind}{times} {arrow} {_meaning(kind, summary)}"))
    if summary.run_number is not None and not summary.messages:
        messages.add(Text("none: the monitor does not hear this bus" if summary.dataset else "none"))
    agents = tree.add("Agents involved:")
    for agent in summary.agents:
        agents.add(Text(agent))
    task = tree.add("PanDA:" if summary.executor == "panda" else "Local processing:")
    task.add(Text(_task(summary)))
    tree.add(Text(f"Execution: {summary.execution_id} ({summary.execution_status})"))
    return tree


def _duration(summary: RunSummary) -> str:
    simulated = "" if summary.simulated_s is None else f"{summary.simulated_s:.1f} seconds (simulation time)"
    taken = "" if summary.duration_s is None else f"{summary.duration_s:.1f} s by the clock"
    total = f"all processed after {summary.total_s:.1f} s"
    return f"Duration: {', '.join(part for part in (simulated, taken, total) if part)}"


def _files(summary: RunSummary) -> str:
    failed = f", {summary.failed} failed" if summary.failed else ""
    fate = f"{summary.registered} registered, {summary.processed} processed{failed}"
    return f"STF files: {summary.stf_files} ({fate})"


def _dataset(summary: RunSummary) -> str:
    count = summary.dataset_files
    files = "" if count is None else f", {count} file{'' if count == 1 else 's'}"
    return f"{summary.dataset_status}{files}"


def _meaning(kind: str, summary: RunSummary) -> str:
    if kind == "end_run" and summary.dataset_status == "closed":
        submitted = (
            ""
            if summary.task_id is None
            else f", {_SUBMITTED.get(summary.executor, summary.executor)} submitted"
        )
        return f"Dataset closed{submitted}"
    return MEANINGS.get(kind, "recorded")


def _task(summary: RunSummary) -> str:
    if summary.task_id is None:
        return "No task was submitted"
    state = f" ({summary.task_state})" if summary.task_state else ""
    return (
        f"Single task submitted for entire dataset: {summary.task_id}{state}, "
        f"{summary.processed} of {summary.stf_files} files processed"
    )
