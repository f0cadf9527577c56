"""PanDA's jobs, listed for people by its own client.

The field's tool reads PanDA's database; the server's API knows jobs by their
task only, so that without one the tasks are asked for first.
"""

from __future__ import annotations

__all__ = ["PandaJobListing"]

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC
from typing import Any

from models.errors import InvalidMessage
from models.streaming.job_listing import JobListing, JobQuery, ListedJob
from repos.streaming.panda_answers import panda_diagnosis, panda_time
from repos.streaming.panda_client import PandaClient

#: Tasks that are looked at where none is named, and jobs in all.
_TASKS, _JOBS = 100, 20_000
#: Jobs that are described in one call.
_AT_ONCE = 200
#: PanDA's names of what is listed, which differ in case.
_TEXTS = ("prodUserName", "computingSite", "transformation", "processingType", "destinationSE")
_NUMBERS = ("jediTaskID", "reqID", "coreCount", "nEvents", "nOutputDataFiles", "outputFileBytes")
_TIMES = ("creationTime", "startTime", "endTime", "modificationTime")


class PandaJobListing:
    """Lists jobs; a `services.streaming.workflow_records.JobSource`.

    Parameters
    ----------
    client : `repos.streaming.panda_client.PandaClient`
    """

    def __init__(self, client: PandaClient) -> None:
        self._client = client

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
        """Return ids of jobs, the greatest first."""
        tasks = [query.taskid]
        if query.taskid is None:
            since = query.since.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if query.since else None
            tasks = self._client.answer("tasks", since=since, request=query.reqid, limit=_TASKS)
        found: set[int] = set()
        for task in tasks:
            found.update(int(number) for number in self._client.answer("job_ids", task=int(task or 0)) or ())
        return sorted(found, reverse=True)

    def _described(self, ids: Sequence[int]) -> Iterator[ListedJob]:
        for start in range(0, len(ids), _AT_ONCE):
            answer = self._client.answer("jobs", ids=list(ids[start : start + _AT_ONCE])) or ()
            jobs = [_listed(job) for job in answer]
            yield from sorted(jobs, key=lambda job: job.pandaid, reverse=True)


def _listed(job: Mapping[str, Any]) -> ListedJob:
    values: dict[str, Any] = {
        **{name.lower(): None if job.get(name) is None else str(job[name]) for name in _TEXTS},
        **{name.lower(): _number(job.get(name)) for name in _NUMBERS},
        **{name.lower(): panda_time(job.get(name)) for name in _TIMES},
    }
    return ListedJob(
        pandaid=int(job["PandaID"]),
        jobstatus=str(job.get("jobStatus") or ""),
        inputfiles=tuple(str(name) for name in job.get("inputs") or ()),
        error=panda_diagnosis(job),
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


def _number(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None
