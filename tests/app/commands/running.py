"""Runs commands as a shell would."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.testing import CliRunner, Result


def run(command: Callable[..., Any], *arguments: object, **env: str | None) -> Result:
    """Run a command; the exception that it ends with, if any, is in the
    result.
    """
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(a) for a in arguments], env=env)


def words(result: Result) -> str:
    """Return what was said, as one line."""
    return " ".join(result.output.split())
