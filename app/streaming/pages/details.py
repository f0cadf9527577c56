"""An execution and a run, worked out before any HTML."""

from __future__ import annotations

__all__ = ["ExecutionPage", "RunPage", "execution_page", "run_page"]

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.streaming.pages.formats import duration, file_counts, mapping
from app.streaming.pages.overview import last_errors
from app.streaming.run_summary import MEANINGS
from models.errors import PromptProcessingError
from models.streaming.job_listing import JobListing, JobQuery
from models.streaming.monitoring import StfStatus
from models.streaming.names import dataset_name
from services.streaming.workflow_records import JobSource, WorkflowRecords
from services.streaming.workflow_summary import summarise_workflow

Row = Mapping[str, Any]

#: How much is listed.
_MESSAGES, _FILES, _JOBS, _TASKS = 100, 500, 500, 5


@dataclass(frozen=True)
class ExecutionPage:
    """Everything that the template shows.

    Attributes
    ----------
    tree : `str`
        The summary as a tree of text.
    messages : sequence of mappings
        The last ones, the newest first, with ``tick`` and ``summary`` of what
        they say.
    """

    summary: Row
    tree: str
    messages: Sequence[Row]
    messages_total: int
    errors: Sequence[Row]


@dataclass(frozen=True)
class RunPage:
    """Everything that the template shows.

    Attributes
    ----------
    tasks : mapping
        Jobs by task.
    job_trouble : `str` or `None`
        Why jobs are not shown, if they are not.
    """

    run: Row
    execution_id: str | None
    dataset: str
    counts: dict[str, int]
    files: Sequence[Row]
    files_total: int
    tasks: Mapping[str, JobListing]
    job_trouble: str | None


def execution_page(records: WorkflowRecords, execution_id: str) -> ExecutionPage | None:
    """Return what there is to say of an execution; None if there is none.

    Raises
    ------
    models.errors.TemporarilyUnavailable
        Raised while the monitor's database is away.
    """
    summary = summarise_workflow(records, execution_id)
    if summary is None:
        return None
    page = records.messages.listed(execution_id=execution_id, limit=_MESSAGES)
    return ExecutionPage(
        summary=summary,
        tree=_tree(records, summary),
        messages=[{**row, "tick": _tick(row), "summary": _told(row)} for row in page.items],
        messages_total=page.total,
        errors=last_errors(records, execution_id=execution_id),
    )


def run_page(records: WorkflowRecords, jobs: JobSource | None, run_number: int) -> RunPage | None:
    """Return what there is to say of a run; None if there is none.

    Raises
    ------
    models.errors.TemporarilyUnavailable
        Raised while the monitor's database is away.
    """
    found = records.runs.listed(run_number=run_number, limit=1).items
    if not found:
        return None
    files = records.files.listed(run_number=run_number, limit=_FILES)
    announced = records.messages.listed(run_id=str(run_number), message_types=["run_imminent"], limit=1).items
    content = mapping(announced[0]["message_content"]) if announced else {}
    owners = [mapping(row["metadata"]) for row in files.items]
    executions = [content.get("execution_id"), *(owner.get("workflow_execution_id") for owner in owners)]
    tasks, trouble = _jobs(
        jobs, {str(owner["panda_task_id"]) for owner in owners if "panda_task_id" in owner}
    )
    return RunPage(
        run=found[0],
        execution_id=next((str(execution) for execution in executions if execution), None),
        dataset=str(content.get("dataset") or dataset_name(str(run_number))),
        counts=file_counts(found[0]["files"]),
        files=files.items,
        files_total=files.total,
        tasks=tasks,
        job_trouble=trouble,
    )


def _jobs(jobs: JobSource | None, tasks: set[str]) -> tuple[dict[str, JobListing], str | None]:
    if jobs is None:
        return {}, "nothing here knows of jobs"
    found = {}
    for task in sorted(task for task in tasks if task.isascii() and task.isdigit())[:_TASKS]:
        try:
            found[task] = jobs.listed(JobQuery(taskid=int(task), limit=_JOBS))
        except PromptProcessingError as error:
            return found, str(error)
    return found, None


def _tick(row: Row) -> str:
    tick = mapping(row["message_content"]).get("simulation_tick", "")
    return f"{tick:.1f}" if isinstance(tick, int | float) else str(tick)


def _told(row: Row) -> str:
    """Return what a message says, without what the table has already."""
    content = row["message_content"]
    if not isinstance(content, Mapping):
        return str(mapping(row["message_metadata"]).get("text") or row["error_message"] or "")
    shown = {"msg_type", "namespace", "execution_id", "run_id", "sender", "timestamp", "simulation_tick"}
    return ", ".join(
        f"{name} {value if isinstance(value, str) else json.dumps(value)}"
        for name, value in content.items()
        if name not in shown
    )


def _tree(records: WorkflowRecords, summary: Row) -> str:
    execution_id = summary["execution_id"]
    counts: list[tuple[str, int]] = []
    senders: set[str] = set()
    dataset = None
    for kind in MEANINGS:
        page = records.messages.listed(execution_id=execution_id, message_types=[kind], limit=1)
        if page.total:
            counts.append((kind, page.total))
            senders.add(page.items[0]["sender_agent"] or "?")
            if kind == "run_imminent":
                dataset = mapping(page.items[0]["message_content"]).get("dataset")
    run_id = summary["run_id"]
    owner = _owner(records, run_id)
    task = owner.get("panda_task_id")
    # It asks for nothing over the bus.
    senders.update(str(name) for name in [owner.get("panda_tracking_agent")] if name)
    files = file_counts(summary["files"])
    failed = f", {files['failed']} failed" if files["failed"] else ""
    branches: list[tuple[str, list[str]]] = [
        (f"Duration: {duration(summary['duration_seconds']) or 'unknown'}", []),
        (f"STF files: {summary['stf_count']} ({files['processed']} processed{failed})", []),
        (f"Dataset: {dataset or (dataset_name(run_id) if run_id else 'none yet')}", []),
        (
            "Messages:",
            [f"{kind}{f' (x{count})' if count > 1 else ''} → {MEANINGS[kind]}" for kind, count in counts],
        ),
        ("Agents involved:", sorted(senders)),
        (f"Task: {f'{task} for the entire dataset' if task else 'none yet'}", []),
        (f"Execution: {execution_id} ({summary['status']})", []),
    ]
    lines = [f"Run {run_id or '?'} Summary:"]
    for number, (text, leaves) in enumerate(branches):
        last = number == len(branches) - 1
        lines.append(f"{'└──' if last else '├──'} {text}")
        for index, leaf in enumerate(leaves):
            lines.append(f"{' ' if last else '│'}   {'└──' if index == len(leaves) - 1 else '├──'} {leaf}")
    return "\n".join(lines)


def _owner(records: WorkflowRecords, run_id: str | None) -> Row:
    """Return what the files of a run know of who processes them: the task,
    and the agent that follows it.
    """
    if (run_id or "").isdigit():
        number = int(run_id or 0)
        for status in (StfStatus.PROCESSED, StfStatus.PROCESSING, StfStatus.FAILED):
            for file in records.files.listed(run_number=number, status=status, limit=1).items:
                if (owner := mapping(file["metadata"])).get("panda_task_id"):
                    return owner
    return {}
