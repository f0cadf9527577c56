"""How all command lines end."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
from app.command_line import run
from models.errors import InvalidConfiguration, TemporarilyUnavailable

def command():
    {body}

run(command)
"""


def execute(body: str, *, shell: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM.format(body=body)]
    if shell:
        command = ["sh", "-c", f'exec "$@" {shell}', "sh", *command]
    env = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=200, env=env)


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("raise InvalidConfiguration('no such thing')", 2, "error: no such thing\n"),
        ("raise TemporarilyUnavailable('away')", 1, "error: away\n"),
        (f"raise OSError({errno.ENOSPC}, 'No room', 'f.db')", 1, "error: f.db cannot be written: No room\n"),
    ],
)
def test_failures_are_told_in_a_sentence(body: str, code: int, said: str) -> None:
    done = execute(body)
    assert (done.returncode, done.stderr) == (code, said)


def test_what_nobody_thought_of_is_shown_whole() -> None:
    done = execute(f"raise OSError({errno.EBADF}, 'odd')")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_an_output_that_is_full() -> None:
    done = execute("print('x' * 100_000, flush=True)", shell=">/dev/full")
    assert (done.returncode, done.stderr) == (
        1,
        "error: the output cannot be written: No space left on device\n",
    )


def test_an_output_without_such_characters() -> None:
    done = execute("print('a \\u2192 b')", shell="", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (done.returncode, done.stdout, done.stderr) == (0, "a \\u2192 b\n", "")


def test_streams_that_were_closed_are_not_taken_by_files() -> None:
    body = "print('x'); assert open('/dev/null').fileno() > 2; sys.stderr.write('x')"
    done = execute(body, shell="<&- >&- 2>&-")
    assert done.returncode == 0
