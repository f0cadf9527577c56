"""A payload: a command that runs in a directory of its own, for so long."""

from __future__ import annotations

__all__ = ["LOG_NAME", "PayloadStopped", "StopSignal", "kill_leftovers", "run_payload"]

import errno
import logging
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Self

import psutil

_log = logging.getLogger(__name__)

#: What a payload said, in its directory.
LOG_NAME = "job.log"
#: Bytes of it that are kept, of the beginning and of the end.
_LOG_HEAD = 1_000_000
_LOG_TAIL = 250_000
_CHUNK = 65536
#: Chunks that a pipe can hold, at most; who is left over may go on writing.
_PIPE = 16
#: Milliseconds for which is waited at once; more does not fit into an int.
_LONGEST_WAIT = 60_000.0
#: Seconds between asking a payload to end and killing it.
_GRACE = 2.0


class PayloadStopped(Exception):
    """The payload was killed because we end; it says nothing about the file."""


class StopSignal:
    """Tells payloads that are running that we end."""

    def __init__(self) -> None:
        self.fd, self._set = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._closed = False

    def set(self) -> None:
        """Have all payloads killed, now and from now on."""
        if not self._closed:
            os.close(self._set)
            self._closed = True

    @property
    def is_set(self) -> bool:
        """Whether payloads are to end."""
        return self._closed

    def close(self) -> None:
        """Give back what it has of the system; no payload may run then."""
        self.set()
        os.close(self.fd)


def run_payload(
    command: Sequence[str],
    *,
    directory: Path,
    environment: Mapping[str, str],
    timeout: float | None,
    stop: StopSignal,
) -> str | None:
    """Run a command to its end, and end what it leaves behind.

    What it writes to its output and error streams goes to `LOG_NAME` in its
    directory, the beginning and the end of it if it is long.

    Parameters
    ----------
    command : sequence of `str`
        The program as a path, and its arguments.
    directory : `pathlib.Path`
        Where it runs.
    environment : mapping
        All of its environment.
    timeout : `float` or `None`
        Seconds after which it is killed.
    stop : `StopSignal`

    Returns
    -------
    error : `str` or `None`
        What went wrong; None if it ended with 0.

    Raises
    ------
    PayloadStopped
        Raised if `stop` was set before it ended.
    """
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            process = subprocess.Popen(  # noqa: S603  # the user's own command
                command,
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=theirs,
                start_new_session=True,
            )
        except OSError as error:
            return _why_not_started(command[0], error)
        finally:
            os.close(theirs)
        os.set_blocking(ours, False)
        with _Log(directory / LOG_NAME) as log:
            return _wait(process, ours, log, timeout, stop)
    finally:
        os.close(ours)


def _why_not_started(program: str, error: OSError) -> str:
    hint = ""
    if error.errno == errno.ENOEXEC:
        hint = "; a script begins with #! and its interpreter"
    elif error.errno == errno.ENOENT and Path(program).exists():
        # The system names the script, which is there.
        hint = "; it is there, but not the interpreter that its first line names"
    return f"the payload cannot be started: {error}{hint}"


def _wait(
    process: subprocess.Popen[bytes], output: int, log: _Log, timeout: float | None, stop: StopSignal
) -> str | None:
    deadline = None if timeout is None else time.monotonic() + timeout
    exited = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(exited, select.POLLIN)
        poll.register(output, select.POLLIN)
        poll.register(stop.fd, select.POLLIN)
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            wait = None if left is None else min(_LONGEST_WAIT, left * 1000 + 1)
            ready = {fd for fd, _ in poll.poll(wait)}
            if output in ready and not _drain(output, log, chunks=1):
                poll.unregister(output)
            if exited in ready:
                break
            if stop.fd in ready:
                _end(process, exited)
                raise PayloadStopped
            if deadline is not None and time.monotonic() >= deadline:
                _end(process, exited)
                _drain(output, log)
                return f"the payload was killed after {timeout:g} s"
        # While its leader is not yet waited for, no other group has this number.
        _signal_group(process.pid, signal.SIGKILL)
        code = process.wait()
        _drain(output, log)
    finally:
        os.close(exited)
    if code < 0:
        return f"the payload was killed by {_signal_name(-code)}"
    return f"the payload ended with {code}" if code else None


def _end(process: subprocess.Popen[bytes], exited: int) -> None:
    """Ask a payload to end, then make it."""
    _signal_group(process.pid, signal.SIGTERM)
    select.select([exited], [], [], _GRACE)
    _signal_group(process.pid, signal.SIGKILL)
    process.wait()


def _signal_group(group: int, number: signal.Signals) -> None:
    # It may be gone, or have become another user's.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        # Those for real time have no names.
        return f"signal {number}"


def _drain(output: int, log: _Log, *, chunks: int = _PIPE) -> bool:
    """Read what is there; False once nothing more can come."""
    for _ in range(chunks):
        try:
            chunk = os.read(output, _CHUNK)
        except BlockingIOError:
            return True
        if not chunk:
            return False
        log.write(chunk)
    return True


class _Log:
    """A file that is there once something was said, and does not grow for ever."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._head = 0
        self._tail = bytearray()
        self._left_out = 0

    def __enter__(self) -> Self:
        return self

    def write(self, chunk: bytes) -> None:
        """Keep some bytes."""
        room = _LOG_HEAD - self._head
        if room > 0:
            self._append(chunk[:room])
            self._head += len(chunk[:room])
        self._tail += chunk[max(0, room) :]
        if (excess := len(self._tail) - _LOG_TAIL) > 0:
            del self._tail[:excess]
            self._left_out += excess

    def _append(self, data: bytes) -> None:
        try:
            if self._file is None:
                self._file = self._path.open("wb", buffering=0)
            self._file.write(data)
        except OSError as error:
            # A full disk must not look like a payload that failed.
            _log.warning("What a payload says cannot be written to %s: %s", self._path, error)

    def __exit__(self, *_: object) -> None:
        if self._left_out:
            self._append(b"\n[... %d bytes are left out ...]\n" % self._left_out)
        if self._tail:
            self._append(bytes(self._tail))
        if self._file is not None:
            self._file.close()


def kill_leftovers(variable: str, value: str, *, timeout: float = 10.0) -> int:
    """Kill processes that have a variable in their environment: payloads of an
    earlier life, which did not live to see them end.

    Returns
    -------
    number : `int`
        How many there were.
    """
    killed: dict[int, psutil.Process] = {}
    deadline = time.monotonic() + timeout
    while found := [process for process in psutil.process_iter() if _has(process, variable, value)]:
        # Again until there are none: one may have made another meanwhile.
        for process in found:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
            except psutil.AccessDenied:
                _log.error("Process %d is left over and cannot be killed.", process.pid)
                return len(killed)
            killed[process.pid] = process
        psutil.wait_procs(found, timeout=1.0)
        if time.monotonic() > deadline:
            _log.error("Processes %s are left over and do not end.", [p.pid for p in found])
            break
    return len(killed)


def _has(process: psutil.Process, variable: str, value: str) -> bool:
    try:
        return process.environ().get(variable) == value
    except (psutil.Error, OSError):
        return False
