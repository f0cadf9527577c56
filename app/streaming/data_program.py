"""``python agents/data_agent.py``: the data agent's command line, as in the
field.
"""

from __future__ import annotations

__all__ = ["main"]

from pathlib import Path
from typing import Annotated

import typer

from app.command_line import run
from models.errors import InvalidConfiguration
from models.streaming.names import DEFAULT_SCOPE


def main() -> None:
    """Run the data agent until it is told to end."""
    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        # Names of options are whole on narrow terminals, too.
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command()(_data_agent)
    run(app)


def _data_agent(
    *,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Log what helps to find faults.")] = False,
    xrootd: Annotated[
        bool, typer.Option("-x", "--xrdup", help="Copy files with XRootD, and register them then.")
    ] = False,
    mqxmit: Annotated[  # noqa: ARG001 - read by nobody in the field either
        bool, typer.Option("-m", "--mqxmit", help="Without effect, as in the field.")
    ] = False,
    scope: Annotated[str, typer.Option("-s", "--scope", help="Scope of datasets and files.")] = DEFAULT_SCOPE,
    datadir: Annotated[
        Path | None,
        typer.Option("-d", "--datadir", help="Directory of the runs' folders, where a run does not say."),
    ] = None,
    rse: Annotated[str, typer.Option("-r", "--rse", help="Rucio storage element.")] = "DAQ_DISK_3",
) -> None:
    """Register the files of runs: datasets in the catalogue, rows at the
    monitor, one stf_ready a run.

    Settings come from the environment and from the YAML file that
    PP_SETTINGS_FILE names; the namespace from SWF_TESTBED_CONFIG. SIGTERM,
    SIGQUIT, SIGHUP or Ctrl-C ends it; it may be killed at any moment and goes
    on where it was.
    """
    # Whoever asks for help does not wait for all this.
    import logging

    from app.logging import configure_logging
    from app.streaming.agent_parts import alone, run_agent
    from app.streaming.data_factory import ROLE, DataOptions, build_data_agent
    from config.streaming.settings import load_streaming_settings
    from config.values import expand_user

    if not scope.strip():
        raise InvalidConfiguration(f"-s: the scope is empty; leave it out for {DEFAULT_SCOPE}")
    settings = load_streaming_settings()
    levels = settings.log_levels
    if verbose:
        levels = {name: min(level, logging.DEBUG) if name else level for name, level in levels.items()}
    configure_logging(levels)
    container = None if datadir is None else str(expand_user(datadir))
    options = DataOptions(scope=scope, container=container, rse=rse, xrootd=xrootd)
    with alone(settings, ROLE):
        run_agent(build_data_agent(settings, options), settings)
