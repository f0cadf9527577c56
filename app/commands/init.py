"""``prompt-processing init``: prepare the central repo for a deployment."""

from __future__ import annotations

__all__ = ["init"]

import time
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated

import typer

from models.times import output_date, tai_from_unix

_EXAMPLES = """
Examples:

  prompt-processing init                       today and tomorrow

  prompt-processing init --date 2026-03-01     one night

  prompt-processing init --deploy-id hotfix-2  under a name of your own
"""


def init(
    dates: Annotated[
        list[str] | None,
        typer.Option("--date", help="TAI date of a night, YYYY-MM-DD; may be repeated. Today and tomorrow."),
    ] = None,
    deploy_id: Annotated[
        str | None, typer.Option("--deploy-id", help="Deployment id to use instead of the computed one.")
    ] = None,
    settings_file: Annotated[
        Path | None, typer.Option("--settings", help="Settings file; the environment wins over it.")
    ] = None,
    show: Annotated[
        bool, typer.Option("--show-id", help="Print the deployment id and change nothing.")
    ] = False,
) -> None:
    """Prepare the central repo for this deployment: output runs with
    init-outputs, configurations and package versions of every configured
    pipeline, and the chain that gathers them. Safe to repeat.

    Exit codes: 0 done, 1 failed and worth a retry, 2 settings are wrong or
    dataset types are missing.
    """
    # The middleware is heavy; `--help` does without.
    from app.initialising import initialise
    from config.settings import load_service_settings

    settings = load_service_settings(file=settings_file)
    if deploy_id is not None:
        settings = settings.model_copy(update={"deployment_id": deploy_id})
    chosen = [str(date.fromisoformat(d)) for d in dates] if dates else _default_dates()
    if show:
        from app.slot_factory import deployment_id_of, load_library

        typer.echo(deployment_id_of(settings, load_library(settings)))
        return
    for run in initialise(settings, chosen):
        typer.echo(f"ready: {run}")


init.__doc__ = f"{init.__doc__}\n{_EXAMPLES}"


def _default_dates() -> list[str]:
    today = output_date(tai_from_unix(time.time()))
    return [today, str(date.fromisoformat(today) + timedelta(days=1))]
