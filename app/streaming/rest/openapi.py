"""The description of the REST resources, made from what they are made of."""

from __future__ import annotations

__all__ = ["rest_paths", "rest_schemas"]

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.streaming.rest import bodies, queries
from app.streaming.rest.answers import MAX_BODY
from app.streaming.rest.resources import Views
from models.streaming.strict_json import LONGEST_NAME
from repos.streaming.monitor_columns import column_schemas

Object = dict[str, Any]

_SCHEMAS = "#/components/schemas/"
_ALLOW = {"Allow": {"description": "Methods that are served here.", "schema": {"type": "string"}}}
_RETRY_AFTER = {"Retry-After": {"required": True, "schema": {"type": "integer", "minimum": 0}}}
_AUTHENTICATE = {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}}
_COUNT = {"X-Total-Count": {"description": "How many rows there are in all.", "schema": {"type": "integer"}}}
#: Keys that there can be.
_KEY_LIMITS: dict[str, Object] = {
    "integer": {"minimum": 0, "maximum": 2**63 - 1},
    "string": {"minLength": 1, "maxLength": LONGEST_NAME},
}
#: What the server itself answers before anything of ours sees the request.
_TOO_LONG = {
    "description": "The path and query are too long.",
    "content": {"text/html": {"schema": {"type": "string"}}},
}


def rest_schemas(views: Sequence[Views]) -> Object:
    """Return the schemas that the paths refer to."""
    models: set[type[BaseModel]] = {bodies.HeartbeatBody, bodies.NamespaceBody, bodies.FileChange}
    for each in views:
        models |= {each.spec.body, bodies.partial(each.spec.body)}
    ordered = sorted(models, key=lambda model: model.__name__)
    _, written = models_json_schema(
        [(model, "validation") for model in ordered], ref_template=_SCHEMAS + "{model}"
    )
    rows = {_row(each): _row_schema(each) for each in views}
    text = {"type": "string"}
    return {
        **{name: _without_defaults(schema) for name, schema in written["$defs"].items()},
        **rows,
        "Detail": {"type": "object", "properties": {"detail": text}, "required": ["detail"]},
        "FieldFaults": {
            "description": "What is wrong, by field.",
            "type": "object",
            "additionalProperties": {"type": "array", "items": text},
        },
    }


def rest_paths(views: Sequence[Views], *, has_token: bool) -> Object:
    """Return the paths, by URL below the application's root.

    Parameters
    ----------
    views : sequence of `app.streaming.rest.resources.Views`
    has_token : `bool`
        Whether those who write need a token.
    """
    paths: Object = {}
    for each in views:
        paths |= _resource(each)
    agent = {
        status: _ok(what, _schema("SystemAgent"))
        for status, what in (("200", "The agent."), ("201", "A new agent."))
    }
    text, integer, truth = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
    page = _object({"items": {"type": "array"}, "total_count": integer, "has_more": truth})
    several = {"200": _ok("Some of them.", page)}
    namespace = {"name": text, "owner": text, "description": text, "created": truth, "status": text}
    paths |= {
        "/api/systemagents/heartbeat/": {
            "post": _operation("heartbeat", "Take a sign of life.", agent, body=_model(bodies.HeartbeatBody))
        },
        "/api/namespaces/ensure/": {
            "post": _operation(
                "ensure-namespace",
                "Make a namespace if there is none.",
                {"200": _ok("The namespace.", _object(namespace))},
                body=_model(bodies.NamespaceBody),
            )
        },
        "/api/logs/summary/": {
            "get": _operation("log-summary", "Who logged how much.", {"200": _ok("By application.", {})})
        },
        "/api/panda/jobs/": {
            "get": _operation("jobs", "Jobs, the greatest ids first.", several, query=queries.JobsQuery)
        },
        "/api/panda/tasks/": {
            "get": _operation("tasks", "Tasks, as their jobs tell.", several, query=queries.JobsQuery)
        },
        "/api/panda/tasks/{key}/": {
            "get": _operation(
                "task",
                "A task, as its jobs tell.",
                {"200": _ok("The task.", _object({"jeditaskid": integer}))},
                key={"type": "integer"},
            )
        },
        "/api/messages/stream/": {
            "get": _operation(
                "message-stream",
                "Messages of the bus as they come, for a quarter of an hour at most.",
                {"200": {"description": "Events.", "content": {"text/event-stream": {"schema": text}}}},
                query=queries.StreamQuery,
            )
        },
    }
    for name, label in (
        ("next-run-number", "run_number"),
        ("next-agent-id", "agent_id"),
        ("next-workflow-execution-id", "sequence"),
    ):
        answers = {
            "200": _ok("The number.", _object({label: integer, "status": text})),
            "500": _ok("It cannot be given now; ask again.", _object({"error": text, "status": text})),
        }
        paths[f"/api/state/{name}/"] = {"post": _operation(name, "Give out a number.", answers)}
    if has_token:
        _demand_token(paths)
    return paths


def _resource(views: Views) -> Object:
    spec = views.spec
    row, body, change = _schema(_row(views)), _model(spec.body), _model(bodies.partial(spec.body))
    rows: Object = {"type": "array", "items": row}
    listed, new, made = rows, body, row
    if spec.listing.enveloped:
        link = {"type": ["string", "null"]}
        page = _object({"count": {"type": "integer"}, "next": link, "previous": link, "results": rows})
        listed = {"anyOf": [rows, page]}
    if spec.path in ("stf-files", "logs"):
        new = {"anyOf": [body, {"type": "array", "items": body}]}
        several = rows if spec.path == "stf-files" else _object({"created": {"type": "integer"}})
        made = {"anyOf": [row, several]}
    name, what = spec.path, spec.store.title
    found = {"200": _ok("The row.", row)}
    key = column_schemas(spec.store)[spec.store.key.name]
    operations = ("get", "patch", "put", "delete")
    added = _ok("The row.", made)
    added["links"] = {
        each: {
            "operationId": f"{name}-{each}",
            "parameters": {"key": f"$response.body#/{spec.store.key.name}"},
        }
        for each in operations
    }
    many = {
        "get": _operation(
            f"{name}-list",
            f"Rows of {name}.",
            {"200": {**_ok("Rows.", listed), "headers": _COUNT}},
            query=spec.listing.query,
        ),
        "post": _operation(f"{name}-add", f"Add a {what}.", {"201": added}, body=new),
    }
    if spec.path == "stf-files":
        updated = {"200": _ok("How many.", _object({"updated": {"type": "integer"}}))}
        changes = {"type": "array", "items": _model(bodies.FileChange)}
        many["patch"] = _operation(f"{name}-change", "Change several files.", updated, body=changes)
    one = {
        "get": _operation(f"{name}-get", f"A {what}.", found, key=key),
        "patch": _operation(
            f"{name}-patch", f"Change fields of a {what}.", found, key=key, body=change, needed=False
        ),
        "put": _operation(f"{name}-put", f"Change a {what}.", found, key=key, body=body),
        "delete": _operation(
            f"{name}-delete", f"Remove a {what}.", {"204": {"description": "It is gone."}}, key=key
        ),
    }
    return {f"/api/{name}/": many, f"/api/{name}/{{key}}/": one}


def _operation(
    name: str,
    summary: str,
    answers: Mapping[str, Object],
    *,
    key: Object | None = None,
    query: type[BaseModel] | None = None,
    body: Object | None = None,
    needed: bool = True,
) -> Object:
    wrong = {"anyOf": [_schema("FieldFaults"), {"type": "array", "items": _schema("FieldFaults")}]}
    responses: Object = {
        **answers,
        "400": _ok("Something is missing or wrong.", {"anyOf": [_schema("Detail"), *wrong["anyOf"]]}),
        "404": _detail("There is no such thing."),
        "405": _detail("This method is not served here.", _ALLOW),
        "414": _TOO_LONG,
        "503": _detail("It cannot be answered now; ask again.", _RETRY_AFTER),
    }
    operation: Object = {"operationId": name, "summary": summary, "responses": responses}
    parameters = [] if key is None else [_parameter("key", "path", _KEY_LIMITS.get(key["type"], {}) | key)]
    if query is not None:
        properties = query.model_json_schema()["properties"]
        parameters += [_parameter(each, "query", _without_null(s)) for each, s in properties.items()]
    if parameters:
        operation["parameters"] = parameters
    if body is not None:
        operation["requestBody"] = {"required": needed, "content": {"application/json": {"schema": body}}}
        responses["413"] = _detail(f"The body is larger than {MAX_BODY // 1024 // 1024} MiB.")
        responses["415"] = _detail("The body is no application/json.")
    return operation


def _demand_token(paths: Object) -> None:
    for path, methods in paths.items():
        for method, operation in methods.items():
            if method != "get" and (path, method) != ("/api/logs/", "post"):
                operation["security"] = [{"token": []}]
                operation["responses"]["401"] = _detail("No token, or a wrong one.", _AUTHENTICATE)


def _row_schema(views: Views) -> Object:
    columns = column_schemas(views.spec.store)
    return _object({name: schema for name, schema in columns.items() if name not in views.spec.hidden})


def _row(views: Views) -> str:
    """Return the name of the schema of a row."""
    return views.spec.store.title.title().replace(" ", "")


def _schema(name: str) -> Object:
    return {"$ref": _SCHEMAS + name}


def _model(model: type[BaseModel]) -> Object:
    return _schema(model.__name__)


def _object(properties: Object) -> Object:
    return {"type": "object", "properties": properties, "required": [*properties]}


def _ok(description: str, schema: Object) -> Object:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _detail(description: str, headers: Object | None = None) -> Object:
    response = _ok(description, _schema("Detail"))
    return {**response, "headers": headers} if headers else response


def _parameter(name: str, place: str, schema: Object) -> Object:
    return {"name": name, "in": place, "required": place == "path", "schema": schema}


def _without_null(schema: Object) -> Object:
    # A query cannot hold null: an optional parameter is simply not there.
    for choice in schema.get("anyOf", ()):
        if choice.get("type") != "null":
            return dict(choice)
    return {name: value for name, value in schema.items() if name != "title"}


def _without_defaults(schema: Object) -> Object:
    """Leave out that a field of a change is null if it is not there."""
    properties = {
        name: {key: value for key, value in field.items() if (key, value) != ("default", None)}
        for name, field in schema.get("properties", {}).items()
    }
    return {**schema, "properties": properties}
