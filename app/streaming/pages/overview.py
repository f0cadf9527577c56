"""What is going on, worked out before any HTML."""

from __future__ import annotations

__all__ = ["AgentLine", "Overview", "overview"]

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from app.streaming.pages.formats import age, file_counts, files_in_words, mapping, status_mood
from models.streaming.monitoring import AgentLife, agent_life
from services.streaming.workflow_records import WorkflowRecords
from services.streaming.workflow_summary import ERROR_TYPES

Row = Mapping[str, Any]

#: Agents and errors older than this are history.
_HISTORY = timedelta(hours=24)
#: How much is listed.
_EXECUTIONS, _RUNS, _AGENTS, _ERRORS = 20, 10, 30, 12
#: How many agents that have ended are.
_ENDED = 6

#: Phases of a run, in a word that can be read from across the room.
_WORDS = {"initializing": "IMMINENT", "imminent": "IMMINENT", "physics": "PHYSICS", "completed": "RUN ENDED"}


@dataclass(frozen=True)
class AgentLine:
    """An agent, as it is shown.

    Attributes
    ----------
    life : `str`
        ``alive``, ``silent`` or ``ended``.
    """

    name: str
    namespace: str
    life: str
    mood: str
    state: str
    age: str
    connected: bool | None
    files: str
    description: str
    host: str


@dataclass(frozen=True)
class Overview:
    """Everything that the template shows.

    Attributes
    ----------
    word : `str`
        The state in one word.
    mood : `str`
        ``good``, ``warn`` or ``bad``; the colour.
    """

    word: str
    mood: str
    reason: str
    current: Row | None
    run: Row | None
    counts: dict[str, int]
    running: int
    agents: Sequence[AgentLine]
    executions: Sequence[Row]
    executions_total: int
    runs: Sequence[Row]
    runs_total: int
    errors: Sequence[Row]


def overview(records: WorkflowRecords, now: datetime | None = None) -> Overview:
    """Look at the monitor and decide what an operator must know first.

    Raises
    ------
    models.errors.TemporarilyUnavailable
        Raised while the monitor's database is away.
    """
    now = now or datetime.now(UTC)
    all_executions = records.executions.listed(limit=_EXECUTIONS)
    all_runs = records.runs.listed(limit=_RUNS)
    executions, runs = all_executions.items, all_runs.items
    running = [row for row in executions if row["status"] == "running"]
    current = next(iter([*running, *executions]), None)
    run = None
    if current is not None:
        of_current = records.runs.listed(execution_id=current["execution_id"], limit=1).items
        run = of_current[0] if of_current else None
    agents = _agents(records, now)
    errors = last_errors(records, since=now - _HISTORY)
    word, mood, reason = _state(current, run, agents, errors)
    return Overview(
        word=word,
        mood=mood,
        reason=reason,
        current=current,
        run=run,
        counts=file_counts(run["files"] if run else {}),
        running=len(running),
        agents=agents,
        executions=executions,
        executions_total=all_executions.total,
        runs=runs,
        runs_total=all_runs.total,
        errors=errors,
    )


def last_errors(
    records: WorkflowRecords, *, since: datetime | None = None, execution_id: str | None = None
) -> list[dict[str, Any]]:
    """Return the last errors, the newest first: ``time``, ``source``,
    ``error`` and ``execution_id``.
    """
    lines = records.logs.listed(
        level=logging.ERROR, start=since, execution_id=execution_id, limit=_ERRORS
    ).items
    sent = records.messages.listed(
        message_types=ERROR_TYPES, start=since, execution_id=execution_id, limit=_ERRORS
    ).items
    errors = [
        {
            "time": row["timestamp"],
            "source": row["instance_name"],
            "error": row["message"],
            "execution_id": mapping(row["extra_data"]).get("execution_id"),
        }
        for row in lines
    ]
    for row in sent:
        content = mapping(row["message_content"])
        errors.append(
            {
                "time": row["sent_at"],
                "source": row["sender_agent"] or "",
                "error": str(content.get("error") or content.get("message") or row["message_type"]),
                "execution_id": row["execution_id"],
            }
        )
    return sorted(errors, key=lambda error: error["time"], reverse=True)[:_ERRORS]


def _agents(records: WorkflowRecords, now: datetime) -> list[AgentLine]:
    """Return agents that are there or fell silent, and the last that ended."""
    lives: dict[AgentLife, list[Row]] = {life: [] for life in AgentLife}
    for heard in records.agents.heard_since(now - _HISTORY):
        lives[agent_life(heard, now)].append(heard)
    del lives[AgentLife.ENDED][_ENDED:]
    found = []
    for life, row in [(life, row) for life, several in lives.items() for row in several][:_AGENTS]:
        found.append(
            AgentLine(
                name=row["instance_name"],
                namespace=row["namespace"] or "",
                life=life,
                mood=status_mood(row["status"]) if life == "alive" else "bad" if life == "silent" else "",
                state=" ".join(
                    filter(None, (row["status"], row["operational_state"])) if life == "alive" else ()
                ),
                age=age(row["last_heartbeat"], now),
                connected=row["mq_connected"],
                files=f"{row['current_stf_count']} / {row['total_stf_processed']}",
                description=row["description"] or "",
                host=f"{row['hostname'] or ''} {row['pid'] or ''}".strip(),
            )
        )
    return found


def _state(
    current: Row | None, run: Row | None, agents: Sequence[AgentLine], errors: Sequence[Row]
) -> tuple[str, str, str]:
    if current is None:
        return "IDLE", "good", "no workflow has been run yet"
    status = str(current["status"])
    files = file_counts(run["files"] if run else {})
    waiting = files["registered"] + files["processing"]
    if status == "failed":
        return "FAILED", "bad", f"execution {current['execution_id']}"
    if status == "running":
        # Of an earlier run, agents that are gone are nobody's loss.
        silent = [
            agent.name
            for agent in agents
            if agent.life == "silent" and agent.namespace == (current["namespace"] or "")
        ]
        word = _word(run)
        if silent and not any(agent.life == "alive" for agent in agents):
            return word, "bad", f"no agent is heard; silent: {', '.join(silent)}"
        if silent:
            return word, "warn", f"silent: {', '.join(silent)}"
        if files["failed"]:
            return word, "warn", f"{files_in_words(files['failed'])} failed"
        began = current["start_time"]
        if recent := [error for error in errors if began is None or error["time"] >= began]:
            return word, "warn", f"last error: {recent[0]['error']}"
        return word, "good", _progress(files)
    if waiting:
        return "PROCESSING", "good", _progress(files)
    if files["failed"]:
        return "IDLE", "warn", f"{files_in_words(files['failed'])} of the last run failed"
    if status == "terminated":
        return "STOPPED", "warn", f"execution {current['execution_id']} was stopped"
    return "IDLE", "good", f"last execution {status}, {_progress(files)}"


def _word(run: Row | None) -> str:
    if run is None:
        return "STARTING"
    if run["substate"] == "standby":
        return "STANDBY"
    return _WORDS.get(run["phase"] or "", (run["phase"] or "STARTING").upper())


def _progress(files: Mapping[str, int]) -> str:
    return f"{files['processed'] + files.get('done', 0)} of {sum(files.values())} files processed"
