"""What all command lines have in common: how they end."""

from __future__ import annotations

__all__ = ["FAILED", "MISUSED", "run"]

import errno
import io
import os
import sys
from collections.abc import Callable

import typer

from models.errors import InvalidConfiguration, PromptProcessingError

#: Exit codes: something failed and may be worth a retry; something is wrong
#: with the settings or the command line.
FAILED = 1
MISUSED = 2
#: Errors of who writes that say nothing about us.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def run(command: Callable[[], object]) -> None:
    """Run a command; its failures are told in a sentence, and by the exit code.

    Parameters
    ----------
    command : callable
        A `typer.Typer`.
    """
    _have_standard_streams()
    try:
        command()
    except InvalidConfiguration as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(MISUSED)
    except PromptProcessingError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(FAILED)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        place = error.filename or "the output"
        typer.echo(f"error: {place} cannot be written: {error.strerror}", err=True)
        _drop_output()
        sys.exit(FAILED)


def _have_standard_streams() -> None:
    """Open those that were closed by whoever started us: the next file that is
    opened would be taken for them.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w"))
    # What a terminal has no character for is written by its number, and stops nothing.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Have nothing written at the end that could not be written before."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
