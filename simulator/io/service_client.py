"""Questions that an observatory asks a service before it observes."""

from __future__ import annotations

__all__ = ["is_ready"]

import httpx


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
