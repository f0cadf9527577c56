"""``prompt-processing daq``: simulate the data acquisition."""

from __future__ import annotations

__all__ = ["daq"]

from pathlib import Path
from typing import Annotated, Any

import typer


def daq(
    *,
    run_once: Annotated[
        str | None,
        typer.Option(metavar="WORKFLOW", help="Run this workflow and end, instead of following commands."),
    ] = None,
    workflow_config: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Its configuration: a name or a path. Default: WORKFLOW_default."),
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option(metavar="S", min=0, help="End the run after so many simulated seconds; 0: do not."),
    ] = None,
    stf_count: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, help="Files in each physics period; 0: what fits into its duration."
        ),
    ] = None,
    physics_period_count: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Physics periods; 0: until the run is stopped.")
    ] = None,
    physics_period_duration: Annotated[
        float | None,
        typer.Option(metavar="S", min=0, help="Seconds of a period whose files are not counted."),
    ] = None,
    stf_interval: Annotated[
        float | None, typer.Option(metavar="S", min=0, help="Seconds between the end of a file and the next.")
    ] = None,
    realtime: Annotated[
        bool | None,
        typer.Option("--realtime/--no-realtime", help="A simulated second lasts a second, or no time."),
    ] = None,
    testbed_config: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="The testbed's file, instead of what SWF_TESTBED_CONFIG names."),
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where it keeps what it needs to go on with a run; default: PP_TESTBED_DIRECTORY.",
        ),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Log more.")] = False,
) -> None:
    """Simulate the data acquisition: runs, their states, messages and STF files.

    Follows run_workflow, stop_workflow and status_request from the queue
    /queue/workflow_control, or runs one workflow (--run-once; the options for
    parameters are for that). The broker is what ACTIVEMQ_HOST and the like
    name, the monitor what SWF_MONITOR_URL does: both are needed. SIGTERM,
    SIGQUIT, SIGHUP or Ctrl-C ends a run with an end_run of the files so far;
    SIGUSR1 has data taking stand still, SIGUSR2 go on.

    A run whose process was killed is gone on with when the same command is
    given again; with --run-once of another workflow, it is ended.

    For example:

      prompt-processing daq

      prompt-processing daq --run-once prompt_processing --stf-count 3

      prompt-processing daq --run-once prompt_processing --no-realtime --stf-count 1000
      --physics-period-count 1 --testbed-config workflows/testbed.toml
    """
    # Libraries take a moment to import; `--help` does without.
    import logging

    from app.logging import configure_logging
    from app.streaming import daq_factory
    from config.environment import apply_library_variables
    from config.streaming.settings import load_streaming_settings
    from config.values import expand_user
    from models.streaming.monitoring import ExecutionStatus

    params: dict[str, Any] = {
        "duration": duration,
        "stf_count": stf_count,
        "physics_period_count": physics_period_count,
        "physics_period_duration": physics_period_duration,
        "stf_interval": stf_interval,
        "realtime": realtime,
    }
    given = {name: value for name, value in params.items() if value is not None}
    if run_once is None and (given or workflow_config):
        options = ", ".join(
            f"--{name.replace('_', '-')}"
            for name in (*given, *(["workflow_config"] if workflow_config else []))
        )
        raise typer.BadParameter(f"{options}: only with --run-once; commands bring their own parameters")
    # Before anything is imported that reads them.
    apply_library_variables("testbed")
    settings = load_streaming_settings()
    if testbed_config is not None:
        settings = settings.model_copy(update={"testbed_config": testbed_config})
    if directory is not None:
        settings = settings.model_copy(update={"testbed_directory": expand_user(directory)})
    # What they say of each attempt is said once, in our words.
    levels = {"stamina": logging.ERROR, "stomp.py": logging.CRITICAL, **settings.log_levels}
    if debug:
        levels |= dict.fromkeys(("simulator", "app"), logging.DEBUG)
    configure_logging(levels)
    if run_once is None:
        daq_factory.run_commands(settings)
        return
    workflow = daq_factory.load_daq_workflow(settings, run_once, workflow_config, given)
    result = daq_factory.run_once(settings, workflow)
    typer.echo(
        f"{result.execution_id}: run {result.run_id}, {result.stf_count} STF files in {result.folder}, "
        f"{result.status} ({result.ending})"
    )
    if result.error:
        typer.echo(f"error: {result.error}", err=True)
    if result.status is not ExecutionStatus.COMPLETED or result.error:
        raise typer.Exit(1)
