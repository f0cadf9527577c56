"""PanDA's client, at work in a process of its own."""

from __future__ import annotations

__all__ = ["PandaClient", "PandaExited"]

import json
import logging
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from models.errors import TemporarilyUnavailable

_log = logging.getLogger(__name__)

_HELPER = Path(__file__).with_name("panda_helper.py")
#: Seconds for an answer; the library itself would wait for ten minutes.
_TIMEOUT = 120.0
#: Characters of what the library printed that get into an error, and bytes that
#: are read for that.
_SAID, _READ = 500, 8192
#: How lines begin of which nobody gets wiser.
_NOISE = ("INFO : ", "NoneType: None", "WARNING : The grid queue names could change")


class PandaExited(Exception):
    """panda-client ended its process.

    Parameters
    ----------
    code : `int`
        Its exit code.
    said : `str`
        The end of what it printed.
    """

    def __init__(self, code: int, said: str) -> None:
        super().__init__(f"panda-client ended with {code}: {said or 'it said nothing'}")
        self.code = code


class PandaClient:
    """Asks panda-client; see `repos.streaming.panda_helper` for what.

    Parameters
    ----------
    directory : `pathlib.Path`, optional
        Where it works, which is its sandbox.
    environment : mapping, optional
        Its environment; that of this process by default.
    timeout : `float`, optional
        Seconds for an answer.
    """

    def __init__(
        self,
        *,
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
        timeout: float = _TIMEOUT,
    ) -> None:
        self._directory = directory
        self._environment = environment
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None
        self._lock = threading.Lock()
        self._closed = False

    def ask(self, call: str, **arguments: Any) -> tuple[int, Any]:
        """Have a function called.

        Returns
        -------
        status : `int`
            0: PanDA answered.
        answer : `object`
            If it did not, and the library does not return why: what it
            printed.

        Raises
        ------
        PandaExited
            Raised if the library ended its process.
        models.errors.TemporarilyUnavailable
            Raised if there is no answer.
        """
        with self._lock:
            try:
                answer = self._exchange({"call": call, **arguments})
            except (OSError, ValueError) as error:
                said = self._end()
                raise TemporarilyUnavailable(f"PanDA: {call}: {error}; {said}") from error
            if "exit" in answer:
                raise PandaExited(answer["exit"], self._end())
            if answer.get("status") and answer["answer"] is None:
                answer["answer"] = self._printed()
        if "error" in answer:
            raise TemporarilyUnavailable(f"PanDA: {call}: {answer['error']}")
        return answer["status"], answer["answer"]

    def answer(self, call: str, **arguments: Any) -> Any:
        """Have a function called, and return PanDA's answer.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if there is none, or it tells of a failure.
        """
        try:
            status, answer = self.ask(call, **arguments)
        except PandaExited as error:
            raise TemporarilyUnavailable(str(error)) from error
        if status != 0:
            raise TemporarilyUnavailable(
                f"PanDA: {call} failed with {status}: {answer or 'its client does not say why'}"
            )
        return answer

    def close(self) -> None:
        """End its process for good, also while it is asked something: whoever
        asks would wait for PanDA.
        """
        # First: a process that is just begun is ended by who began it.
        self._closed = True
        if (process := self._process) is not None:
            process.kill()
        with self._lock:
            self._end()

    def _exchange(self, request: dict[str, Any]) -> dict[str, Any]:
        self._refuse_when_closed()
        process = self._process or self._begin()
        # It may have been closed while the process was begun.
        self._refuse_when_closed()
        assert process.stdin is not None and process.stdout is not None and self._said is not None
        # What it prints from now on is about this; it has the same file, at the
        # same position, and waits.
        self._said.seek(0)
        self._said.truncate()
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        deadline = time.monotonic() + self._timeout
        line = b""
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                raise TimeoutError(f"no answer within {self._timeout:g} s")
            chunk = process.stdout.read1(65536)  # type: ignore[attr-defined]
            if not chunk:
                raise ConnectionError("panda-client's process ended")
            line += chunk
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _begin(self) -> subprocess.Popen[bytes]:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # it lives as long as the process
        # -P: modules beside the script are not to be taken for the library's.
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", str(_HELPER)],
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            start_new_session=True,
        )
        return self._process

    def _refuse_when_closed(self) -> None:
        if self._closed:
            if self._process is not None:
                self._process.kill()
            raise ConnectionError("it is not asked any more")

    def _end(self) -> str:
        """End the process; return the end of what it printed."""
        if self._process is None or self._said is None:
            return ""
        process, said = self._process, self._said
        self._process = self._said = None
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    _log.debug("panda-client's process was gone.")
        try:
            process.wait(0.5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        text = _end_of(said)
        said.close()
        return text

    def _printed(self) -> str:
        """Return the end of what it printed about the last question."""
        return "" if self._said is None else _end_of(self._said)


def _end_of(file: IO[bytes]) -> str:
    """Return the end of a file in one line, and leave its position alone."""
    size = os.fstat(file.fileno()).st_size
    text = os.pread(file.fileno(), _READ, max(0, size - _READ)).decode(errors="replace")
    lines = (" ".join(line.split()) for line in text.splitlines())
    return " ".join(line for line in lines if line and not line.startswith(_NOISE))[-_SAID:]
