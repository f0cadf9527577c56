"""A server that answers what it is told, byte for byte, and keeps requests."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


def answer(status: str = "200 OK", body: bytes = b'{"status":"processed"}', **headers: str) -> bytes:
    """An HTTP answer."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *lines])
    return f"{head}\r\n\r\n".encode() + body


@dataclass
class AnsweringServer:
    """Answers each request with the next answer, the last one again and again;
    None closes the connection instead.
    """

    answers: list[bytes | None]
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    before_answer: Callable[[], None] = lambda: None
    release: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            line, *rest = head.strip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (item.partition(": ") for item in rest)}
            body = await reader.readexactly(int(headers["content-length"]))
            self.requests.append((line, headers, body))
            self.before_answer()
            await self.release.wait()
            said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if said is None:
                writer.transport.abort()
            else:
                writer.write(said)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def answering_server(
    *answers: bytes | None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[AnsweringServer]:
    """Serve on a free port."""
    double = AnsweringServer([*answers])
    double.release.set()
    server = await asyncio.start_server(double.serve, "127.0.0.1", 0, ssl=tls, backlog=1024)
    double.port = server.sockets[0].getsockname()[1]
    async with server:
        try:
            yield double
        finally:
            # From Python 3.12 on, a server's end waits for its connections.
            double.release.set()
