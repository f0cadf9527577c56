"""An execution in a few facts: for the MCP tool and the pages."""

from __future__ import annotations

__all__ = ["ERROR_TYPES", "MILESTONES", "summarise_workflow"]

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from services.streaming.workflow_records import WorkflowRecords

Row = Mapping[str, Any]

#: Messages that change an execution's phase, in the order in which they come,
#: and the phase.
MILESTONES = {"run_imminent": "imminent", "start_run": "running", "end_run": "ended"}
#: Messages that tell of an error.
ERROR_TYPES = ("run_workflow_failed", "error")
#: Errors that are shown.
_ERRORS = 10
#: Milestones and runs of one execution that are looked at.
_EVENTS, _RUNS = 1000, 100


def summarise_workflow(records: WorkflowRecords, execution_id: str) -> dict[str, Any] | None:
    """Return how an execution stands.

    Returns
    -------
    summary : `dict` or `None`
        The fields of the field's ``get_workflow_monitor``, and ``files`` (by
        status) and ``runs`` besides. ``errors`` are the last ones. Times are
        aware. None if there is no such execution.

    Raises
    ------
    models.errors.TemporarilyUnavailable
        Raised while the database is away.
    """
    execution = records.executions.get(execution_id)
    if execution is None:
        return None
    told = _messages(records, execution_id, [*MILESTONES], _EVENTS)
    events = [{"type": row["message_type"], "time": row["sent_at"], "run_id": row["run_id"]} for row in told]
    runs = records.runs.listed(execution_id=execution_id, limit=_RUNS).items
    counts: Counter[str] = Counter()
    for run in runs:
        counts.update(run["files"])
    start, end = execution["start_time"], execution["end_time"]
    until = end or (datetime.now(UTC) if execution["status"] == "running" else None)
    return {
        "execution_id": execution_id,
        "status": execution["status"],
        "phase": _phase(events),
        "run_id": _last_run(events, runs),
        "stf_count": sum(counts.values()),
        "files": dict(counts),
        "runs": [
            {"run_number": run["run_number"], "phase": run["phase"], "files": run["files"]} for run in runs
        ],
        "events": events,
        "errors": _errors(records, execution_id),
        "start_time": start,
        "end_time": end,
        "duration_seconds": (until - start).total_seconds() if start and until else None,
        "namespace": execution["namespace"],
        "executed_by": execution["executed_by"],
        "parameter_values": execution["parameter_values"],
    }


def _phase(events: Sequence[Row]) -> str:
    """Return the phase of the run that was announced last. A message that is
    late does not take back what a later one of the run has told.
    """
    if not events:
        return "unknown"
    run_id = _latest(events)
    told = {event["type"] for event in events if event["run_id"] == run_id}
    return [phase for kind, phase in MILESTONES.items() if kind in told][-1]


def _latest(events: Sequence[Row]) -> str | None:
    numbers = [event["run_id"] for event in events if event["run_id"]]
    return max(numbers, key=lambda run_id: (len(run_id), run_id)) if numbers else None


def _last_run(events: Sequence[Row], runs: Sequence[Row]) -> str | None:
    if (told := _latest(events)) is not None:
        return told
    return str(runs[0]["run_number"]) if runs else None


def _errors(records: WorkflowRecords, execution_id: str) -> list[dict[str, Any]]:
    lines = records.logs.listed(execution_id=execution_id, level=logging.ERROR, limit=_ERRORS).items
    sent = _messages(records, execution_id, ERROR_TYPES, _ERRORS)
    errors = [
        {"time": row["timestamp"], "error": row["message"], "source": row["instance_name"]} for row in lines
    ]
    for row in sent:
        content = row["message_content"] if isinstance(row["message_content"], Mapping) else {}
        text = content.get("error") or content.get("message") or row["message_type"]
        errors.append({"time": row["sent_at"], "error": str(text), "source": row["sender_agent"]})
    return sorted(errors, key=lambda error: error["time"], reverse=True)[: 2 * _ERRORS]


def _messages(
    records: WorkflowRecords, execution_id: str, kinds: Sequence[str], limit: int
) -> list[dict[str, Any]]:
    """Return the last messages of some types, the oldest of them first."""
    page = records.messages.listed(execution_id=execution_id, message_types=kinds, limit=limit)
    return list(reversed(page.items))
