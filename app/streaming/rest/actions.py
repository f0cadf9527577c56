"""REST resources that are not tables: numbers, signs of life, jobs."""

from __future__ import annotations

__all__ = ["Actions"]

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from zoneinfo import ZoneInfo

from flask import Blueprint, Response

from app.streaming.rest.answers import answer, asked, plain_error, read_body, validated
from app.streaming.rest.bodies import HeartbeatBody, NamespaceBody
from app.streaming.rest.queries import JobsQuery
from app.streaming.rest.resources import integer_key, not_found
from models.errors import InvalidConfiguration, TemporarilyUnavailable
from models.streaming.job_listing import JobListing, JobQuery
from repos.streaming.monitor_store import MonitorStore
from services.streaming.workflow_records import JobSource

#: Numbers that are given out: the path, the number's name, that of the answer.
_NUMBERS = {
    "next-run-number": ("run_number", "run_number"),
    "next-agent-id": ("agent_id", "agent_id"),
    "next-workflow-execution-id": ("workflow_execution_id", "sequence"),
}
#: Jobs that are listed if no number is asked for: of all tasks, of one.
_JOBS = 200
_JOBS_OF_TASK = 100_000


class Actions:
    """The views.

    Parameters
    ----------
    store : `repos.streaming.monitor_store.MonitorStore`
    zone : `zoneinfo.ZoneInfo`
        That of times without one.
    jobs : `services.streaming.workflow_records.JobSource`, optional
        Where jobs are asked for; without it there are none.
    """

    def __init__(self, store: MonitorStore, *, zone: ZoneInfo, jobs: JobSource | None = None) -> None:
        self._store = store
        self._zone = zone
        self._jobs = jobs

    def register(self, blueprint: Blueprint) -> None:
        """Add the views to a blueprint."""
        rules: list[tuple[str, str, Callable[..., Response]]] = [
            ("/state/<what>/", "POST", self.next_number),
            ("/namespaces/ensure/", "POST", self.ensure_namespace),
            ("/systemagents/heartbeat/", "POST", self.heartbeat),
            ("/logs/summary/", "GET", self.log_summary),
            ("/panda/jobs/", "GET", self.list_jobs),
            ("/panda/tasks/", "GET", self.list_tasks),
            ("/panda/tasks/<key>/", "GET", self.task),
        ]
        for rule, method, view in rules:
            blueprint.add_url_rule(rule, view.__name__, view, methods=[method], strict_slashes=False)

    def next_number(self, what: str) -> Response:
        """Give out a number."""
        if what not in _NUMBERS:
            return not_found()
        name, label = _NUMBERS[what]
        try:
            return answer({label: self._store.numbers.next(name), "status": "success"})
        except TemporarilyUnavailable as error:
            # The form of the field; who asks tries again.
            return answer({"error": str(error), "status": "error"}, HTTPStatus.INTERNAL_SERVER_ERROR)

    def ensure_namespace(self) -> Response:
        """Return a namespace, made if there is none."""
        body = validated(NamespaceBody, read_body(), zone=self._zone)
        row, created = self._store.namespaces.ensure(
            body.name, owner=body.owner, description=body.description
        )
        shown = {name: row[name] for name in ("name", "owner", "description")}
        return answer({**shown, "created": created, "status": "success"})

    def heartbeat(self) -> Response:
        """Take a sign of life."""
        body = validated(HeartbeatBody, read_body(), zone=self._zone)
        told = body.model_dump(exclude_unset=True)
        if told.get("metadata", ...) is None:
            del told["metadata"]
        row, created = self._store.agents.heartbeat(told)
        return answer(row, HTTPStatus.CREATED if created else HTTPStatus.OK)

    def log_summary(self) -> Response:
        """Say who logged how much."""
        return answer(self._store.logs.summary())

    def list_jobs(self) -> Response:
        """List jobs."""
        query = asked(JobsQuery, zone=self._zone)
        limit = query.limit or (_JOBS_OF_TASK if query.taskid is not None else _JOBS)
        # A task's jobs are asked for whenever they were.
        since = None if query.taskid is not None else datetime.now(UTC) - timedelta(days=query.days)
        wanted = query.model_dump(exclude={"days", "limit"})
        listing = self._find(JobQuery(since=since, limit=limit, **wanted))
        items = [dataclasses.asdict(job) for job in listing.jobs]
        # Counts are of all pages, so whether more follow is seen here.
        more = len(items) == limit and bool(
            self._find(JobQuery(since=since, limit=1, **{**wanted, "before_id": items[-1]["pandaid"]})).jobs
        )
        return answer(
            {
                "items": items,
                "total_count": listing.total,
                "has_more": more,
                "next_before_id": items[-1]["pandaid"] if more else None,
                "summary": dict(listing.summary),
                "filters": query.model_dump() | {"limit": limit},
            }
        )

    def list_tasks(self) -> Response:
        """List tasks, as their jobs tell."""
        query = asked(JobsQuery, zone=self._zone)
        since = datetime.now(UTC) - timedelta(days=query.days)
        wanted = query.model_dump(exclude={"days", "limit"})
        tasks = _tasks(self._find(JobQuery(since=since, limit=_JOBS_OF_TASK, **wanted)))
        limit = query.limit or _JOBS
        return answer({"items": tasks[:limit], "total_count": len(tasks), "has_more": len(tasks) > limit})

    def task(self, key: str) -> Response:
        """Return a task, as its jobs tell."""
        try:
            taskid = integer_key(key)
        except ValueError:
            return not_found()
        tasks = _tasks(self._find(JobQuery(taskid=taskid, limit=_JOBS_OF_TASK)))
        return answer(tasks[0]) if tasks else plain_error(HTTPStatus.NOT_FOUND, "Not found.")

    def _find(self, query: JobQuery) -> JobListing:
        if self._jobs is None:
            return JobListing(jobs=(), summary={})
        try:
            return self._jobs.listed(query)
        except InvalidConfiguration as error:
            # Such as the database of an agent that has not run yet.
            raise TemporarilyUnavailable(f"jobs cannot be listed: {error}") from error


def _tasks(listing: JobListing) -> list[dict[str, Any]]:
    tasks: dict[int, dict[str, Any]] = {}
    for job in listing.jobs:
        if job.jeditaskid is None:
            continue
        task = tasks.setdefault(
            job.jeditaskid,
            {
                "jeditaskid": job.jeditaskid,
                "reqid": job.reqid,
                "username": job.produsername,
                "processingtype": job.processingtype,
                "modificationtime": job.modificationtime,
                "jobs": {},
            },
        )
        task["jobs"][job.jobstatus] = task["jobs"].get(job.jobstatus, 0) + 1
    return [tasks[key] for key in sorted(tasks, reverse=True)]
