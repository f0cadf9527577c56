"""``prompt-processing check``: is everything ready for the night?"""

from __future__ import annotations

__all__ = ["check"]

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from app.checks import Check


def check(
    settings_file: Annotated[
        Path | None, typer.Option("--settings", help="Settings file; the environment wins over it.")
    ] = None,
) -> None:
    """Check settings, instrument file, pipelines, sky maps, directories, ledger, central repo and APDB.

    Everything that is wrong is named at once. Nothing is changed.

    Exit codes: 0 all is well, 1 something is wrong.
    """
    # `--help` does without these.
    from app.checks import create_checks, run_checks
    from config.environment import apply_library_variables
    from config.settings import load_service_settings
    from models.errors import InvalidConfiguration

    try:
        apply_library_variables("service", file=settings_file)
        settings = load_service_settings(file=settings_file)
    except InvalidConfiguration as error:
        typer.echo(f"FAULT  {error}\nNothing else can be checked before that.")
        raise typer.Exit(1) from error
    typer.echo("ok     settings")
    faults = run_checks(create_checks(settings), report=_report)
    if faults:
        typer.echo(f"{len(faults)} thing{'s' if len(faults) > 1 else ''} to put right.")
        raise typer.Exit(1)
    typer.echo("All is well.")


def _report(check: Check, faults: list[str]) -> None:
    typer.echo(f"{'FAULT' if faults else 'ok':7}{check.name}")
    for fault in faults:
        typer.echo("\n".join(f"         {line}" for line in fault.splitlines()))
