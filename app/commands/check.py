"""``prompt-processing check``: is everything ready for the night?"""

from __future__ import annotations

__all__ = ["check"]

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from app.checks import Check


class Component(StrEnum):
    """What has settings of its own."""

    SERVICE = "service"
    WORKER = "worker"
    FAN_OUT = "fan-out"
    WRITER = "writer"


def check(
    settings_file: Annotated[
        Path | None, typer.Option("--settings", help="Settings file; the environment wins over it.")
    ] = None,
    components: Annotated[
        list[Component] | None,
        typer.Option(
            "--component",
            help="What to check; may be repeated. By default the service, and what else is configured.",
        ),
    ] = None,
) -> None:
    """Check settings, instrument file, pipelines, sky maps, directories,
    databases, central repo, APDB, buckets, and Kafka, Redis and other servers
    with their topics and streams.

    Everything that is wrong is named at once. Nothing is changed.

    Exit codes: 0 all is well, 1 something is wrong.
    """
    # `--help` does without these.
    from app.checks import run_checks
    from app.component_checks import component_checks, configured_components
    from models.errors import InvalidConfiguration

    chosen = [str(c) for c in components] if components else configured_components(settings_file)
    faults, checks = 0, []
    for name in chosen:
        try:
            checks += component_checks(name, settings_file, alone=chosen == [name])
        except InvalidConfiguration as error:
            faults += 1
            typer.echo(f"FAULT  {name}: {error}\nNothing else of the {name} can be checked before that.")
        else:
            typer.echo(f"ok     settings of the {name}")
    faults += len(run_checks(checks, report=_report))
    if faults:
        typer.echo(f"{faults} thing{'s' if faults > 1 else ''} to put right.")
        raise typer.Exit(1)
    typer.echo("All is well.")


def _report(check: Check, faults: list[str]) -> None:
    typer.echo(f"{'FAULT' if faults else 'ok':7}{check.name}")
    for fault in faults:
        typer.echo("\n".join(f"         {line}" for line in fault.splitlines()))
