"""The description of the pages about executions, runs and files."""

from __future__ import annotations

__all__ = ["page_paths"]

from typing import Any

_TEXT = {"type": "string"}


def page_paths(*, home: bool) -> dict[str, Any]:
    """Return the pages' part of an OpenAPI document, by URL.

    Parameters
    ----------
    home : `bool`
        Whether the root leads to them.
    """
    execution = {"name": "execution_id", "in": "path", "required": True, "schema": {**_TEXT, "minLength": 1}}
    number = {
        "name": "run_number",
        "in": "path",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
    }
    paths = {
        "/streaming": _page("streaming", "What is going on."),
        "/streaming/executions": _page(
            "streaming-executions", "Executions.", parameters=_asked("status", "namespace", "offset")
        ),
        "/streaming/runs": _page("streaming-runs", "Runs.", parameters=_asked("offset")),
        "/streaming/executions/{execution_id}": _page(
            "streaming-execution", "One execution.", parameters=[execution], missing=True
        ),
        "/streaming/runs/{run_number}": _page("streaming-run", "One run.", parameters=[number], missing=True),
        "/streaming/files": _page(
            "streaming-files",
            "STF files.",
            parameters=_asked("run_number", "status", "machine_state", "offset"),
        ),
    }
    if home:
        paths["/"] = {
            "get": {
                "operationId": "home",
                "summary": "Leads to the pages.",
                "responses": {
                    "302": {"description": "The first page.", "headers": {"Location": {"schema": _TEXT}}}
                },
            }
        }
    return paths


def _asked(*names: str) -> list[dict[str, Any]]:
    return [{"name": name, "in": "query", "required": False, "schema": _TEXT} for name in names]


def _page(
    name: str, summary: str, *, parameters: list[dict[str, Any]] | None = None, missing: bool = False
) -> dict[str, Any]:
    html = {"text/html": {"schema": _TEXT}}
    responses: dict[str, Any] = {
        "200": {"description": "The page, for people.", "content": html},
        "503": {"description": "The monitor's database is away.", "content": html},
        "414": {"description": "The path and query are too long.", "content": html},
    }
    if missing:
        # What is no number or no path at all is answered in the application's form.
        responses["404"] = {"description": "The monitor knows no such thing."}
    operation: dict[str, Any] = {"operationId": name, "summary": summary, "responses": responses}
    if parameters:
        operation["parameters"] = parameters
    return {"get": operation}
