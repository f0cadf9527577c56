"""A double of Rucio's server that writes down what it is asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest

RSE = "DAQ_DISK_3"
ACCOUNT = "alice"


@dataclass
class Asked:
    """A request."""

    method: str
    path: str
    body: Any = None


@dataclass
class RucioDouble:
    """Datasets and files, as far as the clients ask for them."""

    storage: Path
    deterministic: bool = True
    asked: list[Asked] = field(default_factory=list)
    dids: dict[str, dict[str, Any]] = field(default_factory=dict)
    contents: dict[str, list[str]] = field(default_factory=dict)
    replicas: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    rules: list[str] = field(default_factory=list)
    #: Paths that begin like this are answered with 500, so many times.
    failing: dict[str, int] = field(default_factory=dict)
    tokens: bool = True
    #: Called with each request before it is answered; may keep it waiting.
    arrives: Callable[[Asked], object] = lambda _: None
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def calls(self, *methods: str) -> list[tuple[str, str, Any]]:
        """Return what was asked, but for what only looks at things."""
        return [(a.method, a.path, a.body) for a in self.asked if a.method in (methods or ("POST", "PUT"))]

    def answer(self, asked: Asked, query: dict[str, str]) -> tuple[int, Any]:
        """Answer a request: status and body."""
        for prefix, times in self.failing.items():
            if times and f"{asked.method} {asked.path}".startswith(prefix):
                self.failing[prefix] = times - 1
                return 500, error("DatabaseException", "no connection")
        parts = [unquote(part) for part in asked.path.strip("/").split("/")]
        handler = getattr(self, f"_{parts[0]}")
        status, body = handler(asked.method, parts[1:], asked.body, query)
        return status, body

    def _dids(self, method: str, parts: list[str], body: Any, query: dict[str, str]) -> tuple[int, Any]:
        did = ":".join(parts[:2])
        match method, parts[2:]:
            case "POST", []:
                if did in self.dids:
                    return 409, error("DataIdentifierAlreadyExists", did)
                self.dids[did] = {"type": body["type"], "open": True, **body.get("meta", {})}
                return 201, "Created"
            case _ if did not in self.dids:
                return 404, error("DataIdentifierNotFound", did)
            case "GET", []:
                return 200, {"scope": parts[0], "name": parts[1], **self.dids[did]}
            case "GET", ["meta"]:
                return 200, self.dids[did]
            case "POST", ["meta", key]:
                self.dids[did][key] = body["value"]
                return 201, "Created"
            case "PUT", ["status"]:
                if not self.dids[did]["open"]:
                    return 409, error("UnsupportedOperation", f"{did} is closed")
                self.dids[did]["open"] = body["open"]
                return 200, ""
            case "POST", ["dids"]:
                return self._attach(did, [f"{entry['scope']}:{entry['name']}" for entry in body["dids"]])
            case "GET", ["rules"]:
                return 200, [{"id": name} for name in self.rules if name == did]
            case "GET", ["parents"]:
                parents = [name.split(":") for name, inside in self.contents.items() if did in inside]
                return 200, [{"scope": scope, "name": name, "type": "DATASET"} for scope, name in parents]
            case "GET", ["files"]:
                rows = [self.dids[name] | {"name": name.split(":")[1]} for name in self.contents.get(did, [])]
                return 200, rows
        raise AssertionError(f"{method} {parts}")

    def _attach(self, did: str, names: list[str]) -> tuple[int, Any]:
        inside = self.contents.setdefault(did, [])
        # As Rucio does: a closed dataset refuses what is in it, too.
        if not self.dids[did]["open"]:
            return 409, error("UnsupportedOperation", f"{did} is closed")
        if any(name in inside for name in names):
            return 409, error("FileAlreadyExists", str(names))
        inside.extend(names)
        return 201, "Created"

    def _accounts(self, method: str, parts: list[str], body: Any, query: dict[str, str]) -> tuple[int, Any]:
        return 200, {"account": ACCOUNT, "status": "ACTIVE"}

    def _rses(self, method: str, parts: list[str], body: Any, query: dict[str, str]) -> tuple[int, Any]:
        if not parts:
            return 200, [{"rse": RSE}]
        if parts[1:] == ["lfns2pfns"]:
            return 200, {query["lfn"]: self.places[query["lfn"]]}
        if parts[1:] == ["attr", ""] or parts[1:] == ["attr"]:
            return 200, {}
        domain = {"read": 1, "write": 1, "delete": 1}
        return 200, {
            "rse": RSE,
            "id": "1",
            "rse_type": "DISK",
            "availability_write": True,
            "availability_read": True,
            "deterministic": self.deterministic,
            "domain": ["lan", "wan"],
            "verify_checksum": True,
            "volatile": False,
            "lfn2pfn_algorithm": "hash",
            "sign_url": None,
            "protocols": [
                {
                    "scheme": "file",
                    "hostname": "localhost",
                    "port": 0,
                    "prefix": f"{self.storage}/",
                    "impl": "rucio.rse.protocols.posix.Default",
                    "extended_attributes": None,
                    "domains": {"lan": domain, "wan": domain},
                }
            ],
        }

    def _accounts(self, method: str, parts: list[str], body: Any, query: dict[str, str]) -> tuple[int, Any]:
        return 200, ["group.daq"]

    def _rules(self, method: str, parts: list[str], body: Any, query: dict[str, str]) -> tuple[int, Any]:
        for did in body["dids"]:
            self.rules.append(f"{did['scope']}:{did['name']}")
        return 201, ["rule"]

    def _traces(self, method: str, parts: list[str], body: Any, query: dict[str, str]) -> tuple[int, Any]:
        return 201, ""

    def _replicas(self, method: str, parts: list[str], body: Any, query: dict[str, str]) -> tuple[int, Any]:
        if parts == ["list"]:
            names = [f"{did['scope']}:{did['name']}" for did in body["dids"]]
            return 200, [{"rses": {RSE: []} if name in self.replicas else {}} for name in names]
        for file in body["files"]:
            did = f"{file['scope']}:{file['name']}"
            if method == "POST":
                if did in self.replicas:
                    return 409, error("Duplicate", did)
                self.places[did] = file.get("pfn", "")
                facts = {key: file[key] for key in ("bytes", "adler32")}
                self.dids[did] = {"type": "FILE", "scope": file["scope"], **facts, **file.get("meta", {})}
            self.replicas[did] = file.get("state", "A")
        return (201, "Created") if method == "POST" else (200, "")


def error(kind: str, text: str) -> dict[str, str]:
    """Return the body that names an exception."""
    return {"ExceptionClass": kind, "ExceptionMessage": text}


@contextmanager
def serving(double: RucioDouble) -> Iterator[RucioDouble]:
    """Have a double answer."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1
        disable_nagle_algorithm = True

        def _serve(self) -> None:
            split = urlsplit(self.path)
            text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if split.path == "/auth/userpass":
                good = self.headers["X-Rucio-Username"] == ACCOUNT and double.tokens
                self._reply(200 if good else 401, b"", {"X-Rucio-Auth-Token": "token"} if good else {})
                return
            asked = Asked(self.command, split.path, json.loads(text) if text else None)
            double.asked.append(asked)
            if not split.path.startswith("/traces"):
                assert self.headers["X-Rucio-Auth-Token"] == "token"
            double.arrives(asked)
            with double.lock:
                status, body = double.answer(asked, dict(parse_qsl(split.query)))
            stream = (isinstance(body, list) and self.command == "GET") or split.path == "/replicas/list"
            if stream:
                content = "\n".join(json.dumps(row) for row in body).encode()
                self._reply(status, content, {"Content-Type": "application/x-json-stream"})
            else:
                self._reply(status, json.dumps(body).encode(), {"Content-Type": "application/json"})

        def _reply(self, status: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = _serve

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    double.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield double
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def configured(
    double: RucioDouble, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RucioDouble]:
    """Have a double answer, and Rucio's clients in this process find it.

    Parameters
    ----------
    double : `RucioDouble`
    directory : `pathlib.Path`
        Where the configuration goes.
    monkeypatch : `pytest.MonkeyPatch`
    """
    from rucio.common.config import clean_cached_config
    from rucio.rse import rsemanager

    with serving(double):
        config = directory / "rucio.cfg"
        config.write_text(
            f"[client]\nrucio_host = {double.url}\nauth_host = {double.url}\nauth_type = userpass\n"
            f"username = {ACCOUNT}\npassword = secret\naccount = {ACCOUNT}\nrequest_retries = 1\n"
            f"auth_token_file_path = {directory}/token/auth\n"
        )
        (directory / "token").mkdir()
        monkeypatch.setenv("RUCIO_CONFIG", str(config))
        monkeypatch.setattr("rucio.client.baseclient.BaseClient._back_off", lambda *_: None)
        clean_cached_config()
        rsemanager.RSE_REGION.invalidate()
        yield double
    clean_cached_config()
