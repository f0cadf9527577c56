"""A Redis server."""

from __future__ import annotations

__all__ = ["RedisServer"]

import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from config.server_settings import ServerPlaces
from simulator.servers.packages import UnpackedPackages, library_path
from simulator.servers.process import HOST, Server, free_port


class RedisServer(Server):
    """Redis, installed or unpacked.

    Parameters
    ----------
    places : `config.server_settings.ServerPlaces`
    directory : path-like, optional
    durable : `bool`, optional
        Whether every command is on disk before it is answered.

    Raises
    ------
    simulator.servers.errors.ServerUnavailable
        Raised if it cannot be had.
    """

    def __init__(
        self, *, places: ServerPlaces, directory: str | Path | None = None, durable: bool = False
    ) -> None:
        self._program, self._tree = _find(places)
        super().__init__(name="redis", directory=directory)
        self._port = free_port()
        self._durable = durable

    @property
    def host_port(self) -> str:
        """Where it listens, ``host:port``."""
        return f"{HOST}:{self._port}"

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    def command(self) -> Sequence[str | Path]:
        """Return the command line of the process."""
        return [
            *(self._program, "--bind", HOST, "--port", str(self._port), "--dir", self.directory),
            # Everything is in the append-only file, so that a restart finds it.
            *("--appendonly", "yes", "--appendfsync", "always" if self._durable else "no", "--save", ""),
        ]

    def variables(self) -> Mapping[str, str]:
        """Return what the process's environment has beyond ours."""
        return {} if self._tree is None else {"LD_LIBRARY_PATH": library_path(self._tree)}

    def answers(self) -> bool:
        """Say whether it serves by now."""
        try:
            with socket.create_connection((HOST, self._port), timeout=1.0) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def _find(places: ServerPlaces) -> tuple[Path, Path | None]:
    installed = places.which("redis-server")
    if installed is not None:
        return installed, None
    tree = UnpackedPackages(places.unpacked).get("redis", ["redis-server"])
    # The server is a link to the program that checks its files, too.
    return (tree / "usr/bin/redis-server"), tree
