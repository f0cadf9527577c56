"""The command line: ``prompt-processing COMMAND``."""

from __future__ import annotations

__all__ = ["build", "main"]

import importlib
import importlib.util
import sys
from collections.abc import Iterable
from importlib import metadata
from typing import Annotated

import typer

from app.command_line import run

#: Commands, and the modules of `app.commands` that hold them.
_COMMANDS = {
    "demo": "demo",
    "serve": "serve",
    "init": "init",
    "worker": "worker",
    "fan-out": "fan_out",
    "writer": "writer",
    "simulate": "simulate",
    "daq": "daq",
    "monitor": "monitor",
    "mcp": "mcp",
    "create-central": "create_central",
    "status": "status",
    "outbox": "outbox",
    "check": "check",
}


def build(names: Iterable[str]) -> typer.Typer:
    """Make the command line interface.

    Parameters
    ----------
    names : iterable of `str`
        The commands to load; those that this version does not have are left
        out.
    """
    app = typer.Typer(
        name="prompt-processing",
        no_args_is_help=True,
        add_completion=False,
        # A failure is told in a sentence; its traceback is for the log.
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    app.callback()(_root)
    for name in names:
        module = f"app.commands.{_COMMANDS[name]}"
        if importlib.util.find_spec(module) is not None:
            command = getattr(importlib.import_module(module), _COMMANDS[name])
            if isinstance(command, typer.Typer):
                app.add_typer(command, name=name)
            else:
                app.command(name)(command)
    return app


def main() -> None:
    """Run the command line; the console script."""
    # Only the command that is meant is imported; all, to list them.
    asked = [word for word in sys.argv[1:2] if word in _COMMANDS]
    run(build(asked or _COMMANDS))


def _show_version(wanted: bool) -> None:  # noqa: FBT001 (called by typer)
    if wanted:
        typer.echo(f"prompt-processing {metadata.version('prompt-processing')}")
        raise typer.Exit


_VERSION = typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)


def _root(*, version: Annotated[bool, _VERSION] = False) -> None:
    """Turn telescope images into alerts within seconds of the shutter closing.

    Begin with `prompt-processing demo`, which needs nothing else.
    """


if __name__ == "__main__":
    main()
