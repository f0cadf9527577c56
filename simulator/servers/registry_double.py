"""The double of a schema registry: what Kafka clients of this field ask one.

Ours, written after the public interface of Confluent's registry, and nothing
more than the requests below; run as a script: ``registry_double.py HOST PORT
FILE``. The schemas are kept in the file.
"""

from __future__ import annotations

__all__ = ["SchemaRegistryDouble", "main"]

import json
import re
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_VERSIONS = re.compile(r"/subjects/(?P<subject>[^/]+)/versions")
_VERSION = re.compile(r"/subjects/(?P<subject>[^/]+)/versions/(?P<version>latest|\d+)")
_SCHEMA = re.compile(r"/schemas/ids/(?P<id>\d+)")


class SchemaRegistryDouble:
    """The schemas, by id and by subject.

    Parameters
    ----------
    file : `pathlib.Path`
        Where they are kept.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        kept: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        self._schemas: list[str] = kept.get("schemas", [])
        self._subjects: dict[str, list[int]] = kept.get("subjects", {})

    def register(self, subject: str, schema: str) -> int:
        """Return the id of a schema, the same one for the same schema."""
        json.loads(schema)
        with self._lock:
            if schema not in self._schemas:
                self._schemas.append(schema)
            number = self._schemas.index(schema) + 1
            versions = self._subjects.setdefault(subject, [])
            if number not in versions:
                versions.append(number)
            aside = self._file.with_suffix(".new")
            aside.write_text(json.dumps({"schemas": self._schemas, "subjects": self._subjects}))
            aside.replace(self._file)
            return number

    def answer(self, path: str) -> tuple[HTTPStatus, Any]:
        """Return status and body for what is asked with GET."""
        if match := _SCHEMA.fullmatch(path):
            number = int(match["id"])
            if 1 <= number <= len(self._schemas):
                return HTTPStatus.OK, {"schema": self._schemas[number - 1]}
            return HTTPStatus.NOT_FOUND, {"error_code": 40403, "message": f"Schema {number} not found"}
        if path == "/subjects":
            return HTTPStatus.OK, sorted(self._subjects)
        match = _VERSIONS.fullmatch(path) or _VERSION.fullmatch(path)
        if match is None:
            return HTTPStatus.NOT_FOUND, {"error_code": 404, "message": "HTTP 404 Not Found"}
        versions = self._subjects.get(match["subject"])
        if versions is None:
            return HTTPStatus.NOT_FOUND, {"error_code": 40401, "message": "Subject not found"}
        if match.re is _VERSIONS:
            return HTTPStatus.OK, list(range(1, len(versions) + 1))
        version = len(versions) if match["version"] == "latest" else int(match["version"])
        if not 1 <= version <= len(versions):
            return HTTPStatus.NOT_FOUND, {"error_code": 40402, "message": "Version not found"}
        number = versions[version - 1]
        found = {"subject": match["subject"], "version": version, "id": number}
        return HTTPStatus.OK, {**found, "schema": self._schemas[number - 1]}


def _handler(registry: SchemaRegistryDouble) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            """Answer what is asked."""
            self._send(*registry.answer(self.path.partition("?")[0]))

        def do_POST(self) -> None:
            """Register a schema."""
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            match = _VERSIONS.fullmatch(self.path)
            if match is None:
                self._send(HTTPStatus.NOT_FOUND, {"error_code": 404, "message": "HTTP 404 Not Found"})
                return
            try:
                number = registry.register(match["subject"], json.loads(body)["schema"])
            except (ValueError, TypeError, KeyError):
                self._send(
                    HTTPStatus.UNPROCESSABLE_ENTITY, {"error_code": 42201, "message": "Invalid schema"}
                )
                return
            self._send(HTTPStatus.OK, {"id": number})

        def _send(self, status: HTTPStatus, content: Any) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


def main(arguments: list[str]) -> None:
    """Serve until killed."""
    host, port, file = arguments
    ThreadingHTTPServer((host, int(port)), _handler(SchemaRegistryDouble(Path(file)))).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
