"""The service as a child process: what an operator would start by hand."""

from __future__ import annotations

__all__ = ["ServiceProcess", "free_port"]

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from models.errors import PromptProcessingError
from simulator.io.service_client import is_ready


class ServiceDidNotStart(PromptProcessingError):
    """The service ended, or was not ready in time; its log says why."""


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
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._url

    @property
    def pid(self) -> int:
        """Process id of Gunicorn's master."""
        assert self._process is not None
        return self._process.pid

    def start(self, timeout: float = 120.0) -> None:
        """Start it and wait until it can take visits.

        Raises
        ------
        ServiceDidNotStart
            Raised if it ends, or is not ready in time.
        """
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "app.cli", "serve"],
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                # Ctrl-C is for us, who then stop the service in good order.
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise ServiceDidNotStart(f"the service ended at once:\n{self._tail()}")
            if is_ready(self._url):
                return
            time.sleep(0.1)
        self.stop()
        raise ServiceDidNotStart(f"the service was not ready within {timeout:g} s:\n{self._tail()}")

    def wait(self) -> None:
        """Wait until it ends by itself."""
        if self._process is not None:
            self._process.wait()

    def stop(self, timeout: float = 60.0) -> None:
        """Stop it, gently first; whoever interrupts that does not want to
        wait.
        """
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            # Slots end by themselves when they find their parent gone.
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _tail(self, lines: int = 15) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
