"""The Flask application: routes, and nothing that a service should decide."""

from __future__ import annotations

__all__ = ["create_app"]

import hmac
import logging
from http import HTTPStatus
from typing import Any

from flask import Blueprint, Flask, Response, render_template, request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from app.web.events import read_visit
from app.web.openapi import openapi_document
from app.web.problems import PROBLEM_TYPE, Problem, problem_for_error, problem_for_outcome
from app.web.schemas import Health, Readiness, SlotReport, VisitAnswer, VisitList, VisitQuery, VisitReport
from app.web.service import PromptService
from app.web.status import status_page
from models.errors import InvalidMessage, PromptProcessingError
from models.outcomes import Result
from models.visits import FannedOutVisit, VisitKey

_log = logging.getLogger(__name__)

#: Largest body, bytes; a visit takes less than one.
MAX_BODY = 64 * 1024
#: How much of a larger one is read before the connection is closed, bytes.
_DRAINED = 16 * MAX_BODY
#: Detector ids beyond this cannot be in any ledger (64-bit integers).
_MAX_ID = 2**63 - 1
#: Seconds after which somebody who found the service not ready may ask again.
_ASK_AGAIN = 10


def create_app(service: PromptService, *, streaming: Blueprint | None = None) -> Flask:
    """Build the application.

    Parameters
    ----------
    service : `app.web.service.PromptService`
        Need not be started yet.
    streaming : `flask.Blueprint`, optional
        Pages of the streaming workflow; see
        `app.streaming.pages.blueprint.streaming_pages`.
    """
    app = Flask("app.web")
    # One byte more than allowed: of a chunked body, no more than this is read,
    # and that it is longer shows only then.
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY + 1
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    # A path with a doubled slash names nothing here; redirecting a POST that
    # takes minutes helps nobody.
    app.url_map.merge_slashes = False
    app.extensions["prompt-service"] = service
    routes = _Routes(service, has_streaming=streaming is not None)
    app.add_url_rule("/next-visit", view_func=routes.next_visit, methods=["POST"])
    app.add_url_rule("/health", view_func=routes.health)
    app.add_url_rule("/ready", view_func=routes.ready)
    app.add_url_rule("/metrics", view_func=routes.metrics)
    app.add_url_rule("/api/visits", view_func=routes.visits)
    app.add_url_rule("/api/visits/<instrument>/<path:group>/<int:detector>", view_func=routes.visit)
    app.add_url_rule("/", view_func=routes.status)
    app.add_url_rule("/openapi.json", view_func=routes.openapi)
    if streaming is not None:
        app.register_blueprint(streaming)
    app.register_error_handler(HTTPException, routes.http_problem)
    app.register_error_handler(Exception, routes.unexpected)
    return app


class _Routes:
    """The views; each translates between HTTP and the service."""

    def __init__(self, service: PromptService, *, has_streaming: bool) -> None:
        self._service = service
        self._has_streaming = has_streaming
        self._document = openapi_document(
            service.version, has_token=service.token is not None, has_streaming=has_streaming
        )

    def next_visit(self) -> Response:
        """Process a visit."""
        if (refused := self._check_token()) is not None:
            return refused
        visit: FannedOutVisit | None = None
        try:
            visit = self._read_visit()
            answer = self._service.admission.handle(visit)
        except PromptProcessingError as error:
            return _problem(problem_for_error(error).about(visit))
        if answer.outcome.result is Result.PROCESSED:
            return _json(VisitAnswer.of(answer))
        return _problem(problem_for_outcome(answer.outcome).about(visit))

    def health(self) -> Response:
        """Say that the process can answer."""
        return _json(Health())

    def ready(self) -> Response:
        """Say whether a visit could be accepted."""
        pool = self._service.slots.snapshot()
        degraded = self._service.degraded()
        reason = ""
        if pool.closing:
            reason = "the service is shutting down"
        elif not pool.usable:
            reason = "no slot is ready: " + ("; ".join(degraded) or "they are starting")
        elif pool.full:
            reason = f"{pool.waiting} visits wait for a slot already"
        if reason:
            return _problem(
                Problem.make(HTTPStatus.SERVICE_UNAVAILABLE, "not-ready", reason, retry_after=_ASK_AGAIN)
            )
        slots = [
            SlotReport(number=s.number, state=s.state, visit=s.visit, stage=s.stage, visits=s.visits)
            for s in pool.slots
        ]
        return _json(
            Readiness(deployment_id=pool.deployment_id, waiting=pool.waiting, slots=slots, degraded=degraded)
        )

    def metrics(self) -> Response:
        """Return the metrics."""
        return Response(generate_latest(self._service.metrics.registry), content_type=CONTENT_TYPE_LATEST)

    def visits(self) -> Response:
        """List visits."""
        try:
            query = VisitQuery.model_validate(request.args.to_dict())
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            return _problem(Problem.make(HTTPStatus.BAD_REQUEST, "invalid-query", faults))
        records = self._service.history.visits(query.day_obs, query.limit)
        return _json(VisitList(visits=[VisitReport.of(record) for record in records]))

    def visit(self, instrument: str, group: str, detector: int) -> Response:
        """Return one visit."""
        # An id beyond what a ledger can hold is not asked for.
        key = VisitKey(instrument, group, detector)
        record = self._service.history.visit(key) if detector <= _MAX_ID else None
        if record is not None:
            return _json(VisitReport.of(record))
        problem = Problem.make(HTTPStatus.NOT_FOUND, "unknown-visit", "the ledger has no such visit")
        about = {"instrument": instrument, "group": group, "detector": detector}
        return _problem(problem.model_copy(update=about))

    def status(self) -> str:
        """Return the status page."""
        return render_template(
            "status.html", page=status_page(self._service), has_streaming=self._has_streaming
        )

    def openapi(self) -> dict[str, Any]:
        """Return the description of all this."""
        return self._document

    def http_problem(self, error: HTTPException) -> Response:
        """Give an error of the framework the form of ours, headers included."""
        original = error.get_response()
        if original.status_code < HTTPStatus.BAD_REQUEST:
            return Response(original.get_data(), original.status_code, original.headers)
        name = (error.name or "error").lower().replace(" ", "-")
        detail = error.description or name
        if original.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            name, detail = "too-large", f"a visit fits into {MAX_BODY // 1024} KiB; this body does not"
            _drain_body()
        response = _problem(Problem.make(original.status_code, name, detail))
        if "Allow" in original.headers:
            response.headers["Allow"] = original.headers["Allow"]
        if request.path == "/next-visit":
            self._service.metrics.rejected(name, detail)
        return response

    def unexpected(self, error: Exception) -> Response:
        """Answer when something of ours is broken."""
        if isinstance(error, PromptProcessingError):
            return _problem(problem_for_error(error))
        _log.error("Unexpected error while answering %s %s.", request.method, request.path, exc_info=error)
        return _problem(
            Problem.make(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "internal-error",
                f"{type(error).__name__}: {error}. If this was a visit, it should NOT be retried.",
            )
        )

    def _read_visit(self) -> FannedOutVisit:
        try:
            return read_visit(dict(request.headers), _read_body())
        except InvalidMessage as error:
            self._service.metrics.rejected(problem_for_error(error).title, str(error))
            raise

    def _check_token(self) -> Response | None:
        token = self._service.token
        if token is None:
            return None
        scheme, _, presented = request.headers.get("Authorization", "").partition(" ")
        # As the bytes that were sent, which WSGI gives as Latin-1.
        same = hmac.compare_digest(presented.strip().encode("latin-1", "replace"), token.encode())
        if scheme.lower() == "bearer" and same:
            return None
        self._service.metrics.rejected("unauthorised", "the request has no token or a wrong one")
        response = _problem(
            Problem.make(
                HTTPStatus.UNAUTHORIZED,
                "unauthorised",
                "this service wants a token: send the header 'Authorization: Bearer <token>'",
            )
        )
        response.headers["WWW-Authenticate"] = "Bearer"
        return response


def _read_body() -> bytes:
    try:
        body = request.get_data()
    except HTTPException:
        raise
    except Exception as error:  # the server's own, for example for a broken chunk
        raise InvalidMessage(f"the body cannot be read: {type(error).__name__}: {error}") from error
    if len(body) > MAX_BODY:
        raise RequestEntityTooLarge
    return body


def _drain_body() -> None:
    """Read what is left of a body that is too large, within reason.

    With more unread than it is ready to skip, Gunicorn closes the connection
    without a word, and the sender's next visit would be lost on it.
    """
    stream = request.environ["wsgi.input"]
    for _ in range(_DRAINED // MAX_BODY):
        try:
            if not stream.read(MAX_BODY):
                return
        except Exception:  # the server's own, for example for a broken chunk
            return


def _json(body: BaseModel) -> Response:
    return Response(body.model_dump_json(), mimetype="application/json")


def _problem(problem: Problem) -> Response:
    response = Response(
        problem.model_dump_json(exclude_none=True), status=problem.status, content_type=PROBLEM_TYPE
    )
    if problem.retry_after is not None:
        response.headers["Retry-After"] = str(problem.retry_after)
    return response
