"""A PanDA server to practise with: its envelope, its codes for tasks that it
has already, and a record of what it was asked.
"""

from __future__ import annotations

import base64
import json
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


def token() -> str:
    """An IAM token, as far as the client reads it."""
    claims = {"name": "alice", "groups": ["EIC"], "preferred_username": "alice", "exp": 4102444800}
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in ({}, claims)]
    return ".".join([*parts, "unsigned"])


@dataclass
class PandaServer:
    """The server.

    Attributes
    ----------
    tasks : `dict` [`str`, `dict`]
        Parameters of tasks by name.
    directory : `str`
        Where the client keeps what it likes to.
    status : `str`
        Of every task.
    jobs : `dict` [`int`, `dict`]
    refuse : `int` or `None`
        Code with which submissions are answered, without effect.
    uploads : `list` [`bytes`]
        Sandboxes as they came.
    asked : `list` [`tuple`]
        Method, path, and parameters or body.
    """

    url: str = ""
    directory: str = ""
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    status: str = "running"
    jobs: dict[int, dict[str, Any]] = field(default_factory=dict)
    refuse: int | None = None
    away: bool = False
    uploads: list[bytes] = field(default_factory=list)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PANDA_URL_SSL": f"{self.url}/server/panda",
            "PANDA_URL": f"{self.url}/server/panda",
            "PANDACACHE_URL": f"{self.url}/server/panda",
            "PANDA_AUTH": "oidc",
            "PANDA_AUTH_VO": "EIC",
            "PANDA_AUTH_ID_TOKEN": token(),
            "PANDA_USE_NATIVE_HTTPLIB": "1",
            "PANDA_BEHIND_REAL_LB": "1",
            # The client keeps answers there; by default in the working directory.
            "PANDA_CONFIG_ROOT": self.directory,
        }

    def calls(self, endpoint: str) -> list[Any]:
        return [what for _, path, what in self.asked if path == f"/api/v1/{endpoint}"]

    def add_job(self, id_: int, status: str, lfn: str, **more: Any) -> None:
        files = [
            {"type": "input", "lfn": lfn},
            {"type": "input", "lfn": "user.alice.lib.tgz"},
            {"type": "output", "lfn": "x.myout.txt"},
        ]
        self.jobs[id_] = {"PandaID": id_, "jobStatus": status, "Files": files, **more}

    def answer(self, endpoint: str, what: Any) -> tuple[bool, str, Any]:
        if endpoint == "task/submit":
            return self._submit(what["task_parameters"])
        if endpoint == "task/get_status":
            return True, "", self.status
        if endpoint == "task/get_tasks_detailed_info_since":
            return True, "", []
        if endpoint == "task/get_job_ids":
            return True, "", sorted(self.jobs)
        if endpoint == "job/get_description_incl_archive":
            return True, "", [self.jobs.get(id_) for id_ in what["job_ids"]]
        return endpoint == "file_server/upload_cache_file", "", None

    def _submit(self, parameters: dict[str, Any]) -> tuple[bool, str, Any]:
        name = parameters["taskName"]
        if self.refuse is not None:
            return False, "it is not to be", self.refuse
        if name in self.tasks:
            id_ = 5001 + list(self.tasks).index(name)
            return False, f"jediTaskID={id_} is already queued for outDS={name}", 2
        self.tasks[name] = parameters
        return True, f"succeeded. new jediTaskID={5000 + len(self.tasks)}", None


@contextmanager
def panda_server() -> Iterator[PandaServer]:
    """Run a server while the context lasts."""
    panda = PandaServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            url = urlsplit(self.path)
            what: Any = {name: values[0] for name, values in parse_qs(url.query).items()}
            if self.headers.get("content-type", "").startswith("multipart/"):
                panda.uploads.append(body)
            elif body:
                what = json.loads(body)
            panda.asked.append((self.command, url.path, what))
            panda.tokens.add(self.headers["authorization"])
            success, message, data = panda.answer(url.path.removeprefix("/api/v1/"), what)
            out = json.dumps({"success": success, "message": message, "data": data}).encode()
            self.send_response(503 if panda.away else 200)
            self.send_header("content-length", str(len(out)))
            self.end_headers()
            with suppress(ConnectionError):  # who asked may have lost patience
                self.wfile.write(out)

        do_GET = do_POST = _answer

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    panda.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        with tempfile.TemporaryDirectory(prefix="panda-") as panda.directory:
            yield panda
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
