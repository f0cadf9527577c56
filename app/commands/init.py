"""``prompt-processing init``: prepare the central repo for a deployment."""

from __future__ import annotations

__all__ = ["init"]

import re
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from models.errors import InvalidConfiguration, PipelineFailed

_EXAMPLES = """
For example:

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
    *,
    show: Annotated[
        bool, typer.Option("--show-id", help="Print the deployment id and change nothing.")
    ] = False,
) -> None:
    """Prepare the central repo for this deployment: output runs with
    init-outputs, configurations and package versions of every configured
    pipeline, and the chain that gathers them. Safe to repeat.

    Exit codes: 0 done, 1 failed and worth a retry, 2 settings or pipelines
    are wrong or dataset types are missing.
    """
    from config.environment import apply_library_variables
    from config.settings import load_service_settings

    apply_library_variables("service", file=settings_file)
    settings = load_service_settings(file=settings_file)
    if deploy_id is not None:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", deploy_id):
            raise typer.BadParameter("only letters, digits, - and _ can be used", param_hint="--deploy-id")
        settings = settings.model_copy(update={"deployment_id": deploy_id})
    chosen = [_night(d) for d in dates or ()]
    # The middleware is heavy, and reads its variables when it is imported.
    from app.configured_files import check_configured_files
    from app.deployment import deployment_id_of, load_library
    from app.initialising import initialise, nights_to_prepare
    from app.logging import configure_logging

    configure_logging(settings.log_levels)
    check_configured_files(settings)
    if show:
        typer.echo(deployment_id_of(settings, load_library(settings)))
        return
    try:
        runs = initialise(settings, chosen or nights_to_prepare())
    except PipelineFailed as error:
        # It will not load, or fit, the next time either.
        raise InvalidConfiguration(str(error)) from error
    for run in runs:
        typer.echo(f"ready: {run}")


init.__doc__ = f"{init.__doc__}\n{_EXAMPLES}"


def _night(text: str) -> str:
    try:
        return str(date.fromisoformat(text))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a date; write YYYY-MM-DD", param_hint="--date") from error
