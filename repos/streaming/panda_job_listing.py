"""PanDA's jobs, listed for people by its own client.

The field's tool reads PanDA's database; the server's API knows jobs by their
task only, so that without one the tasks are asked for first.
"""

from __future__ import annotations

__all__ = ["PandaCalls", "PandaJobListing"]

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from importlib import import_module
from typing import Any, Protocol

from models.errors import InvalidMessage, TemporarilyUnavailable
from models.streaming.job_listing import JobListing, JobQuery, ListedJob

#: Tasks that are looked at where none is named, and jobs in all.
_TASKS, _JOBS = 100, 20_000
#: Jobs that are described in one call.
_AT_ONCE = 200
#: Fields of a listed job, and their names in PanDA's job specification where
#: these differ in more than case.
_TEXTS = ("prodUserName", "computingSite", "transformation", "processingType", "destinationSE")
_NUMBERS = ("jediTaskID", "reqID", "coreCount", "nEvents", "nOutputDataFiles", "outputFileBytes")
_TIMES = ("creationTime", "startTime", "endTime", "modificationTime")
_DIAGNOSES = ("pilotErrorDiag", "exeErrorDiag", "ddmErrorDiag", "taskBufferErrorDiag", "brokerageErrorDiag")


class PandaCalls(Protocol):
    """What is used of ``pandaclient.Client``; 0 is success."""

    def getPandaIDsWithTaskID(self, jediTaskID: int) -> tuple[int, Any]:
        """Return ids of a task's jobs."""

    def getFullJobStatus(self, ids: Sequence[int]) -> tuple[int, Any]:
        """Return jobs, archived ones too."""

    def get_tasks_detailed_info_since(
        self, since: str | None = None, filters: dict[str, str] | None = None, n_tasks: int = 500
    ) -> tuple[int, Any]:
        """Return tasks that changed since a time."""


class PandaJobListing:
    """Lists jobs; a `services.streaming.workflow_records.JobSource`.

    Parameters
    ----------
    calls : `PandaCalls`, optional
        ``pandaclient.Client`` by default.
    """

    def __init__(self, calls: PandaCalls | None = None) -> None:
        if calls is None:
            try:
                client: PandaCalls = import_module("pandaclient.Client")
            except OSError as error:  # it looks for its server when it is imported
                raise TemporarilyUnavailable(f"PanDA: its server is not found: {error}") from error
            calls = client
        self._calls = calls

    def listed(self, query: JobQuery) -> JobListing:
        """Return jobs.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if PanDA does not answer, or not as it should.
        models.errors.InvalidMessage
            Raised if more is asked for than PanDA should be bothered with.
        """
        ids = self._ids(query)
        if len(ids) > _JOBS:
            raise InvalidMessage(f"{len(ids)} jobs: name one task by taskid, or fewer days")
        chosen = [job for job in self._described(ids) if _meets(job, query)]
        summary = Counter(job.jobstatus for job in chosen)
        below = [job for job in chosen if query.before_id is None or job.pandaid < query.before_id]
        return JobListing(below[: query.limit], summary, len(below) > query.limit)

    def _ids(self, query: JobQuery) -> list[int]:
        tasks = [query.taskid] if query.taskid is not None else self._tasks(query)
        found: set[int] = set()
        for task in tasks:
            answer = _checked("ids of jobs", self._calls.getPandaIDsWithTaskID(task))
            found.update(int(number) for number in answer or ())
        return sorted(found, reverse=True)

    def _tasks(self, query: JobQuery) -> list[int]:
        since = query.since.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if query.since else None
        filters = {"reqID": str(query.reqid)} if query.reqid is not None else None
        answer = self._calls.get_tasks_detailed_info_since(since=since, filters=filters, n_tasks=_TASKS)
        return [int(task["jediTaskID"]) for task in _checked("tasks", answer) or ()]

    def _described(self, ids: Sequence[int]) -> Iterator[ListedJob]:
        for start in range(0, len(ids), _AT_ONCE):
            answer = self._calls.getFullJobStatus(list(ids[start : start + _AT_ONCE]))
            jobs: Iterable[Any] = _checked("jobs", answer) or ()
            # What the client could not read is None.
            yield from sorted(
                (_listed(job) for job in jobs if job is not None), key=lambda job: job.pandaid, reverse=True
            )


def _checked(what: str, answer: tuple[int, Any]) -> Any:
    status, content = answer
    if status != 0:
        raise TemporarilyUnavailable(f"PanDA: {what}: its client answers {status}: {content}")
    return content


def _listed(job: Any) -> ListedJob:
    values: dict[str, Any] = {
        **{name.lower(): _text(job, name) for name in _TEXTS},
        **{name.lower(): _number(job, name) for name in _NUMBERS},
        **{name.lower(): _time(job, name) for name in _TIMES},
    }
    diagnoses = (_text(job, name) for name in _DIAGNOSES)
    return ListedJob(
        pandaid=int(job.PandaID),
        jobstatus=str(job.jobStatus),
        inputfiles=tuple(
            str(file.lfn)
            for file in getattr(job, "Files", None) or ()
            if file.type == "input" and not str(file.lfn).endswith(".lib.tgz")
        ),
        error="; ".join(text for text in diagnoses if text) or None,
        **values,
    )


def _meets(job: ListedJob, query: JobQuery) -> bool:
    changed = job.modificationtime
    return (
        query.status in (None, job.jobstatus)
        and query.username in (None, job.produsername)
        and query.site in (None, job.computingsite)
        and query.reqid in (None, job.reqid)
        and (query.since is None or changed is None or changed >= query.since)
    )


def _value(job: Any, name: str) -> Any:
    value = getattr(job, name, None)
    return None if value in ("NULL", "", None) else value


def _text(job: Any, name: str) -> str | None:
    value = _value(job, name)
    return None if value is None else str(value)


def _number(job: Any, name: str) -> int | None:
    try:
        return int(_value(job, name))
    except (TypeError, ValueError):
        return None


def _time(job: Any, name: str) -> datetime | None:
    value = _value(job, name)
    try:
        time = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        return None
    # PanDA's times are UTC, and say so by no zone.
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
