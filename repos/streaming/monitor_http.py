"""Requests to a monitor, and what its answers mean."""

from __future__ import annotations

__all__ = ["Conflict", "MonitorHttp", "NotSupported"]

import json
import re
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import httpx

from models.errors import InvalidMessage, TemporarilyUnavailable

#: Seconds that a request may take, as in the field.
_TIMEOUT = 10.0
#: Requests in a row that were not answered after which nothing is asked for so
#: many seconds: who asks has other work to do than to wait.
_UNANSWERED, _REST = 2, 30.0
#: Answers that another try may change.
_TRY_AGAIN = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
#: Characters of an answer that errors quote.
_QUOTED = 500
#: Characters of an answer among which they are looked for.
_READ = 20_000
#: What makes a page of a text.
_MARKUP = re.compile(r"<(style|script)\b.*?</\1\s*>|<[^>]*>", re.DOTALL | re.IGNORECASE)


class Conflict(InvalidMessage):
    """There is such a row already."""


class NotSupported(InvalidMessage):
    """A monitor takes no lists."""


class MonitorHttp:
    """Asks a monitor; for any thread. One that hangs is left alone for a while,
    and who asks is told so at once.

    Parameters
    ----------
    url : `str`
        Of the monitor, without ``/api``.
    token : `str`, optional
        Shown to it.
    transport : `httpx.BaseTransport`, optional
        Carries requests, instead of the network.
    clock : callable, optional
        Returns seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._unanswered = 0
        self._rests_until = float("-inf")
        headers = {"Authorization": f"Token {token}"} if token else {}
        self._client = httpx.Client(
            base_url=f"{url.rstrip('/')}/api/",
            headers={"Accept": "application/json", **headers},
            timeout=_TIMEOUT,
            transport=transport,
        )

    def get(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        """Return a resource; see `request`."""
        return self.request("GET", path, params=params)

    def find(self, path: str) -> Any:
        """Return a resource, or None if the monitor says there is none."""
        response = self._send("GET", path)
        if response.status_code == HTTPStatus.NOT_FOUND and "detail" in _object(response):
            return None
        return self._read(response)

    def request(
        self, method: str, path: str, *, body: Any = None, params: Mapping[str, str] | None = None
    ) -> Any:
        """Ask for something; return the answer's JSON.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the monitor cannot be reached, answers with a failure of
            its own, does not know the path, or refuses the token.
        Conflict
            Raised if there is such a row already.
        NotSupported
            Raised if it takes one row at a time and was given a list.
        models.errors.InvalidMessage
            Raised if it refuses what it was sent.
        """
        response = self._send(method, path, body=body, params=params)
        if isinstance(body, list) and response.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            raise NotSupported(f"the monitor, {method} {path}: {response.status_code}")
        return self._read(response, sent=body)

    def close(self) -> None:
        """Let go of its connections."""
        self._client.close()

    def _send(
        self, method: str, path: str, *, body: Any = None, params: Mapping[str, str] | None = None
    ) -> httpx.Response:
        if self._clock() < self._rests_until:
            raise TemporarilyUnavailable(
                f"the monitor, {method} {path}: it does not answer, and is not asked for {_REST:g} s"
            )
        unanswered = 0
        try:
            return self._client.request(method, path, json=body, params=params)
        except httpx.HTTPError as error:
            if isinstance(error, httpx.TimeoutException):
                unanswered = self._unanswered + 1
            if unanswered >= _UNANSWERED:
                self._rests_until = self._clock() + _REST
            reason = str(error) or type(error).__name__
            raise TemporarilyUnavailable(f"the monitor, {method} {path}: {reason}") from error
        finally:
            self._unanswered = unanswered

    def _read(self, response: httpx.Response, *, sent: Any = None) -> Any:
        status = response.status_code
        asked = f"{response.request.method} {response.request.url}"
        if response.is_success:
            try:
                return response.json() if response.content else None
            except ValueError as error:
                raise TemporarilyUnavailable(f"the monitor, {asked}: its answer is no JSON") from error
        text = _said(response)
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            # Not the message's fault: it is kept until the token is right.
            raise TemporarilyUnavailable(
                f"the monitor refuses our token (SWF_API_TOKEN), {asked}: {status} {text}"
            )
        temporary = status in _TRY_AGAIN or status == HTTPStatus.NOT_FOUND
        if temporary or response.is_server_error or not response.is_client_error:
            raise TemporarilyUnavailable(f"the monitor, {asked}: {status} {text}")
        if "already exists" in response.text or "must make a unique set" in response.text:
            raise Conflict(f"the monitor, {asked}: {text}")
        if isinstance(sent, list) and "Expected a dictionary" in response.text:
            raise NotSupported(f"the monitor, {asked}: {text}")
        raise InvalidMessage(f"the monitor refuses {asked}: {status} {text}")


def _said(response: httpx.Response) -> str:
    """Return what an answer says, in a line; of a page, what people read there."""
    text = response.text[:_READ]
    if text.lstrip().startswith("<"):
        text = _MARKUP.sub(" ", text)
    return " ".join(text.split())[:_QUOTED]


def _object(response: httpx.Response) -> dict[str, Any]:
    try:
        body = json.loads(response.content)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
