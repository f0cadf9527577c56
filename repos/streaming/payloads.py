"""The files, directories and variables of a payload.

A payload works in a hidden directory, which gets its name when it has
succeeded: what a file gave is there once, and wholly, whenever we die.
"""

from __future__ import annotations

__all__ = ["PayloadRunner", "parse_payload"]

import errno
import itertools
import logging
import os
import shlex
import shutil
import stat
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import filelock

from models.errors import InvalidConfiguration, TemporarilyUnavailable
from models.streaming.names import parse_stf_filename
from repos.streaming.local_jobs import LocalJob, LocalTask
from repos.streaming.payload_process import StopSignal, kill_leftovers, run_payload

_log = logging.getLogger(__name__)

#: Variable by which payloads of an earlier life are known.
_MARK = "SWF_EXECUTOR"
#: Where payloads work, in the directory of a task's outputs, and where what
#: failed is kept.
_WORK = ".work"
_FAILED = ".failed"
#: Seconds to wait for an executor that is just ending.
_LOCK_TIMEOUT = 10.0


def parse_payload(text: str, *, directory: Path, search: str | None) -> tuple[str, ...]:
    """Return the command that a user wrote, its program as an absolute path.

    It is no shell's: ``sh -c '...'`` is, if one is needed.

    Parameters
    ----------
    text : `str`
    directory : `pathlib.Path`
        What relative paths of programs are relative to.
    search : `str` or `None`
        Directories of programs, as in ``PATH``.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if it cannot be split, or there is no such program.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InvalidConfiguration(f"the payload {text!r} is no command: {error}") from error
    if not words:
        raise InvalidConfiguration(f"the payload {text!r} is no command: it is empty")
    program, *arguments = words
    name = str(directory / Path(program).expanduser()) if "/" in program else program
    found = shutil.which(name, path=search)
    if found is None:
        raise InvalidConfiguration(
            f"the payload {text!r}: there is no program {program} that may be executed; "
            "give its path, or the name of one in PATH"
        )
    return str(Path(found).absolute()), *arguments


class PayloadRunner:
    """Runs payloads.

    Parameters
    ----------
    command : sequence of `str`
        See `parse_payload`.
    directory : `pathlib.Path`
        What comes out is in ``<output dataset>/<file>/`` of it.
    environment : mapping
        What payloads find in their environment besides their own variables.
    timeout : `float` or `None`
        Seconds after which a payload is killed.
    """

    def __init__(
        self,
        *,
        command: Sequence[str],
        directory: Path,
        environment: Mapping[str, str],
        timeout: float | None,
    ) -> None:
        self._command = tuple(command)
        self._directory = directory
        self._environment = dict(environment)
        self._timeout = timeout
        self._stop: StopSignal | None = None
        self._lock = filelock.FileLock(directory / ".lock", thread_local=False)

    def open(self) -> None:
        """Take the directory, and kill payloads that an earlier process left.

        Raises
        ------
        models.errors.InvalidConfiguration
            Raised if it cannot be used, or another process uses it.
        """
        if self._stop is not None:
            return
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=_LOCK_TIMEOUT)
            mark = self._directory / ".executor"
            # Empty if the disk was full, or we died, when it was made.
            if not mark.exists() or not mark.read_text():
                mark.write_text(uuid.uuid4().hex)
            self._environment[_MARK] = mark.read_text()
        except filelock.Timeout as error:
            raise InvalidConfiguration(
                f"another agent executes tasks in {self._directory}; stop it, or give this one "
                "a directory of its own"
            ) from error
        except OSError as error:
            raise InvalidConfiguration(f"tasks cannot be executed in {self._directory}: {error}") from error
        self._kill_leftovers("payloads of an earlier agent left")
        self._stop = StopSignal()

    def stop(self) -> None:
        """Kill all payloads, now and from now on."""
        if self._stop is not None:
            self._stop.set()

    def close(self) -> None:
        """Give the directory back; no payload may run then."""
        if self._stop is not None:
            self._kill_leftovers("payloads that had ended left")
            self._stop.close()
            self._stop = None
            self._lock.release()

    def run(self, task: LocalTask, job: LocalJob) -> str | None:
        """Run the payload on a file.

        Returns
        -------
        error : `str` or `None`
            What went wrong; None if all is well, and its outputs in place.

        Raises
        ------
        repos.streaming.payload_process.PayloadStopped
            Raised if it was killed because we end.
        models.errors.TemporarilyUnavailable
            Raised if its directory cannot be used: the disk is full.
        """
        if self._stop is None:
            raise RuntimeError("the directory of payloads is not open")
        if not Path(job.path).exists():
            return f"the file {job.path} is not there"
        outputs = self._outputs(task)
        name = _file_name(job.filename)
        work = outputs / _WORK / name
        try:
            _remove(work)
            work.mkdir(parents=True)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return f"the file {job.filename} has no place here: {error}"
            raise TemporarilyUnavailable(f"the directory {work} cannot be made: {error}") from error
        failure = run_payload(
            self._command,
            directory=work,
            environment={**self._environment, **_variables(task, job, work)},
            timeout=self._timeout,
            stop=self._stop,
        )
        try:
            if work.is_symlink() or not work.is_dir():
                return failure or "the payload removed the directory in which it worked"
            # A directory that may not be written to cannot be moved.
            work.chmod(work.stat().st_mode | stat.S_IRWXU)
            if failure is None:
                work.rename(outputs / name)
            else:
                _keep_failed(work, outputs / _FAILED / name)
        except OSError as error:
            if failure is None:
                raise TemporarilyUnavailable(f"{work} cannot be put in place: {error}") from error
            _log.warning("What %s left cannot be kept: %s", job.filename, error)
        return failure

    def has_succeeded(self, task: LocalTask, job: LocalJob) -> bool:
        """Say whether a payload succeeded of which nobody lived to tell."""
        return (self._outputs(task) / _file_name(job.filename)).is_dir()

    def set_aside(self, output: str) -> None:
        """Give another name to outputs that are there before their task is:
        they are of a task that was forgotten with its database.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if they cannot be renamed.
        """
        outputs = self._directory / _file_name(output)
        if not outputs.is_dir():
            return
        places = (outputs.with_name(f"{outputs.name}.{number}") for number in itertools.count(1))
        place = next(place for place in places if not place.exists())
        try:
            outputs.rename(place)
        except OSError as error:
            raise TemporarilyUnavailable(f"{outputs} cannot be set aside: {error}") from error
        _log.warning(
            "Outputs of an earlier task that nobody knows were in %s; they are in %s.", outputs, place
        )

    def tidy(self, task: LocalTask) -> None:
        """Remove what a task that has ended needs no more."""
        shutil.rmtree(self._outputs(task) / _WORK, ignore_errors=True)

    def forget(self, task: LocalTask) -> None:
        """Remove what failed attempts of a task left."""
        shutil.rmtree(self._outputs(task) / _FAILED, ignore_errors=True)

    def _kill_leftovers(self, who: str) -> None:
        if killed := kill_leftovers(_MARK, self._environment[_MARK]):
            _log.warning("%d processes that %s were killed.", killed, who)

    def _outputs(self, task: LocalTask) -> Path:
        return self._directory / _file_name(task.spec.output)


def _keep_failed(work: Path, place: Path) -> None:
    """Keep what a failed attempt left, for people to look at."""
    _remove(place)
    place.parent.mkdir(exist_ok=True)
    work.rename(place)


def _remove(directory: Path) -> None:
    """Remove what a payload left, also where it forbade that."""
    if not directory.is_dir() or directory.is_symlink():
        directory.unlink(missing_ok=True)
        return
    for parent, names, _ in os.walk(directory):
        for path in (Path(parent), *(Path(parent, name) for name in names)):
            if not path.is_symlink():
                path.chmod(stat.S_IRWXU)
    shutil.rmtree(directory)


def _file_name(name: str) -> str:
    """Return a name as one that no file system minds, and that is not hidden."""
    quoted = quote(name, safe=" ,+@=:~")
    return f"%2E{quoted[1:]}" if quoted.startswith(".") else quoted


def _variables(task: LocalTask, job: LocalJob, directory: Path) -> dict[str, str]:
    name = parse_stf_filename(job.filename)
    return {
        "SWF_NAMESPACE": task.spec.namespace,
        "SWF_EXECUTION_ID": task.spec.execution_id or "",
        "SWF_RUN_NUMBER": task.spec.run_id,
        "SWF_SCOPE": task.spec.input.scope,
        "SWF_DATASET": task.spec.input.name,
        "SWF_OUTPUT_DATASET": task.spec.output,
        "SWF_OUTPUT_DIRECTORY": str(directory),
        "SWF_TASK_ID": str(task.id),
        "SWF_JOB_ID": str(job.id),
        "SWF_ATTEMPT": str(job.attempts + 1),
        "SWF_STF_FILE": job.path,
        "SWF_STF_NAME": job.filename,
        "SWF_SEQUENCE": str(name.sequence) if name else "",
        "SWF_SIZE_BYTES": str(job.size_bytes),
        "SWF_ADLER32": job.adler32,
    }
