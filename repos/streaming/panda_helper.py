"""A process of its own in which panda-client works; run as a script.

panda-client takes the working directory for the sandbox, changes directory
and `sys.argv`, resolves hosts when it is imported, and ends the process when
something is wrong: none of that is for an agent's process. This one reads
requests and writes answers, one JSON object a line. It uses nothing of the
project, and panda-client reads the environment itself.
"""

from __future__ import annotations

__all__ = ["main"]

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TextIO


def submit(arguments: Sequence[str], more: dict[str, Any]) -> dict[str, Any]:
    """Make the parameters of a task as ``prun`` does, and submit it.

    The working directory is the sandbox.
    """
    from pandaclient import PrunScript, panda_api

    parameters = PrunScript.main(True, list(arguments))
    parameters.update(more)
    status, answer = panda_api.get_api().submit_task(parameters)
    return {"status": status, "answer": answer}


def task_status(task: int) -> dict[str, Any]:
    """Return how a task stands."""
    from pandaclient import Client

    status, answer = Client.getTaskStatus(task)
    return {"status": status, "answer": answer}


def job_ids(task: int) -> dict[str, Any]:
    """Return the ids of a task's jobs."""
    from pandaclient import Client

    status, answer = Client.getPandaIDsWithTaskID(task)
    return {"status": status, "answer": answer}


def jobs(ids: Sequence[int]) -> dict[str, Any]:
    """Return what there is to know of some jobs."""
    from pandaclient import Client

    status, answer = Client.getFullJobStatus(list(ids))
    described = [_describe(job) for job in answer or () if job is not None] if status == 0 else answer
    return {"status": status, "answer": described}


def tasks(since: str | None, request: int | None, limit: int) -> dict[str, Any]:
    """Return ids of tasks that changed since a time, or are of a request."""
    from pandaclient import Client

    filters = None if request is None else {"reqID": str(request)}
    status, answer = Client.get_tasks_detailed_info_since(since=since, filters=filters, n_tasks=limit)
    return {
        "status": status,
        "answer": [task["jediTaskID"] for task in answer or ()] if status == 0 else answer,
    }


def _describe(job: Any) -> dict[str, Any]:
    names = (
        "PandaID",
        "jobStatus",
        "attemptNr",
        "maxAttempt",
        "creationTime",
        "startTime",
        "endTime",
        "modificationTime",
        "jediTaskID",
        "reqID",
        "prodUserName",
        "computingSite",
        "transformation",
        "processingType",
        "coreCount",
        "nEvents",
        "nOutputDataFiles",
        "outputFileBytes",
        "destinationSE",
        "pilotErrorDiag",
        "exeErrorDiag",
        "taskBufferErrorDiag",
        "jobDispatcherErrorDiag",
        "ddmErrorDiag",
        "brokerageErrorDiag",
        "supErrorDiag",
    )
    values = {name: getattr(job, name, None) for name in names}
    values = {name: None if value == "NULL" else value for name, value in values.items()}
    inputs = [file.lfn for file in job.Files if file.type == "input" and not file.lfn.endswith(".lib.tgz")]
    return {**values, "inputs": inputs}


_CALLS: dict[str, Callable[..., dict[str, Any]]] = {
    "submit": submit,
    "task_status": task_status,
    "tasks": tasks,
    "job_ids": job_ids,
    "jobs": jobs,
}


def main(requests: TextIO, answers: TextIO) -> None:
    """Answer requests until there are no more."""
    for line in requests:
        request = json.loads(line)
        try:
            answer = _CALLS[request.pop("call")](**request)
        except SystemExit as ended:
            answer = {"exit": ended.code if isinstance(ended.code, int) else 1}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        # What was printed explains the answer.
        sys.stdout.flush()
        answers.write(json.dumps(answer, default=str) + "\n")
        answers.flush()


if __name__ == "__main__":
    # What panda-client prints, and what it asks of a user, is neither answer
    # nor request.
    in_, out = os.dup(0), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    main(os.fdopen(in_), os.fdopen(out, "w"))
    sys.stdout.flush()
