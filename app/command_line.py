"""What all command lines have in common: how they end."""

from __future__ import annotations

__all__ = ["FAILED", "MISUSED", "run"]

import sys
from collections.abc import Callable

import typer

from models.errors import InvalidConfiguration, PromptProcessingError

#: Exit codes: something failed and may be worth a retry; something is wrong
#: with the settings or the command line.
FAILED = 1
MISUSED = 2


def run(command: Callable[[], object]) -> None:
    """Run a command; its failures are told in a sentence, and by the exit code.

    Parameters
    ----------
    command : callable
        A `typer.Typer`.
    """
    try:
        command()
    except InvalidConfiguration as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(MISUSED)
    except PromptProcessingError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(FAILED)
