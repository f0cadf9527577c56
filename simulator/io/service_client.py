"""Questions that an observatory asks a service."""

from __future__ import annotations

__all__ = ["is_ready", "look_up_visit"]

from urllib.parse import quote

import httpx

from models.outcomes import Result
from models.visits import FannedOutVisit
from simulator.fan_out import Answer

#: Status of the answer to a visit by its state; other states are no results.
_STATUS = {
    Result.PROCESSED: 200,
    Result.FAILED: 500,
    Result.NOT_RETRIABLE: 500,
    Result.INTERRUPTED: 503,
}


def is_ready(url: str, timeout: float = 2.0) -> bool:
    """Say whether a service can take visits now.

    Parameters
    ----------
    url : `str`
        Of the service.
    timeout : `float`
        Seconds to wait for its answer.
    """
    try:
        response = httpx.get(f"{url}/ready", timeout=timeout, trust_env=False)
    except httpx.TransportError:
        return False
    return response.status_code == httpx.codes.OK


def look_up_visit(url: str, visit: FannedOutVisit, timeout: float = 10.0) -> Answer | None:
    """Ask a service what became of a visit.

    Parameters
    ----------
    url : `str`
        Of the service.
    visit : `models.visits.FannedOutVisit`
    timeout : `float`
        Seconds to wait for its answer.

    Returns
    -------
    answer : `simulator.fan_out.Answer` or `None`
        As it would have been over HTTP; None if there is no result yet.
    """
    path = f"/api/visits/{visit.instrument}/{quote(visit.groupId)}/{visit.detector}"
    try:
        response = httpx.get(f"{url.rstrip('/')}{path}", timeout=timeout, trust_env=False)
    except httpx.TransportError:
        return None
    if response.status_code != httpx.codes.OK:
        return None
    report = response.json()
    status = _STATUS.get(report["state"])
    return None if status is None else Answer(status, report, attempts=report["attempts"])
