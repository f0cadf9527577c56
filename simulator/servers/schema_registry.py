"""A schema registry: our double of one, as a process."""

from __future__ import annotations

__all__ = ["SchemaRegistryServer"]

import http.client
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from config.server_settings import ServerPlaces
from simulator.servers import registry_double
from simulator.servers.errors import ServerFailed
from simulator.servers.process import HOST, Server, free_port


class SchemaRegistryServer(Server):
    """The double of `simulator.servers.registry_double`.

    Parameters
    ----------
    places : `config.server_settings.ServerPlaces`
        Not used; it is ours.
    directory : path-like, optional
    """

    def __init__(self, *, places: ServerPlaces, directory: str | Path | None = None) -> None:
        super().__init__(name="schema-registry", directory=directory)
        self._port = free_port()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self._port}"

    def register(self, subject: str, schema: str | Mapping[str, Any]) -> int:
        """Register a schema under a subject.

        Parameters
        ----------
        subject : `str`
            As a rule ``<topic>-value``.
        schema : `str` or `dict`
            An Avro schema.

        Returns
        -------
        id : `int`
        """
        text = schema if isinstance(schema, str) else json.dumps(schema)
        body = json.dumps({"schema": text})
        status, answer = self._request("POST", f"/subjects/{subject}/versions", body)
        if status != http.client.OK:
            raise ServerFailed(f"schema of {subject} could not be registered: {answer}")
        return int(json.loads(answer)["id"])

    def command(self) -> Sequence[str | Path]:
        """Return the command line of the process."""
        script = [sys.executable, "-I", "-S", registry_double.__file__]
        return [*script, HOST, str(self._port), str(self.directory / "schemas.json")]

    def answers(self) -> bool:
        """Say whether it serves by now."""
        try:
            return self._request("GET", "/subjects")[0] == http.client.OK
        except OSError:
            return False

    def _request(self, method: str, path: str, body: str | None = None) -> tuple[int, str]:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=5.0)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()
