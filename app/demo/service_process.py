"""The service as a child process: what an operator would start by hand."""

from __future__ import annotations

__all__ = ["ServiceProcess", "free_port"]

import socket
from collections.abc import Mapping
from pathlib import Path

from app.demo.program import Program
from simulator.io.service_client import is_ready


class ServiceProcess:
    """Gunicorn, started and stopped.

    Parameters
    ----------
    environment : `dict` [`str`, `str`]
        The whole environment of the process.
    log : `pathlib.Path`
        Where its output goes.
    url : `str`
        Where it will listen.
    """

    def __init__(self, *, environment: Mapping[str, str], log: Path, url: str) -> None:
        self._environment = dict(environment)
        self._log = log
        self._url = url
        self._program: Program | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._url

    @property
    def pid(self) -> int:
        """Process id of Gunicorn's master."""
        assert self._program is not None
        return self._program.process.pid

    def start(self, timeout: float = 120.0) -> None:
        """Start it and wait until it can take visits.

        Raises
        ------
        app.demo.program.ProgramEnded
            Raised if it ends, or is not ready in time.
        """
        self._program = Program("serve", environment=self._environment, log=self._log)
        self._program.wait_until(lambda: is_ready(self._url), timeout)

    def wait(self) -> None:
        """Wait until it ends by itself."""
        if self._program is not None:
            self._program.process.wait()

    def stop(self, timeout: float = 60.0) -> None:
        """Stop it, gently first."""
        if self._program is not None:
            self._program.stop(timeout)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
