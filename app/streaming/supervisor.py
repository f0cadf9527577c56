"""The agents' supervisord, asked over its socket."""

from __future__ import annotations

__all__ = ["Program", "Supervisor"]

import configparser
import http.client
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from xmlrpc.client import Fault, ServerProxy

import psutil
from supervisor.xmlrpc import SupervisorTransport  # type: ignore[import-untyped]

from app.streaming.supervisord_file import read_supervisord_file
from models.errors import InvalidConfiguration, TemporarilyUnavailable

#: Seconds that supervisord has to come or go.
_PATIENCE = 20.0
_GLANCE = 0.05
#: Bytes of a log's end that errors show.
_TAIL = 2000
#: States of programs that run or are about to.
_ALIVE = ("RUNNING", "STARTING", "BACKOFF", "STOPPING")


@dataclass(frozen=True)
class Program:
    """A program of supervisord's.

    Attributes
    ----------
    state : `str`
        In supervisord's words.
    pid : `int`
        0 if there is no process.
    problem : `str`
        Why it does not run.
    log : `pathlib.Path`
    """

    name: str
    state: str
    pid: int
    problem: str
    log: Path

    @property
    def alive(self) -> bool:
        """Whether it runs or is about to."""
        return self.state in _ALIVE

    def tail(self) -> str:
        """Return the end of its log, in whole lines if they are not too long."""
        try:
            whole = self.log.read_bytes()
        except OSError as error:
            return f"(its log cannot be read: {error})"
        end = whole[-_TAIL:]
        if len(whole) > _TAIL:
            end = end.partition(b"\n")[2] or end
        text = end.decode(errors="replace")
        return text.strip() or "(its log is empty)"


class Supervisor:
    """supervisord with one configuration file.

    Parameters
    ----------
    file : `pathlib.Path`
        The file; absolute.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if it cannot be read or names no socket.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            socket = read_supervisord_file(file).get("unix_http_server", "file")
        except configparser.Error as error:
            raise InvalidConfiguration(f"{file}: no configuration of supervisord: {error}") from error
        self._socket = socket.replace("%(here)s", str(file.parent))

    @property
    def reachable(self) -> bool:
        """Whether it runs."""
        try:
            with self._asking() as ask:
                return bool(ask.getState())
        except TemporarilyUnavailable:
            return False

    def alive(self) -> list[str]:
        """Return the names of programs that run or are about to."""
        return [program.name for program in self.programs().values() if program.alive]

    def variable(self, name: str) -> str | None:
        """Return a variable of the environment that its programs inherit; None
        if it does not run or nobody can say.
        """
        try:
            with self._asking() as ask:
                return psutil.Process(int(ask.getPID())).environ().get(name)
        except (TemporarilyUnavailable, psutil.Error, OSError):
            return None

    def launch(self, environment: Mapping[str, str]) -> None:
        """Start it, and wait until it answers.

        Parameters
        ----------
        environment : mapping
            All of its environment, which programs inherit.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if it does not come.
        """
        (self.file.parent / "logs").mkdir(exist_ok=True)
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(self.file)],
            cwd=self.file.parent,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            what = (done.stdout + done.stderr).strip()
            raise TemporarilyUnavailable(f"supervisord does not start with {self.file}: {what}")
        self._wait(lambda: self.reachable, "come")

    def shut_down(self) -> None:
        """End it with all its programs, and wait until it is gone."""
        try:
            with self._asking() as ask:
                process = int(ask.getPID())
                ask.shutdown()
        except TemporarilyUnavailable:
            return
        # One program after the other has its time to end.
        self._wait(lambda: not psutil.pid_exists(process), "go", _PATIENCE * 3)

    def programs(self) -> dict[str, Program]:
        """Return programs by name.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if it does not run.
        """
        with self._asking() as ask:
            return {info["name"]: _program(info) for info in ask.getAllProcessInfo()}

    def start(self, name: str) -> None:
        """Start a program; whether it stays is not waited for."""
        with self._asking() as ask:
            ask.startProcess(name, False)

    def stop(self, name: str) -> None:
        """Stop a program, and wait until it has ended."""
        with self._asking() as ask:
            ask.stopProcess(name, True)

    @contextmanager
    def _asking(self) -> Iterator[Any]:
        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        try:
            # The host is not looked at: the transport has the socket.
            proxy = ServerProxy("http://127.0.0.1", transport=transport)
            yield cast("Any", proxy).supervisor
        except (OSError, http.client.HTTPException) as error:
            raise TemporarilyUnavailable(f"supervisord does not answer at {self._socket}: {error}") from error
        except Fault as error:
            raise TemporarilyUnavailable(f"supervisord: {error.faultString}") from error
        finally:
            transport.close()

    def _wait(self, done: Any, what: str, patience: float = _PATIENCE) -> None:
        deadline = time.monotonic() + patience
        while not done():
            if time.monotonic() > deadline:
                raise TemporarilyUnavailable(f"supervisord did not {what} within {patience:g} s")
            time.sleep(_GLANCE)


def _program(info: Mapping[str, Any]) -> Program:
    return Program(
        name=info["name"],
        state=info["statename"],
        pid=info["pid"],
        problem=info["spawnerr"] or info["description"],
        log=Path(info["stdout_logfile"]),
    )
