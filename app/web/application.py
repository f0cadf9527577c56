"""The Flask application: routes, and nothing that a service should decide."""

from __future__ import annotations

__all__ = ["create_app"]

import hmac
import logging
from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, render_template, request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import HTTPException

from app.web.events import read_visit
from app.web.openapi import openapi_document
from app.web.problems import PROBLEM_TYPE, Problem, problem_for_error, problem_for_outcome
from app.web.schemas import Health, Readiness, SlotReport, VisitAnswer, VisitList, VisitQuery
from app.web.service import PromptService
from app.web.status import status_page
from models.errors import InvalidMessage, PromptProcessingError
from models.outcomes import Result
from models.visits import FannedOutVisit

_log = logging.getLogger(__name__)

#: Largest body, bytes; a visit takes less than one.
MAX_BODY = 64 * 1024
#: Detector ids beyond this cannot be in any ledger (64-bit integers).
_MAX_ID = 2**63 - 1
#: Seconds after which somebody who found the service not ready may ask again.
_ASK_AGAIN = 10


def create_app(service: PromptService) -> Flask:
    """Build the application.

    Parameters
    ----------
    service : `app.web.service.PromptService`
        Need not be started yet.
    """
    app = Flask("app.web", root_path=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    # A path with a doubled slash names nothing here; redirecting a POST that
    # took minutes to compose helps nobody.
    app.url_map.merge_slashes = False
    app.extensions["prompt-service"] = service
    document = openapi_document(service.version, has_token=service.token is not None)

    @app.post("/next-visit")
    def next_visit() -> Response:
        if (refused := _check_token(service)) is not None:
            return refused
        visit: FannedOutVisit | None = None
        try:
            try:
                visit = read_visit(dict(request.headers), request.get_data())
            except InvalidMessage as error:
                service.metrics.rejected(problem_for_error(error).title, str(error))
                raise
            answer = service.admission.handle(visit)
        except PromptProcessingError as error:
            return _problem(problem_for_error(error).about(visit))
        if answer.outcome.result is Result.PROCESSED:
            return _json(VisitAnswer.of(answer))
        return _problem(problem_for_outcome(answer.outcome).about(visit))

    @app.get("/health")
    def health() -> Response:
        return _json(Health())

    @app.get("/ready")
    def ready() -> Response:
        pool = service.slots.snapshot()
        reason = ""
        if pool.closing:
            reason = "the service is shutting down"
        elif not pool.usable:
            reason = "no slot is ready: " + ("; ".join(service.degraded()) or "they are starting")
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
            Readiness(
                deployment_id=pool.deployment_id,
                waiting=pool.waiting,
                slots=slots,
                degraded=service.degraded(),
            )
        )

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(service.metrics.registry), content_type=CONTENT_TYPE_LATEST)

    @app.get("/api/visits")
    @_reads_ledger
    def visits() -> Response:
        try:
            query = VisitQuery.model_validate(request.args.to_dict())
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            return _problem(Problem.make(HTTPStatus.BAD_REQUEST, "invalid-query", faults))
        return _json(VisitList(visits=list(service.history.visits(query.day_obs, query.limit))))

    @app.get("/api/visits/<instrument>/<path:group>/<int:detector>")
    @_reads_ledger
    def visit(instrument: str, group: str, detector: int) -> Response:
        report = service.history.visit(instrument, group, detector) if detector <= _MAX_ID else None
        if report is None:
            return _problem(
                Problem.make(
                    HTTPStatus.NOT_FOUND,
                    "unknown-visit",
                    "the ledger has no such visit",
                    instrument=instrument,
                    group=group,
                    detector=detector,
                )
            )
        return _json(report)

    @app.get("/")
    def status() -> str:
        return render_template("status.html", page=status_page(service))

    @app.get("/openapi.json")
    def openapi() -> dict[str, Any]:
        return document

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        return _http_problem(error, service)

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        _log.exception("Unexpected error while answering %s %s.", request.method, request.path)
        return _problem(
            Problem.make(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "internal-error",
                f"{type(error).__name__}: {error}. If this was a visit, it should NOT be retried.",
            )
        )

    return app


def _reads_ledger(view: Callable[..., Response]) -> Callable[..., Response]:
    """Answer 503 when the ledger cannot be read."""

    @wraps(view)
    def wrapped(**arguments: Any) -> Response:
        try:
            return view(**arguments)
        except PromptProcessingError as error:
            return _problem(problem_for_error(error))

    return wrapped


def _check_token(service: PromptService) -> Response | None:
    if service.token is None:
        return None
    scheme, _, presented = request.headers.get("Authorization", "").partition(" ")
    # As bytes: compare_digest refuses text that is not ASCII.
    same = hmac.compare_digest(
        presented.strip().encode("utf-8", "surrogateescape"), service.token.encode("utf-8")
    )
    if scheme.lower() == "bearer" and same:
        return None
    service.metrics.rejected("unauthorised", "the request has no token or a wrong one")
    response = _problem(
        Problem.make(
            HTTPStatus.UNAUTHORIZED,
            "unauthorised",
            "this service wants a token: send the header 'Authorization: Bearer <token>'",
        )
    )
    response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _json(body: BaseModel) -> Response:
    return Response(body.model_dump_json(), mimetype="application/json")


def _problem(problem: Problem) -> Response:
    response = Response(
        problem.model_dump_json(exclude_none=True), status=problem.status, content_type=PROBLEM_TYPE
    )
    if problem.retry_after is not None:
        response.headers["Retry-After"] = str(problem.retry_after)
    return response


def _http_problem(error: HTTPException, service: PromptService) -> Response:
    """Give an error of the framework the form of ours, headers included."""
    original = error.get_response()
    if original.status_code < HTTPStatus.BAD_REQUEST:
        return Response(original.get_data(), original.status_code, original.headers)
    name = (error.name or "error").lower().replace(" ", "-")
    detail = error.description or name
    if original.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        name, detail = "too-large", f"a visit fits into {MAX_BODY // 1024} KiB; this body does not"
    response = _problem(Problem.make(original.status_code, name, detail))
    for header in ("Allow", "WWW-Authenticate", "Retry-After"):
        if header in original.headers:
            response.headers[header] = original.headers[header]
    if request.path == "/next-visit":
        service.metrics.rejected(name, detail)
    return response
