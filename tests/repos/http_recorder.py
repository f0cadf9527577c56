"""An HTTP server that writes down what it is asked, and answers as told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Request:
    """What was asked."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any

    @property
    def golden(self) -> dict[str, Any]:
        """What other programs see of it."""
        headers = {k: v for k, v in self.headers.items() if k in ("content-type", "authorization")}
        return {"method": self.method, "path": self.path, "headers": headers, "body": self.body}


@dataclass
class Recorder:
    """The server.

    Attributes
    ----------
    answers : `dict` [`str`, `tuple`]
        Status and JSON by path; 200 and nothing for others.
    open : `threading.Event`
        While it is not set, nothing is answered.
    """

    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    open: threading.Event = field(default_factory=threading.Event)
    requests: list[Request] = field(default_factory=list)
    url: str = ""

    def paths(self) -> list[str]:
        return [f"{r.method} {r.path}" for r in self.requests]


class _QuietServer(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """Clients that go away are what some tests are about."""


@contextmanager
def recorder() -> Iterator[Recorder]:
    """Run a server while the context lasts."""
    record = Recorder()
    record.open.set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            length = int(self.headers.get("content-length", 0))
            content = self.rfile.read(length)
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = json.loads(content) if content else None
            record.requests.append(Request(self.command, self.path, headers, body))
            record.open.wait(60.0)
            status, answer = record.answers.get(self.path, (200, {}))
            out = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(out)))
            self.end_headers()
            self.wfile.write(out)

        do_GET = do_POST = _answer

        def log_message(self, *_: Any) -> None:
            pass

    server = _QuietServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    record.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield record
    finally:
        record.open.set()
        server.shutdown()
        server.server_close()
        thread.join()
