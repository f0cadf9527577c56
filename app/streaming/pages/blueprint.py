"""Routes of the pages about executions, runs and files."""

from __future__ import annotations

__all__ = ["streaming_pages"]

from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from flask import Blueprint, Response, make_response, redirect, render_template, request

from app.streaming.pages import formats
from app.streaming.pages.details import execution_page, run_page
from app.streaming.pages.overview import overview
from models.errors import PromptProcessingError
from models.streaming.monitoring import ExecutionStatus, StfStatus
from models.streaming.strict_json import storable_text
from services.streaming.workflow_records import JobSource, WorkflowRecords

#: Rows on a page.
_ROWS = 100
#: Numbers beyond this are in no database (64-bit integers).
_MAX_NUMBER = 2**63 - 1


def streaming_pages(
    records: Callable[[], WorkflowRecords], *, jobs: JobSource | None = None, visits: bool = False
) -> Blueprint:
    """Return the pages.

    Parameters
    ----------
    records : callable
        Returns the `services.streaming.workflow_records.WorkflowRecords`;
        called at every request. What it raises is shown.
    jobs : `services.streaming.workflow_records.JobSource`, optional
        None if nothing here knows of jobs.
    visits : `bool`, optional
        Whether the same web application has the status page of visits.
    """
    pages = Blueprint("streaming", "app.streaming.pages", template_folder="templates")
    views = _Views(records, jobs, visits=visits)
    execution = "/streaming/executions/<path:execution_id>"
    pages.add_url_rule("/streaming", "overview", views.overview, strict_slashes=False)
    pages.add_url_rule("/streaming/executions", "executions", views.executions, strict_slashes=False)
    pages.add_url_rule("/streaming/runs", "runs", views.runs, strict_slashes=False)
    pages.add_url_rule(execution, "execution", views.execution)
    pages.add_url_rule("/streaming/runs/<int:run_number>", "run", views.run, strict_slashes=False)
    pages.add_url_rule("/streaming/files", "files", views.files, strict_slashes=False)
    if not visits:
        pages.add_url_rule("/", "home", lambda: redirect("streaming"))
    pages.before_request(views.without_slash)
    pages.register_error_handler(PromptProcessingError, views.away)
    return pages


class _Views:
    """The pages; links are relative, for proxies that put us elsewhere."""

    def __init__(
        self, records: Callable[[], WorkflowRecords], jobs: JobSource | None, *, visits: bool
    ) -> None:
        self._records = records
        self._jobs = jobs
        self._visits = visits

    def without_slash(self) -> Response | None:
        """Lead from a page with a slash behind it to the page, whose links are
        right only there. Of an execution, the slash may belong to its name.
        """
        path = request.path.rstrip("/")
        if path in ("", request.path) or request.endpoint == "streaming.execution":
            return None
        query = request.query_string.decode("latin-1")
        return make_response(redirect(f"../{path.rpartition('/')[-1]}{query and f'?{query}'}"))

    def overview(self) -> Response:
        """What is going on."""
        return self._page("overview", root="", page=overview(self._records()))

    def execution(self, execution_id: str) -> Response:
        """One execution."""
        page = execution_page(self._records(), storable_text(execution_id))
        if page is None and execution_id.endswith("/"):
            return make_response(redirect(f"../{quote(execution_id.rstrip('/'), safe='')}"))
        if page is None:
            return self._missing(f"execution {execution_id}")
        return self._page("execution", root="../../", page=page)

    def run(self, run_number: int) -> Response:
        """One run."""
        page = run_page(self._records(), self._jobs, run_number) if run_number <= _MAX_NUMBER else None
        if page is None:
            return self._missing(f"run {run_number}")
        return self._page("run", root="../../", page=page)

    def executions(self) -> Response:
        """Executions, of a status, of a namespace, or all."""
        wanted, offset = _asked("status", "namespace"), _offset()
        found = self._records().executions.listed(
            status=wanted["status"] or None,
            namespace=wanted["namespace"] or None,
            limit=_ROWS,
            offset=offset,
        )
        return self._page(
            "executions",
            root="../",
            wanted=wanted,
            statuses=[*ExecutionStatus],
            rows=found.items,
            total=found.total,
            offset=offset,
            step=_ROWS,
        )

    def runs(self) -> Response:
        """All runs."""
        offset = _offset()
        found = self._records().runs.listed(limit=_ROWS, offset=offset)
        return self._page("runs", root="../", rows=found.items, total=found.total, offset=offset, step=_ROWS)

    def files(self) -> Response:
        """Files, of a run, of a status, or all."""
        wanted, offset = _asked("run_number", "status", "machine_state"), _offset()
        run = _number(wanted["run_number"])
        found = None
        # What is no number is no run's; it is not taken for "all".
        if run is not None or not wanted["run_number"]:
            found = self._records().files.listed(
                run_number=run,
                status=wanted["status"] or None,
                machine_state=wanted["machine_state"] or None,
                limit=_ROWS,
                offset=offset,
            )
        return self._page(
            "files",
            root="../",
            wanted=wanted,
            statuses=[*StfStatus],
            files=found.items if found else [],
            total=found.total if found else 0,
            offset=offset,
            step=_ROWS,
        )

    def away(self, error: PromptProcessingError) -> Response:
        """Say that the monitor's database cannot be asked; the page tries again."""
        response = self._page("trouble", root=self._root(), word="NOT READY", detail=str(error))
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
        return response

    def _missing(self, what: str) -> Response:
        response = self._page(
            "trouble", root="../../", word="NOT FOUND", detail=f"The monitor knows no {what}."
        )
        response.status_code = HTTPStatus.NOT_FOUND
        return response

    def _root(self) -> str:
        # Lists are one level below the overview, details two.
        depth = {"overview": 0, "executions": 1, "runs": 1, "files": 1}
        return "../" * depth.get((request.endpoint or "").rpartition(".")[-1], 2)

    def _page(self, template: str, *, root: str, **values: Any) -> Response:
        now = datetime.now(UTC)
        shown: dict[str, Callable[..., Any]] = {
            name: getattr(formats, name)
            for name in ("day_and_clock", "file_counts", "file_mood", "files_in_words", "size", "status_mood")
        }
        text = render_template(
            f"streaming/{template}.html",
            root=root,
            visits=self._visits,
            now=now,
            **shown,
            **values,
        )
        response = make_response(text)
        response.headers["Cache-Control"] = "no-store"
        return response


def _asked(*names: str) -> dict[str, str]:
    """Return what the request's query says, empty where it says nothing."""
    return {name: storable_text(request.args.get(name, "").strip(), longest=100) for name in names}


def _offset() -> int:
    return _number(request.args.get("offset", "")) or 0


def _number(text: str) -> int | None:
    """Return a number that a database can be asked for; None if it is none."""
    if not (text.isascii() and text.isdigit()) or len(text) > 19:
        return None
    return int(text) if int(text) <= _MAX_NUMBER else None
