"""One of our commands as a child process, as an operator would start it."""

from __future__ import annotations

__all__ = ["Program", "ProgramEnded"]

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from models.errors import PromptProcessingError

#: Seconds that a program may take to end by itself.
_STOP_TIME = 60.0


class ProgramEnded(PromptProcessingError):
    """A program ended, or was not ready in time; its log says why."""


class Program:
    """A ``prompt-processing`` process, which is started at once.

    Parameters
    ----------
    *arguments : `str`
        Subcommand and options.
    environment : mapping [`str`, `str`]
        The whole environment.
    log : `pathlib.Path`
        Where its output goes.
    """

    def __init__(self, *arguments: str, environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        self._name = arguments[0]
        with open(log, "ab") as output:
            self.process = subprocess.Popen(  # noqa: S603 (a command of ours)
                [sys.executable, "-m", "app.cli", *arguments],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for us, who then stop it in good order.
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def wait_until(self, ready: Callable[[], bool], timeout: float = 120.0) -> None:
        """Wait until it can be used.

        Raises
        ------
        ProgramEnded
            Raised if it ends, or is not ready in time.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if not self.running:
                raise ProgramEnded(f"{self._name} ended at once:\n{self.tail()}")
            if ready():
                return
            time.sleep(0.1)
        self.stop()
        raise ProgramEnded(f"{self._name} was not ready within {timeout:g} s:\n{self.tail()}")

    def kill(self) -> None:
        """End it, and all its children, at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self, timeout: float = _STOP_TIME) -> int:
        """End it, gently first; return its exit code. Whoever interrupts that
        does not want to wait.
        """
        if self.running:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout)
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                # Slots end by themselves when they find their parent gone.
                self.kill()
        return self.process.returncode

    def tail(self, lines: int = 15) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
