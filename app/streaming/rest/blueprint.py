"""The monitor's REST resources as a part of a Flask application."""

from __future__ import annotations

__all__ = ["create_rest_blueprint"]

import hmac
import logging
from http import HTTPStatus
from zoneinfo import ZoneInfo

from flask import Blueprint, Response, request
from werkzeug.exceptions import HTTPException

from app.streaming.rest.actions import Actions
from app.streaming.rest.answers import MAX_BODY, BadFields, answer, plain_error
from app.streaming.rest.specs import resource_views
from app.streaming.rest.stream import MessageStream
from models.errors import InvalidMessage, TemporarilyUnavailable
from repos.streaming.monitor_rows import RefusedField
from repos.streaming.monitor_store import MonitorStore
from services.streaming.workflow_records import JobSource

_log = logging.getLogger(__name__)

_READS = ("GET", "HEAD", "OPTIONS")
#: Seconds after which who found the database away may ask again.
_ASK_AGAIN = "5"


def create_rest_blueprint(
    store: MonitorStore,
    *,
    zone: ZoneInfo,
    token: str | None = None,
    jobs: JobSource | None = None,
    stream: MessageStream | None = None,
) -> Blueprint:
    """Return the REST resources, below ``/api``.

    Parameters
    ----------
    store : `repos.streaming.monitor_store.MonitorStore`
    zone : `zoneinfo.ZoneInfo`
        That of times that come without one.
    token : `str`, optional
        Of those who write. Everybody may read, and add to the logs.
    jobs : `services.streaming.workflow_records.JobSource`, optional
    stream : `app.streaming.rest.stream.MessageStream`, optional
        Made here if not given; its maker ends it.
    """
    blueprint = Blueprint("streaming-rest", __name__, url_prefix="/api")
    Actions(store, zone=zone, jobs=jobs).register(blueprint)
    for views in resource_views(store, zone=zone):
        views.register(blueprint)
    (stream or MessageStream(store.messages, zone=zone)).register(blueprint)

    @blueprint.before_request
    def admit() -> Response | None:
        # Beside pages and visits, whose limit is another.
        request.max_content_length = MAX_BODY
        logs = request.method == "POST" and request.path.rstrip("/") == "/api/logs"
        open_to_all = request.method in _READS or logs
        return None if open_to_all or token is None else _check_token(token)

    blueprint.register_error_handler(HTTPException, http_error)
    blueprint.register_error_handler(BadFields, bad_fields)
    blueprint.register_error_handler(RefusedField, refused_field)
    blueprint.register_error_handler(InvalidMessage, invalid)
    blueprint.register_error_handler(TemporarilyUnavailable, unavailable)
    blueprint.register_error_handler(Exception, unexpected)
    return blueprint


def http_error(error: HTTPException) -> Response:
    """Give an error of the framework the form of the field."""
    original = error.get_response()
    headers = {name: original.headers[name] for name in ("Allow",) if name in original.headers}
    if original.status_code < HTTPStatus.BAD_REQUEST:
        return Response(original.get_data(), original.status_code, original.headers)
    text = error.description or error.name
    if original.status_code == HTTPStatus.NOT_FOUND:
        text = "Not found."
    elif original.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        text = f'Method "{request.method}" not allowed.'
    elif original.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        text = f"A body of more than {MAX_BODY // 1024 // 1024} MiB is not read."
    return plain_error(original.status_code, text, headers)


def bad_fields(error: BadFields) -> Response:
    """Answer for fields that are missing or wrong."""
    return answer(error.faults, HTTPStatus.BAD_REQUEST)


def refused_field(error: RefusedField) -> Response:
    """Answer for a field that the store refuses."""
    return answer({error.field: [error.text]}, HTTPStatus.BAD_REQUEST)


def invalid(error: InvalidMessage) -> Response:
    """Answer for what cannot be served."""
    return plain_error(HTTPStatus.BAD_REQUEST, str(error))


def unavailable(error: TemporarilyUnavailable) -> Response:
    """Answer while the database is away."""
    return plain_error(HTTPStatus.SERVICE_UNAVAILABLE, str(error), {"Retry-After": _ASK_AGAIN})


def unexpected(error: Exception) -> Response:
    """Answer when something of ours is broken."""
    _log.error("Unexpected error while answering %s %s.", request.method, request.path, exc_info=error)
    return plain_error(HTTPStatus.INTERNAL_SERVER_ERROR, f"{type(error).__name__}: {error}")


def _check_token(token: str) -> Response | None:
    scheme, _, presented = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() not in ("token", "bearer"):
        text = "Authentication credentials were not provided."
    # As the bytes that were sent, which WSGI gives as Latin-1.
    elif hmac.compare_digest(presented.strip().encode("latin-1", "replace"), token.encode()):
        return None
    else:
        text = "Invalid token."
    return plain_error(HTTPStatus.UNAUTHORIZED, text, {"WWW-Authenticate": "Token"})
