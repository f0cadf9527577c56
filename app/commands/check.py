"""``prompt-processing check``: is everything ready for the night?"""

from __future__ import annotations

__all__ = ["check"]

import re
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
    AGENTS = "agents"


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
    patience: Annotated[
        float,
        typer.Option("--patience", min=1, help="Seconds after which a check without an answer is a fault."),
    ] = 60.0,
) -> None:
    """Check settings, instrument file, pipelines, sky maps, directories,
    databases, central repo, APDB, buckets, and Kafka, Redis and other servers
    with their topics and streams; for the agents of the streaming workflow
    also broker, monitor, catalogue, executor and payload.

    Everything that is wrong is named at once. Nothing is changed. All checks
    run side by side, and each is reported when it has ended.

    Exit codes: 0 all is well, 1 something is wrong.
    """
    # `--help` does without these.
    from rich.console import Console

    from app.check_runs import run_checks
    from app.component_checks import component_checks, configured_components
    from app.progress import waiting_reporter
    from models.errors import InvalidConfiguration

    console = Console()

    def say(text: str) -> None:
        console.print(_public(text), markup=False, highlight=False, soft_wrap=True)

    def report(check: Check, faults: list[str]) -> None:
        say(f"{'FAULT' if faults else 'ok':7}{check.name}")
        for fault in faults:
            say("\n".join(f"         {line}" for line in fault.splitlines()))

    chosen = [str(c) for c in components] if components else configured_components(settings_file)
    faults, checks = 0, []
    for name in chosen:
        try:
            checks += component_checks(name, settings_file, alone=chosen == [name])
        except InvalidConfiguration as error:
            faults += 1
            say(f"FAULT  {name}: {error}\nNothing else of the {name} can be checked before that.")
        else:
            say(f"ok     settings of the {name}")
    with waiting_reporter(console) as waiting:
        found = run_checks(
            checks,
            report=report,
            waiting=lambda open_checks: waiting([_public(c.name) for c in open_checks]),
            patience=patience,
        )
    faults += len(found)
    if faults:
        say(f"{faults} thing{'s' if faults > 1 else ''} to put right.")
        raise typer.Exit(1)
    say("All is well.")


def _public(text: str) -> str:
    """Leave out users and passwords of addresses."""
    return re.sub(r"(?<=://)[^/@\s]+@", "", text)
