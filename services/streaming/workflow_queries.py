"""Answers about workflows, as the MCP tools of the field give them.

Arguments, limits and shapes are those of the field's tools, with what is
better said: whoever names an execution, a run or a task gets all of it,
whatever its age (there, a window of an hour hid it), and where a window that
nobody asked for leaves something out, the answer says how much. All times
have a zone.
"""

from __future__ import annotations

__all__ = ["WorkflowQueries"]

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from models.errors import InvalidMessage, PromptProcessingError
from models.streaming.job_listing import JobQuery
from models.streaming.strict_json import storable_text
from services.streaming.query_arguments import (
    Window,
    bounded,
    database_number,
    database_text,
    file_status,
    log_level,
)
from services.streaming.workflow_items import file_item, log_item, message_item, plain
from services.streaming.workflow_records import JobSource, RecordPage, WorkflowRecords
from services.streaming.workflow_summary import summarise_workflow

Row = Mapping[str, Any]
Answer = dict[str, Any]

#: Items that are returned if nothing is said, and at most.
_FEW, _MANY, _MOST = 100, 200, 1000
#: Jobs of a task that are returned if nothing is said.
_JOBS_OF_TASK = 100_000

_log = logging.getLogger(__name__)


class WorkflowQueries:
    """Answers about workflows; each is a JSON object, ``{"error": ...}`` where
    there is none.

    Parameters
    ----------
    records : callable
        Returns the `services.streaming.workflow_records.WorkflowRecords`; asked
        at every question, so that what is not there yet may come.
    jobs : `services.streaming.workflow_records.JobSource` or `None`
        None if nothing knows of jobs here.
    pages : `str`, optional
        URL of the web pages' root, for links.
    """

    def __init__(
        self, *, records: Callable[[], WorkflowRecords], jobs: JobSource | None, pages: str = ""
    ) -> None:
        self._records = records
        self._jobs = jobs
        self._pages = pages.rstrip("/")

    def workflow_monitor(self, execution_id: str) -> Answer:
        """Return how an execution stands: phase, files, events and errors."""

        def ask() -> Answer:
            summary = summarise_workflow(self._records(), storable_text(execution_id))
            if summary is None:
                return {
                    "error": f"there is no execution {execution_id!r}; list_messages tells which there are"
                }
            return {**plain(summary), "monitor_urls": self._execution_links(execution_id)}

        return _answered(ask)

    def messages(
        self,
        *,
        namespace: str | None = None,
        execution_id: str | None = None,
        agent: str | None = None,
        message_type: str | None = None,
        start_time: str | None = None,
        end_time: str | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> Answer:
        """Return messages of the bus, the last first; those of the last hour,
        unless an execution or a time is given.
        """

        def ask() -> Answer:
            window = Window.read(start_time, end_time, hours=1, named=bool(execution_id))

            def listed(**more: Any) -> RecordPage:
                return self._records().messages.listed(
                    namespace=database_text(namespace),
                    execution_id=database_text(execution_id),
                    sender_agent=database_text(agent),
                    message_types=[storable_text(message_type)] if message_type else None,
                    **more,
                )

            links = self._execution_links(execution_id) if execution_id else self._overview_links()
            return _listing(listed, window, message_item, limit, offset, default=_MANY, links=links)

        return _answered(ask)

    def stf_files(
        self,
        *,
        run_number: int | None = None,
        status: str | None = None,
        machine_state: str | None = None,
        start_time: str | None = None,
        end_time: str | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> Answer:
        """Return STF files, those registered last first; those of the last
        24 hours, unless a run or a time is given.
        """

        def ask() -> Answer:
            run = database_number("run_number", run_number)
            wanted = file_status(status)
            window = Window.read(start_time, end_time, hours=24, named=run is not None)

            def listed(**more: Any) -> RecordPage:
                return self._records().files.listed(
                    run_number=run,
                    status=wanted,
                    machine_state=database_text(machine_state),
                    **more,
                )

            links = [self._link("STF files", "/streaming/files")]
            if run is not None:
                links.insert(0, self._link(f"Run {run}", f"/streaming/runs/{run}"))
            return _listing(listed, window, file_item, limit, offset, default=_FEW, links=links)

        return _answered(ask)

    def logs(
        self,
        *,
        app_name: str | None = None,
        instance_name: str | None = None,
        execution_id: str | None = None,
        level: str | int | None = None,
        search: str | None = None,
        start_time: str | None = None,
        end_time: str | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> Answer:
        """Return what agents logged, the last first; of the last 24 hours,
        unless an execution or a time is given. `level` is the lowest shown.
        """

        def ask() -> Answer:
            lowest = log_level(level)
            window = Window.read(start_time, end_time, hours=24, named=bool(execution_id))

            def listed(**more: Any) -> RecordPage:
                return self._records().logs.listed(
                    app_name=database_text(app_name),
                    instance_name=database_text(instance_name),
                    execution_id=database_text(execution_id),
                    level=lowest,
                    search=database_text(search),
                    **more,
                )

            links = self._execution_links(execution_id) if execution_id else self._overview_links()
            return _listing(listed, window, log_item, limit, offset, default=_MANY, links=links)

        return _answered(ask)

    def jobs(
        self,
        *,
        days: float | None = None,
        status: str | None = None,
        username: str | None = None,
        site: str | None = None,
        taskid: int | None = None,
        reqid: int | None = None,
        limit: int | None = None,
        before_id: int | None = None,
    ) -> Answer:
        """Return jobs, the greatest ids first; those that changed within seven
        days, unless `days` or a task is given.
        """

        def ask() -> Answer:
            if self._jobs is None:
                return {"error": "nothing here knows of jobs: there is neither a local executor nor PanDA"}
            window = days if days is not None else (None if taskid is not None else 7.0)
            query = JobQuery(
                since=_days_ago(window),
                status=database_text(status),
                username=database_text(username),
                site=database_text(site),
                taskid=database_number("taskid", taskid),
                reqid=database_number("reqid", reqid),
                limit=bounded(
                    limit, default=_JOBS_OF_TASK if taskid is not None else _MANY, most=_JOBS_OF_TASK
                ),
                before_id=database_number("before_id", before_id),
            )
            found = self._jobs.listed(query)
            jobs = [plain(vars(job)) for job in found.jobs]
            return {
                "summary": dict(found.summary),
                "total_in_window": found.total,
                "jobs": jobs,
                "count": len(jobs),
                "pagination": {
                    "before_id": before_id,
                    "has_more": found.more,
                    "next_before_id": jobs[-1]["pandaid"] if found.more and jobs else None,
                    "limit": query.limit,
                },
                "filters": {
                    "days": window,
                    "status": status,
                    "username": username,
                    "site": site,
                    "taskid": taskid,
                    "reqid": reqid,
                },
            }

        return _answered(ask)

    def _link(self, title: str, path: str) -> dict[str, str]:
        return {"title": title, "url": f"{self._pages}{path}"}

    def _overview_links(self) -> list[dict[str, str]]:
        return [self._link("Streaming workflow", "/streaming")]

    def _execution_links(self, execution_id: str) -> list[dict[str, str]]:
        path = f"/streaming/executions/{quote(storable_text(execution_id), safe='')}"
        return [self._link(f"Execution {execution_id}", path), *self._overview_links()]


def _answered(ask: Callable[[], Answer]) -> Answer:
    try:
        return ask()
    except PromptProcessingError as error:
        _log.info("A question was not answered: %s", error)
        return {"error": str(error)}


def _listing(
    listed: Callable[..., RecordPage],
    window: Window,
    item: Callable[[Row], Answer],
    limit: int | None,
    offset: int,
    *,
    default: int,
    links: Sequence[Mapping[str, str]],
) -> Answer:
    start = database_number("offset", offset) or 0
    page = listed(**window.bounds, limit=bounded(limit, default=default, most=_MOST), offset=start)
    answer: Answer = {
        "items": [item(row) for row in page.items],
        "total_count": page.total,
        "has_more": start + len(page.items) < page.total,
        "monitor_urls": list(links),
    }
    if window.assumed and window.start is not None:
        answer["window_start"] = window.start.isoformat()
        answer["older_count"] = listed(start=None, end=window.start, limit=1).total
    return answer


def _days_ago(days: float | None) -> datetime | None:
    if days is None:
        return None
    if not days >= 0:  # Nor is what is no number.
        raise InvalidMessage(f"days: there can be no {days:g}")
    # More than a lifetime is everything, and no date before the year one.
    return datetime.now(UTC) - timedelta(days=min(days, 36500.0))
