"""The description of the monitor's HTTP interface."""

from __future__ import annotations

__all__ = ["monitor_document"]

from collections.abc import Sequence
from typing import Any

from app.streaming.pages.openapi import page_paths
from app.streaming.rest.openapi import rest_paths, rest_schemas
from app.streaming.rest.resources import Views


def monitor_document(
    version: str, *, views: Sequence[Views], has_token: bool, has_pages: bool
) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document.

    Parameters
    ----------
    version : `str`
        Of the software.
    views : sequence of `app.streaming.rest.resources.Views`
        The resources.
    has_token : `bool`
        Whether those who write need a token.
    has_pages : `bool`
        Whether there are pages for people, too.
    """
    text = {"type": "string"}
    healthy = {"type": "object", "properties": {"status": text}, "required": ["status"]}
    ready = {**healthy, "properties": {"status": text, "bus": text, "detail": text}}
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Monitor of the streaming workflow",
            "version": version or "0",
            "description": "What agents, runs, files and messages of the streaming workflow are doing.",
        },
        "paths": {
            **rest_paths(views, has_token=has_token),
            **(page_paths(home=True) if has_pages else {}),
            "/health": _get("health", "Whether the process can answer.", healthy),
            "/ready": _get("ready", "Whether the database and the bus are there.", ready, "503"),
            "/metrics": _get("metrics", "Metrics in Prometheus' text format.", text, kind="text/plain"),
            "/openapi.json": _get("openapi", "This document.", {"type": "object"}),
        },
        "components": {"schemas": rest_schemas(views)},
    }
    if has_token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return document


def _get(
    name: str, summary: str, schema: dict[str, Any], *others: str, kind: str = "application/json"
) -> dict[str, Any]:
    content = {kind: {"schema": schema}}
    responses = {status: {"description": summary, "content": content} for status in ("200", *others)}
    return {"get": {"operationId": name, "summary": summary, "responses": responses}}
