"""The directory of a testbed, in which each has something to itself."""

from __future__ import annotations

__all__ = ["Workplace", "logged_to", "running_testbed", "the_only_agent"]

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import RawIOBase
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO, cast
from urllib.parse import quote

from app.logging import configure_logging
from models.errors import InvalidConfiguration, TemporarilyUnavailable

#: Held by the process that runs here; has its number in it.
_LOCK = "testbed.pid"
#: Looks at a locked file, and seconds between them, until somebody has it.
_LOOKS, _GLANCE = 10, 0.02
#: What the process logs.
_LOG = "testbed.log"
#: Directory of the runs' folders where nobody names one.
_CONTAINER = "stf"


class Workplace:
    """A directory that is held for the life of a run.

    Parameters
    ----------
    directory : `pathlib.Path`
        Absolute; made if it is not there.

    Raises
    ------
    models.errors.TemporarilyUnavailable
        Raised on entry if another process runs there.
    models.errors.InvalidConfiguration
        Raised on entry if it cannot be made.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock: TextIO | None = None

    @property
    def container(self) -> Path:
        """Directory of the runs' folders where nobody names one."""
        return self.directory / _CONTAINER

    def __enter__(self) -> Self:
        lock = _locked(self.directory, _LOCK)
        if isinstance(lock, str):
            raise TemporarilyUnavailable(
                f"a testbed runs in {self.directory} already (process {lock}); "
                "end it with `testbed stop`, or choose another place by --directory"
            )
        self._lock = lock
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._lock is not None:
            _let_go(self._lock)
            self._lock = None


@contextmanager
def the_only_agent(directory: Path, role: str, namespace: str) -> Iterator[None]:
    """Be the only agent of its kind and namespace in a directory for a while.

    Parameters
    ----------
    directory : `pathlib.Path`
        Made if it is not there.
    role : `str`
        Such as ``data``.
    namespace : `str`

    Raises
    ------
    models.errors.TemporarilyUnavailable
        Raised if there is one; the text says which process it is.
    models.errors.InvalidConfiguration
        Raised if the directory cannot be made.
    """
    lock = _locked(directory, f"{role}-agent.{quote(namespace, safe=' ,+@=:~')}.pid")
    if isinstance(lock, str):
        raise TemporarilyUnavailable(
            f"the {role} agent of namespace {namespace} runs in {directory} already (process {lock}); "
            "end that one, or give this one another place by PP_TESTBED_DIRECTORY"
        )
    try:
        yield
    finally:
        _let_go(lock)


@contextmanager
def logged_to(directory: Path, levels: Mapping[str, int]) -> Iterator[Path]:
    """Log to the file of a testbed's directory for a while; it is yielded.

    Afterwards the log is on standard error, for what goes wrong at the end.

    Parameters
    ----------
    directory : `pathlib.Path`
        Made if it is not there.
    levels : mapping
        Levels by the loggers' names.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if it cannot be written.
    """
    path = directory / _LOG
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = path.open("ab", buffering=0)
    except OSError as error:
        raise InvalidConfiguration(f"the testbed's log cannot be written: {error}") from error
    with file:
        configure_logging(levels, stream=cast("TextIO", _LogFile(file)))
        try:
            yield path
        finally:
            configure_logging(levels)


class _LogFile:
    """A log that a full disk makes shorter, and nothing else."""

    def __init__(self, file: RawIOBase) -> None:
        self._file = file
        self._missing = 0

    def write(self, text: str) -> None:
        """Write a line, or count it."""
        missed = f"{self._missing} lines are missing here: they could not be written."
        note = f'\n{{"level": "ERROR", "message": "{missed}"}}\n' if self._missing else ""
        line = f"{note}{text}".encode(errors="backslashreplace")
        try:
            whole = self._file.write(line) == len(line)
        except OSError:
            whole = False
        self._missing = 0 if whole else self._missing + 1

    def flush(self) -> None:
        """Do nothing: nothing is held back."""


def running_testbed(directory: Path) -> int | None:
    """Return the process that runs in a directory; None if none does."""
    try:
        with (directory / _LOCK).open() as lock:
            try:
                # Others may look at the same time.
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return int(lock.read().strip() or 0) or None
    except (OSError, ValueError):
        pass
    return None


def _locked(directory: Path, name: str) -> TextIO | str:
    """Return a locked file that has our number in it, or the number of the
    process that has it.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = (directory / name).open("a+")
    except OSError as error:
        raise InvalidConfiguration(f"the testbed's directory cannot be used: {error}") from error
    # Who looks whether it is locked has it for a moment, too.
    for looks_left in reversed(range(_LOOKS)):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if looks_left:
                time.sleep(_GLANCE)
                continue
            with lock:
                lock.seek(0)
                return lock.read().strip() or "unknown"
        except OSError as error:
            lock.close()
            raise InvalidConfiguration(f"{directory / name} cannot be locked: {error}") from error
    try:
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
    except OSError as error:
        with suppress(OSError):
            lock.close()
        raise TemporarilyUnavailable(f"{directory / name} cannot be written: {error}") from error
    return lock


def _let_go(lock: TextIO) -> None:
    lock.truncate(0)
    lock.close()
