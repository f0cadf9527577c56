"""The description of the HTTP interface, made from the models it uses."""

from __future__ import annotations

__all__ = ["openapi_document"]

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.streaming.pages.openapi import page_paths
from app.web.problems import PROBLEM_TYPE, Problem
from app.web.schemas import Health, Readiness, VisitAnswer, VisitList, VisitQuery, VisitReport
from models.visits import FannedOutVisit

_SCHEMAS = "#/components/schemas/"
_RETRY_AFTER = {
    "Retry-After": {
        "description": "Whole seconds after which the request may be sent again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
    }
}
_ALLOW = {"Allow": {"description": "Methods that are served here.", "schema": {"type": "string"}}}
_AUTHENTICATE = {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}}

#: What the server itself answers before anything of ours sees the request.
_TOO_LONG = {
    "description": "The path and query are too long.",
    "content": {"text/html": {"schema": {"type": "string"}}},
}


def openapi_document(version: str, *, has_token: bool, has_streaming: bool = False) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document.

    Parameters
    ----------
    version : `str`
        Of the software.
    has_token : `bool`
        Whether visits must come with a token.
    has_streaming : `bool`, optional
        Whether there are pages of the streaming workflow.
    """
    answers: list[type[BaseModel]] = [VisitAnswer, VisitReport, VisitList, Health, Readiness, Problem]
    _, serialised = models_json_schema(
        [(model, "serialization") for model in answers], ref_template=_SCHEMAS + "{model}"
    )
    _, accepted = models_json_schema([(FannedOutVisit, "validation")], ref_template=_SCHEMAS + "{model}")
    schemas = {**serialised["$defs"], **accepted["$defs"], "CloudEvent": _cloud_event()}
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Prompt processing",
            "version": version or "0",
            "description": "Turns telescope images into alerts: one request a visit and detector.",
        },
        "paths": {
            "/next-visit": {"post": _next_visit(has_token=has_token)},
            "/health": {"get": _get("health", "Whether the process can answer.", Health)},
            "/ready": {
                "get": _get(
                    "ready",
                    "Whether a visit could be accepted now.",
                    Readiness,
                    {"503": _problem("No visit could be accepted now.", _RETRY_AFTER)},
                )
            },
            "/metrics": {
                "get": {
                    "operationId": "metrics",
                    "summary": "Metrics in Prometheus' text format.",
                    "responses": {
                        "200": {
                            "description": "The metrics.",
                            "content": {"text/plain": {"schema": {"type": "string"}}},
                        }
                    },
                }
            },
            "/api/visits": {"get": _visits()},
            "/api/visits/{instrument}/{group}/{detector}": {"get": _visit()},
            "/": {
                "get": {
                    "operationId": "status",
                    "summary": "Status page, for people.",
                    "responses": {
                        "200": {
                            "description": "A page that reloads itself.",
                            "content": {"text/html": {"schema": {"type": "string"}}},
                        }
                    },
                }
            },
            "/openapi.json": {
                "get": {
                    "operationId": "openapi",
                    "summary": "This document.",
                    "responses": {
                        "200": {
                            "description": "OpenAPI 3.1.",
                            "content": {"application/json": {"schema": {"type": "object"}}},
                        }
                    },
                }
            },
        },
        "components": {"schemas": schemas},
    }
    if has_streaming:
        document["paths"] |= page_paths(home=False)
    if has_token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return document


def _content(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _SCHEMAS + model.__name__}}}


def _problem(description: str, headers: dict[str, Any] | None = None) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": description,
        "content": {PROBLEM_TYPE: {"schema": {"$ref": _SCHEMAS + Problem.__name__}}},
    }
    if headers:
        response["headers"] = headers
    return response


def _get(
    name: str, summary: str, answer: type[BaseModel], others: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "responses": {"200": {"description": "OK", "content": _content(answer)}, **(others or {})},
    }


def _next_visit(*, has_token: bool) -> dict[str, Any]:
    event = {"$ref": _SCHEMAS + "CloudEvent"}
    operation: dict[str, Any] = {
        "operationId": "nextVisit",
        "summary": "Process a visit; answered when that is over.",
        "description": (
            "A CloudEvent in structured mode as described here; or in binary mode, with ce-* headers "
            "for its attributes and the visit alone as the body."
        ),
        "requestBody": {
            "required": True,
            "content": {
                "application/cloudevents+json": {"schema": event},
                "application/json": {"schema": event},
            },
        },
        "responses": {
            "200": {"description": "Processed, now or before.", "content": _content(VisitAnswer)},
            "400": _problem("Not a CloudEvent, or not a visit."),
            "403": _problem("Published too long ago."),
            "405": _problem("Only POST is served here.", _ALLOW),
            "409": _problem("The visit is being processed now."),
            "413": _problem("The body is larger than 64 KiB."),
            "422": _problem("Nothing here can or should process this visit."),
            "500": _problem("Failed, or not to be retried; the title says which."),
            "503": _problem("Nothing was changed; the visit may be sent again.", _RETRY_AFTER),
        },
    }
    if has_token:
        operation["security"] = [{"token": []}]
        operation["responses"]["401"] = _problem("No token, or a wrong one.", _AUTHENTICATE)
    return operation


def _visits() -> dict[str, Any]:
    properties = VisitQuery.model_json_schema()["properties"]
    operation = _get(
        "visits",
        "Visits in the ledger, the latest first.",
        VisitList,
        {
            "400": _problem("A parameter is wrong."),
            "414": _TOO_LONG,
            "503": _problem("The ledger cannot be read now.", _RETRY_AFTER),
        },
    )
    operation["parameters"] = [
        {"name": name, "in": "query", "required": False, "schema": _without_null(schema)}
        for name, schema in properties.items()
    ]
    return operation


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    # A query cannot hold null: an optional parameter is simply not there.
    for choice in schema.get("anyOf", ()):
        if choice.get("type") != "null":
            return dict(choice)
    return {name: value for name, value in schema.items() if name != "title"}


def _visit() -> dict[str, Any]:
    operation = _get(
        "visit",
        "One visit, its latest attempt.",
        VisitReport,
        {
            "404": _problem("The ledger has no such visit."),
            "414": _TOO_LONG,
            "503": _problem("The ledger cannot be read now.", _RETRY_AFTER),
        },
    )
    text = {"type": "string", "minLength": 1}
    operation["parameters"] = [
        {"name": "instrument", "in": "path", "required": True, "schema": text},
        {"name": "group", "in": "path", "required": True, "schema": text},
        {"name": "detector", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 0}},
    ]
    return operation


def _cloud_event() -> dict[str, Any]:
    text = {"type": "string", "minLength": 1}
    return {
        "type": "object",
        "description": "A CloudEvent in structured mode.",
        "properties": {
            "specversion": {"const": "1.0"},
            "id": text,
            "source": text,
            "type": text,
            "datacontenttype": {"const": "application/json"},
            "data": {
                "anyOf": [
                    {"$ref": _SCHEMAS + FannedOutVisit.__name__},
                    {
                        "type": "string",
                        "contentMediaType": "application/json",
                        "description": "The same object as JSON text.",
                    },
                ]
            },
        },
        "required": ["specversion", "id", "source", "type", "data"],
    }
