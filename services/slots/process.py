"""Slots and the template process as the parent sees them."""

from __future__ import annotations

__all__ = ["SlotProcess", "SlotUnavailable", "TemplateProcess", "describe_exit"]

import logging
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from services.slots.protocol import ForkSlot, OpenControl, Stop

_log = logging.getLogger(__name__)

#: Connections that may wait while the template still imports or forks.
_BACKLOG = 512


class SlotUnavailable(Exception):
    """A slot or the template process could not be started, or is gone."""


class SlotProcess:
    """One slot: its connection, and a handle on its process.

    Parameters
    ----------
    pid : `int`
    deployment_id : `str`
        As the slot gave it.
    connection : `multiprocessing.connection.Connection`
    """

    def __init__(self, *, pid: int, deployment_id: str, connection: Connection) -> None:
        self.pid = pid
        self.deployment_id = deployment_id
        self.connection = connection
        try:
            # Signals and waiting go through this handle, which cannot come to
            # mean another process as a pid can.
            self.pidfd = os.pidfd_open(pid)
        except ProcessLookupError as error:
            connection.close()
            raise SlotUnavailable(f"slot process {pid} ended as soon as it was ready") from error

    def send(self, message: Any) -> None:
        """Send a message.

        Raises
        ------
        OSError
            Raised if the slot is gone.
        """
        self.connection.send(message)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens if the slot is gone."""
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            _log.debug("Slot process %d was gone before %s.", self.pid, number.name)

    def wait(self, timeout: float) -> bool:
        """Wait for the process to end; return whether it has."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(timeout * 1000))

    @property
    def alive(self) -> bool:
        """Whether the process has not ended."""
        return not self.wait(0)

    def dismiss(self) -> None:
        """Ask the slot to leave."""
        try:
            self.send(Stop())
        except OSError:
            _log.debug("Slot process %d is gone already.", self.pid)

    def end(self) -> None:
        """Make sure that the slot is gone."""
        self.signal(signal.SIGKILL)
        self.close()

    def close(self) -> None:
        """Let go of the process. If it still lives, it ends by that."""
        self.connection.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


class TemplateProcess:
    """A template process, to be asked for slots.

    Attributes
    ----------
    directory : `pathlib.Path`
        Holds the socket; only this user can enter it.
    """

    def __init__(self, *, directory: Path, process: subprocess.Popen[bytes]) -> None:
        self.directory = directory
        self._process = process

    @classmethod
    def launch(cls, application: str) -> TemplateProcess:
        """Start a template process; it may take seconds until it answers.

        Parameters
        ----------
        application : `str`
            A ``module:function`` that returns a
            `services.slots.protocol.SlotBlueprint`.
        """
        directory = Path(tempfile.mkdtemp(prefix="prompt-processing-"))
        with socket.socket(socket.AF_UNIX) as listener:
            # Listening before it runs: whoever connects waits, and when the
            # template is gone is refused at once.
            with _socket_path(directory) as path:
                listener.bind(path)
            listener.listen(_BACKLOG)
            descriptor = listener.fileno()
            process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
                [
                    sys.executable,
                    "-m",
                    "services.slots.template",
                    f"--listener={descriptor}",
                    f"--application={application}",
                ],
                stdin=subprocess.PIPE,
                pass_fds=[descriptor],
                start_new_session=True,
            )
        return cls(directory=directory, process=process)

    def connect(self, order: ForkSlot | OpenControl) -> Connection:
        """Open a connection and say what for.

        Raises
        ------
        SlotUnavailable
            Raised if the template is gone.
        """
        client = socket.socket(socket.AF_UNIX)
        try:
            with _socket_path(self.directory) as path:
                client.connect(path)
            connection = Connection(client.detach())
        except OSError as error:
            client.close()
            raise SlotUnavailable(f"the template process is gone: {error}") from error
        try:
            connection.send(order)
        except OSError as error:
            connection.close()
            raise SlotUnavailable(f"the template process is gone: {error}") from error
        return connection

    def disown(self) -> None:
        """Keep the use of a template that a forked parent process started, but
        not its life: let it end with that other process.
        """
        if self._process.stdin is not None:
            self._process.stdin.close()

    def stop(self, timeout: float = 5.0) -> None:
        """End the process and its slots, and remove what it used."""
        self.disown()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


@contextmanager
def _socket_path(directory: Path) -> Iterator[str]:
    """Give the template's socket a name that is short enough.

    The address of a Unix socket has room for 107 bytes (unix(7)), and
    temporary directories may be deep.
    """
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/template"
    finally:
        os.close(descriptor)


def describe_exit(code: int | None) -> str:
    """Say in words how a process ended.

    Parameters
    ----------
    code : `int` or `None`
        Exit code, negative for a signal, `None` if it is not known.
    """
    if code is None:
        return "disappeared"
    if code >= 0:
        return f"exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}"
