"""One server process: started, stopped, started again on the same port."""

from __future__ import annotations

__all__ = ["HOST", "Server", "free_port"]

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from config.server_settings import server_environment
from simulator.servers import watch
from simulator.servers.errors import ServerFailed

#: Where servers listen.
HOST = "127.0.0.1"
#: Below the ports that the kernel gives to outgoing connections, one of which
#: might otherwise take a stopped server's place.
_PORTS = range(15_000, 32_000)


class Server:
    """A server process with its directory; base of all servers.

    Parameters
    ----------
    name : `str`
        For messages.
    directory : path-like, optional
        Where data and log go; a temporary one, removed by `close`, if left
        out.
    stop_signal : `signal.Signals`, optional
        What makes the server end in good order.
    user : `str`, optional
        Whom the process runs as, if not as ourselves.
    start_timeout : `float`, optional
        Seconds that it may take to come up.
    """

    def __init__(
        self,
        *,
        name: str,
        directory: str | Path | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        user: str = "",
        start_timeout: float = 60.0,
    ) -> None:
        self._name = name
        self._temporary = directory is None
        self._directory = Path(tempfile.mkdtemp(prefix=f"{name}-") if directory is None else directory)
        self._directory = self._directory.absolute()
        self._directory.mkdir(parents=True, exist_ok=True)
        self._stop_signal = stop_signal
        self._user = user
        self._start_timeout = start_timeout
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        """What it is."""
        return self._name

    @property
    def directory(self) -> Path:
        """Where its data and its log are."""
        return self._directory

    @property
    def log(self) -> Path:
        """What it printed."""
        return self._directory / "server.log"

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.poll() is None

    def command(self) -> Sequence[str | Path]:
        """Return the command line of the process."""
        raise NotImplementedError

    def variables(self) -> Mapping[str, str]:
        """Return what the process's environment has beyond ours."""
        return {}

    def answers(self) -> bool:
        """Say whether it serves by now."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it, with the data that it has, and wait until it serves.

        Raises
        ------
        simulator.servers.errors.ServerFailed
            Raised if it ends at once, or does not come up in time.
        """
        if self.running:
            return
        program = [sys.executable, "-I", "-S", watch.__file__]
        temporary = str(self._directory) if self._temporary else ""
        options = [str(os.getpid()), str(int(self._stop_signal)), self._user, temporary, "--"]
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                [*program, *options, *map(str, self.command())],
                env=server_environment(self.variables()),
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for the starter, who then stops it in good order.
                start_new_session=True,
            )
        self._wait_until(self.answers)

    def stop(self, timeout: float = 20.0) -> None:
        """End it in good order; its data stay."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._kill(process)

    def kill(self) -> None:
        """End it as a loss of power would; its data stay."""
        process, self._process = self._process, None
        if process is not None:
            self._kill(process)

    def pause(self) -> None:
        """Make it hang: connections stay open, and nothing answers."""
        self._signal_server(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._signal_server(signal.SIGCONT)

    def close(self) -> None:
        """Stop it, and remove its data if they are in a temporary directory."""
        self.stop()
        if self._temporary:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _signal_server(self, number: signal.Signals) -> None:
        assert self._process is not None, f"{self._name} is not running"
        for child in _children(self._process.pid):
            os.killpg(child, number)

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            for child in _children(process.pid):
                os.killpg(child, signal.SIGKILL)
        try:
            process.wait(5.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _wait_until(self, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self._start_timeout
        while not ready():
            if not self.running:
                raise ServerFailed(f"{self._name} ended at once; its log {self.log} ends:\n{self._tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise ServerFailed(
                    f"{self._name} did not come up within {self._start_timeout:g} s; "
                    f"its log {self.log} ends:\n{self._tail()}"
                )
            time.sleep(0.05)

    def _tail(self, lines: int = 12) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on.

    Raises
    ------
    simulator.servers.errors.ServerFailed
        Raised if none was found.
    """
    # Not the seeded generator of a test, which other runs may share.
    choose = random.SystemRandom()
    for _ in range(200):
        port = choose.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise ServerFailed(f"no port of {HOST} from {_PORTS.start} to {_PORTS.stop} is free")


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
