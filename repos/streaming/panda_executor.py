"""Tasks executed by PanDA, with its own client.

What is submitted is what agents in the field submit: ``prun``'s parameters
for the same arguments.
"""

from __future__ import annotations

__all__ = ["PAYLOAD", "PandaExecutor", "find_task_id", "prun_arguments"]

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.errors import InvalidMessage, TemporarilyUnavailable
from models.streaming.tasks import FAILED_JOBS, TERMINAL_TASKS, JobChanges, JobRecord, TaskSpec, TaskState
from repos.streaming.panda_answers import panda_diagnosis, panda_time
from repos.streaming.panda_client import PandaExited
from repos.streaming.panda_clients import PandaClients

#: What a job runs if no script is configured.
PAYLOAD = """#!/bin/sh
# Stands in for the processing of an STF file: says where it ran, on what.
{
    echo "host: $(hostname)"
    echo "arguments: $*"
    date -u
} > myout.txt
"""
#: Jobs that PanDA is asked about at once.
_BATCH = 200
#: Exit code of ``prun`` if its arguments are wrong. Others tell of what may
#: pass: no valid token, or a sandbox that could not be uploaded.
_REFUSED = 10
#: PanDA's codes for tasks that are there: new, in DEFT, in JEDI, reused. Those
#: in DEFT may not have an id yet. With another, as 4 for a server error, a text
#: may name a task that is not ours.
_THERE = range(4)
_NOT_YET = 1
#: Under which names PanDA speaks of the id of a task.
_KEYS = ("jediTaskID", "jeditaskid", "taskID", "task_id")
_IN_TEXT = re.compile(r"(jediTaskID|task[_ ]?id)\D+(\d+)", re.IGNORECASE)
#: States of PanDA's tasks that have another name here.
_ALSO = {"broken": TaskState.FAILED}


def prun_arguments(task: TaskSpec) -> list[str]:
    """Return the arguments of ``prun`` for a task."""
    return [
        *("--exec", "./payload.sh"),
        *("--inDS", str(task.input)),
        *("--outDS", task.output),
        *("--nJobs", "1"),
        *("--vo", "epic"),
        *("--site", "E1_BNL"),
        *("--prodSourceLabel", "test"),
        *("--workingGroup", "EIC"),
        "--noBuild",
        "--expertOnly_skipScout",
        *("--outputs", "myout.txt"),
    ]


def find_task_id(answer: object) -> str | None:
    """Return the id of a task that PanDA's answer names, the last one."""
    if isinstance(answer, Mapping):
        for key in _KEYS:
            if (value := answer.get(key)) is not None and str(value).isdecimal():
                return str(value)
        return None
    if isinstance(answer, str):
        match = _IN_TEXT.search(answer)
        return match[2] if match else None
    if isinstance(answer, Sequence):
        return next((found for item in reversed(answer) if (found := find_task_id(item))), None)
    return None


@dataclass(frozen=True)
class _Cursor:
    """Where a look at the jobs of a task stands.

    Attributes
    ----------
    known : `dict` [`int`, `str`]
        Status of jobs, when it was last asked for.
    pending : `tuple` [`int`, ...]
        Jobs that are still to be asked for in this look.
    """

    known: dict[int, str] = field(default_factory=dict)
    pending: tuple[int, ...] = ()


class PandaExecutor:
    """Has PanDA execute tasks; a `services.streaming.executor.Executor`.

    Parameters
    ----------
    clients : `repos.streaming.panda_clients.PandaClients`
    script : `pathlib.Path` or `None`
        What a job runs; `PAYLOAD` if None.
    """

    def __init__(self, *, clients: PandaClients, script: Path | None = None) -> None:
        self._clients = clients
        self._script = script

    def start(self) -> None:
        """Do nothing: PanDA works while we do not."""

    def submit(self, task: TaskSpec) -> str:
        """Submit a task, once; see `services.streaming.executor.Executor`.

        PanDA knows a task by its name; of a second one it says the first
        one's id.
        """
        more: dict[str, Any] = {}
        if task.until_closed:
            more = {"runUntilClosed": True, "processingType": "stfprocessing"}
        with tempfile.TemporaryDirectory(prefix="prun-") as directory:
            self._fill(Path(directory))
            try:
                with self._clients.one(Path(directory)) as client:
                    status, answer = client.ask("submit", arguments=prun_arguments(task), more=more)
            except PandaExited as error:
                if error.code == _REFUSED:
                    raise InvalidMessage(str(error)) from error
                raise TemporarilyUnavailable(f"PanDA was not asked for {task.name}: {error}") from error
        return _read_submission(task, status, answer)

    def status(self, task_id: str) -> TaskState:
        """Return how a task stands."""
        answer = self._clients.answer("task_status", task=int(task_id))
        state = str(answer).lower()
        if state in _ALSO:
            return _ALSO[state]
        # PanDA has many words for tasks that still work.
        return TaskState(state) if state in TERMINAL_TASKS else TaskState.RUNNING

    def jobs(self, task_id: str, *, cursor: object | None = None) -> JobChanges:
        """Return jobs of a task that changed; those that are final are not
        asked for again.
        """
        here = cursor if isinstance(cursor, _Cursor) else _Cursor()
        pending = here.pending
        if not pending:
            ids = [int(id_) for id_ in self._clients.answer("job_ids", task=int(task_id)) or ()]
            pending = tuple(id_ for id_ in ids if not _is_final(here.known.get(id_)))
        batch, rest = pending[:_BATCH], pending[_BATCH:]
        found = self._clients.answer("jobs", ids=list(batch)) if batch else []
        jobs = [_record(job) for job in found or ()]
        changed = tuple(job for job in jobs if here.known.get(int(job.job_id)) != job.status)
        known = {**here.known, **{int(job.job_id): job.status for job in jobs}}
        return JobChanges(changed, _Cursor(known, rest), more=bool(rest))

    def close(self) -> None:
        """Let go of PanDA."""
        self._clients.close()

    def _fill(self, directory: Path) -> None:
        """Put into the sandbox what a job needs."""
        payload = directory / "payload.sh"
        if self._script is None:
            payload.write_text(PAYLOAD)
        else:
            try:
                shutil.copyfile(self._script, payload)
            except OSError as error:
                raise InvalidMessage(f"the payload {self._script} cannot be read: {error}") from error
        payload.chmod(0o755)


def _read_submission(task: TaskSpec, status: int, answer: Any) -> str:
    if status != 0:
        raise TemporarilyUnavailable(f"PanDA did not take the task {task.name}: {answer}")
    code = answer[0] if isinstance(answer, Sequence) and not isinstance(answer, str) and answer else None
    if answer is not None and code not in _THERE:
        raise TemporarilyUnavailable(f"PanDA failed at the task {task.name}: {answer}")
    task_id = find_task_id(answer)
    if task_id is None:
        # It may be on its way from DEFT to JEDI, which gives the id.
        why = "it has one but says no id yet" if code == _NOT_YET else "it says no id"
        raise TemporarilyUnavailable(f"PanDA, asked for the task {task.name}: {why}: {answer}")
    return task_id


def _record(job: Mapping[str, Any]) -> JobRecord:
    status = str(job.get("jobStatus") or "").lower()
    attempt, limit = job.get("attemptNr"), job.get("maxAttempt")
    again = isinstance(attempt, int) and isinstance(limit, int) and attempt < limit
    return JobRecord(
        job_id=str(job["PandaID"]),
        status=status,
        inputs=tuple(job.get("inputs") or ()),
        attempts=attempt if isinstance(attempt, int) else 0,
        error=panda_diagnosis(job),
        retried=status in FAILED_JOBS and again,
        created=panda_time(job.get("creationTime")),
        started=panda_time(job.get("startTime")),
        ended=panda_time(job.get("endTime")),
    )


def _is_final(status: str | None) -> bool:
    return status == "finished" or status in FAILED_JOBS
