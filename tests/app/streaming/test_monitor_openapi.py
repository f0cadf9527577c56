"""The description of the monitor's HTTP interface."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from app.streaming.monitor_factory import create_monitor
from config.streaming.settings import load_streaming_settings


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    return create_monitor(load_streaming_settings(env={"PP_TESTBED_DIRECTORY": str(tmp_path)}))


def document_of(app: Flask) -> dict[str, Any]:
    document = app.test_client().get("/openapi.json").json
    assert isinstance(document, dict)
    return document


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def test_every_route_is_described_and_nothing_else(app: Flask) -> None:
    served = set()
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            if not path.startswith("/static/"):
                served.add((path, method.lower()))
    # One route gives out all kinds of numbers.
    served.remove(("/api/state/{what}/", "post"))
    described = {(path, method) for path, methods in document_of(app)["paths"].items() for method in methods}
    numbers = {(path, method) for path, method in described if path.startswith("/api/state/")}
    assert len(numbers) == 3
    assert described - numbers == served


def test_what_is_referred_to_is_there(app: Flask) -> None:
    document = document_of(app)
    named = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) == named
    ids = [
        operation["operationId"] for methods in document["paths"].values() for operation in methods.values()
    ]
    assert len(ids) == len(set(ids))


def test_a_row_is_described_as_it_is_answered(app: Flask) -> None:
    document = document_of(app)
    client = app.test_client()
    run = client.post("/api/runs/", json={"run_number": 5, "start_time": "2026-01-01T00:00:00Z"}).json
    assert run is not None
    schema = document["components"]["schemas"]["Run"]
    assert set(schema["required"]) == set(run)
    assert schema["properties"]["end_time"] == {"type": ["string", "null"], "format": "date-time"}
    hidden = document["components"]["schemas"]["WorkflowMessage"]["properties"]
    assert "message_id" in hidden and "received_order" not in hidden


@pytest.mark.parametrize("token", ["", "secret"])
def test_who_needs_a_token_is_told(tmp_path: Path, token: str) -> None:
    environment = {"PP_TESTBED_DIRECTORY": str(tmp_path), "SWF_API_TOKEN": token}
    document = document_of(create_monitor(load_streaming_settings(env=environment)))
    paths = document["paths"]
    secured = {
        (path, method)
        for path, methods in paths.items()
        for method, operation in methods.items()
        if "security" in operation
    }
    assert (("/api/runs/", "post") in secured) is bool(token)
    assert (("/api/runs/{key}/", "delete") in secured) is bool(token)
    # Everybody may read, and add to the logs.
    assert not any(method == "get" for _, method in secured)
    assert ("/api/logs/", "post") not in secured
    assert ("401" in paths["/api/runs/"]["post"]["responses"]) is bool(token)
