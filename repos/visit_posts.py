"""Posting fanned-out visits as CloudEvents.

On asyncio's streams with h11, in place of an HTTP client: a focal plane's 205
requests, each on a connection of its own that stays open for minutes, take
0.05 s of a core to send in this way. With httpx they take 0.3 s, and more with
each visit that is still open, because its pool looks through all connections
whenever one of them changes.
"""

from __future__ import annotations

__all__ = ["EVENT_TYPE", "CloudEventPoster"]

import asyncio
import json
import socket
import ssl
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import SplitResult, urlsplit

import h11
from cloudevents.core.bindings.http import to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from models.errors import TemporarilyUnavailable
from models.fan_out import Answer
from models.visits import FannedOutVisit

#: Type of the event, as the field sends it.
EVENT_TYPE = "com.example.kafka"
#: Seconds within which a connection must come about.
_CONNECT_TIMEOUT = 5.0
#: Seconds for which a server's addresses are remembered.
_RESOLVE_EVERY = 5.0
#: Of an answer's body, how much is kept and how much is shown, bytes.
_BODY_LIMIT = 65536
_SHOWN = 300
#: How many heads of requests are kept.
_HEADS = 1000
#: A peer that is gone is noticed after a minute and a half of silence.
_KEEP_ALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
_PORTS = {"http": 80, "https": 443}


class CloudEventPoster:
    """A `services.visit_delivery.VisitPoster`.

    Parameters
    ----------
    topic : `str`
        Source of the events.
    token : `str`, optional
        Bearer token, if the service wants one.
    answer_timeout : `float`, optional
        Seconds to wait for an answer.
    tls : `ssl.SSLContext`, optional
        For HTTPS; by default one that verifies certificates.
    """

    def __init__(
        self,
        *,
        topic: str,
        token: str | None = None,
        answer_timeout: float = 1800.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._topic = topic
        self._headers = [("user-agent", "prompt-processing"), ("accept", "*/*"), ("connection", "close")]
        if token:
            self._headers.append(("authorization", f"Bearer {token}"))
        self._answer_timeout = answer_timeout
        self._tls = tls if tls is not None else ssl.create_default_context()
        self._heads: dict[tuple[SplitResult, int], bytes] = {}
        self._addresses: dict[tuple[str, int], tuple[float, asyncio.Future[list[str]]]] = {}

    async def post(self, url: str, visit: FannedOutVisit, *, on_sent: Callable[[], None]) -> Answer:
        """Post a visit and wait for its answer.

        Parameters
        ----------
        url : `str`
        visit : `models.visits.FannedOutVisit`
        on_sent : callable
            Called when the request is out.

        Returns
        -------
        answer : `models.fan_out.Answer`
            Without a status if the connection broke.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if there is no connection, so that nothing was accepted.
        """
        target = urlsplit(url)
        request = self._request(target, visit)
        reader, writer = await self._connect(url, target)
        try:
            writer.write(request)
            await writer.drain()
            on_sent()
            _keep_alive(writer)
            async with asyncio.timeout(self._answer_timeout):
                return await _read_answer(reader)
        except TimeoutError:
            return Answer(None, detail=f"{url}: no answer in {self._answer_timeout:g} s")
        except (OSError, h11.ProtocolError) as error:
            return Answer(None, detail=f"{url}: the connection broke: {error or repr(error)}")
        finally:
            writer.close()

    def _request(self, target: SplitResult, visit: FannedOutVisit) -> bytes:
        event = CloudEvent(
            attributes={
                "id": str(uuid.uuid4()),
                "type": EVENT_TYPE,
                "source": self._topic,
                "time": datetime.now(UTC),
                "datacontenttype": "application/json",
            },
            # In the field the data is a string that holds the JSON.
            data=json.dumps(visit.to_message()),
        )
        message = to_structured(event, JSONFormat())
        return self._head(target, message.headers, len(message.body)) + message.body

    def _head(self, target: SplitResult, headers: Mapping[str, str], length: int) -> bytes:
        """Return what comes before a body, the same for nearly all detectors."""
        known = self._heads.get((target, length))
        if known is None:
            fields = [
                ("host", target.netloc.rpartition("@")[2]),
                *self._headers,
                *headers.items(),
                ("content-length", str(length)),
            ]
            path = target.path + (f"?{target.query}" if target.query else "")
            request = h11.Request(method="POST", target=path, headers=fields)
            known = h11.Connection(h11.CLIENT).send(request) or b""
            if len(self._heads) >= _HEADS:
                self._heads.clear()
            self._heads[target, length] = known
        return known

    async def _connect(
        self, url: str, target: SplitResult
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host = target.hostname or ""
        port = target.port or _PORTS[target.scheme]
        tls: dict[str, Any] = {}
        if target.scheme == "https":
            tls = {"ssl": self._tls, "server_hostname": host}
        trouble: Exception | None = None
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT):
                addresses = await self._resolve(host, port)
                for address in addresses:
                    # One that is silent leaves time for the next.
                    share = _CONNECT_TIMEOUT / len(addresses) if address != addresses[-1] else None
                    try:
                        async with asyncio.timeout(share):
                            streams = await asyncio.open_connection(address, port, **tls)
                    except OSError as error:  # TimeoutError is one, too
                        trouble = error if str(error) else TimeoutError(f"{address} does not answer")
                        continue
                    return streams
        except TimeoutError:
            trouble = TimeoutError(f"no connection in {_CONNECT_TIMEOUT:g} s")
        except OSError as error:
            trouble = error
        raise TemporarilyUnavailable(f"{url}: {trouble}") from trouble

    async def _resolve(self, host: str, port: int) -> list[str]:
        """Look up a server's addresses, once for all detectors of a visit."""
        known = self._addresses.get((host, port))
        now = time.monotonic()
        if known is None or now - known[0] > _RESOLVE_EVERY or _has_failed(known[1]):
            known = (now, asyncio.ensure_future(_look_up(host, port)))
            self._addresses[host, port] = known
        # One of many that wait may be cancelled without the others.
        return await asyncio.shield(known[1])


def _has_failed(future: asyncio.Future[list[str]]) -> bool:
    return future.done() and (future.cancelled() or future.exception() is not None)


async def _look_up(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def _read_answer(reader: asyncio.StreamReader) -> Answer:
    # Parsing is prepared when there is something to parse, long after other
    # detectors' requests are out.
    first = await reader.read(_BODY_LIMIT)
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="POST", target="/", headers=[("host", "")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(first)
    status: int | None = None
    retry_after = None
    body = bytearray()
    while True:
        try:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(_BODY_LIMIT))
                continue
        except (OSError, h11.ProtocolError):
            if status is None:
                raise
            break  # The status says what counts.
        if isinstance(event, h11.Response):
            status = event.status_code
            headers = {name: value.decode("latin-1") for name, value in event.headers}
            retry_after = parse_retry_after(headers.get(b"retry-after", ""))
        elif isinstance(event, h11.Data):
            body += event.data
        if isinstance(event, h11.EndOfMessage | h11.ConnectionClosed) or len(body) > _BODY_LIMIT:
            break
    return Answer(status, retry_after, _shown(bytes(body)))


def parse_retry_after(value: str, *, clock: Callable[[], float] = time.time) -> float | None:
    """Read a ``Retry-After``: seconds, or a date (RFC 9110 section 10.2.3).

    Returns
    -------
    seconds : `float` or `None`
        None if it says neither.
    """
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(parsedate_to_datetime(value).timestamp() - clock(), 0.0)
    except (ValueError, OverflowError):
        return None


def _shown(body: bytes) -> str:
    """Return what an answer says to people."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    if isinstance(content, dict):
        said = [str(content[name]) for name in ("title", "status", "detail") if content.get(name)]
        return ": ".join(said)[:_SHOWN]
    return body.decode(errors="replace")[:_SHOWN]
