"""``python agents/prompt_processing_agent.py``: the processing agent's command
line, as in the field.
"""

from __future__ import annotations

__all__ = ["main"]

from pathlib import Path
from typing import Annotated

import typer

from app.command_line import FAILED, run
from models.errors import InvalidConfiguration


def main() -> None:
    """Run the processing agent until it is told to end."""
    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        # Names of options are whole on narrow terminals, too.
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command()(_processing_agent)
    run(app)


def _processing_agent(
    *,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Log what helps to find faults.")] = False,
    script: Annotated[
        Path | None,
        typer.Option("-s", "--script", help="What processes a file, instead of the configured payload."),
    ] = None,
    _test: Annotated[bool, typer.Option("-t", "--test", help="Without effect, as in the field.")] = False,
    input_dataset: Annotated[
        str | None, typer.Option("-i", "--inDS", help="Submit one task for this dataset, and end.")
    ] = None,
    output_dataset: Annotated[
        str | None, typer.Option("-o", "--outDS", help="Dataset of what that task makes.")
    ] = None,
) -> None:
    """Process runs: one task each, submitted when its first file is ready, and
    followed to its end.

    Settings come from the environment and from the YAML file that
    PP_SETTINGS_FILE names; the namespace from SWF_TESTBED_CONFIG. SIGTERM,
    SIGQUIT, SIGHUP or Ctrl-C ends it; it may be killed at any moment and goes
    on where it was.
    """
    # Whoever asks for help does not wait for all this.
    import logging

    from app.logging import configure_logging
    from app.streaming.agent_parts import alone, run_agent
    from app.streaming.processing_factory import (
        ROLE,
        ProcessingOptions,
        build_processing_agent,
        submit_once,
    )
    from config.streaming.settings import load_streaming_settings
    from config.values import expand_user
    from models.streaming.tasks import FAILED_TASKS

    if (input_dataset is None) != (output_dataset is None):
        raise InvalidConfiguration("-i and -o go together: a dataset, and that of what its task makes")
    settings = load_streaming_settings()
    levels = settings.log_levels
    if verbose:
        levels = {name: min(level, logging.DEBUG) if name else level for name, level in levels.items()}
    configure_logging(levels)
    options = ProcessingOptions(script=None if script is None else expand_user(script))
    if input_dataset is not None and output_dataset is not None:
        task_id, state = submit_once(settings, options, input_name=input_dataset, output=output_dataset)
        typer.echo(f"task {task_id}: {state.value}")
        raise typer.Exit(FAILED if state in FAILED_TASKS else 0)
    with alone(settings, ROLE):
        agent, executor = build_processing_agent(settings, options)
        try:
            run_agent(agent, settings)
        finally:
            executor.close()
