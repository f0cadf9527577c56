"""The testbed's command line: ``testbed run | stop | status``."""

from __future__ import annotations

__all__ = ["app", "main"]

import logging
import os
import signal
import sys
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, TextIO, cast

import typer
from rich.console import Console

from app.command_line import FAILED
from app.command_line import run as run_command
from app.lasting_output import LastingOutput
from models.errors import InvalidConfiguration, TemporarilyUnavailable

if TYPE_CHECKING:
    from config.streaming.settings import StreamingSettings

app = typer.Typer(
    name="testbed",
    help="The streaming workflow, from run_imminent to a processed dataset.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Names of options are whole on narrow terminals, too.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

#: Width of lines that nobody breaks.
_WHOLE_LINES = 100_000
#: Where to look, and whose runs.
_Directory = Annotated[
    str | None,
    typer.Option(
        metavar="DIR", help="Where everything is kept; by default PP_TESTBED_DIRECTORY, else testbed-out."
    ),
]
_Namespace = Annotated[
    str | None, typer.Option(metavar="NAME", help="Namespace, instead of that of the testbed's file.")
]


class BusKind(StrEnum):
    """Over what messages go."""

    LOCAL = "local"
    STOMP = "stomp"


_Bus = Annotated[
    BusKind | None,
    typer.Option(help="local: one process; stomp: over the broker, as when ACTIVEMQ_HOST is set."),
]


class StopRequests:
    """Counts how often a signal asked for an end."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> int:
        """Return how often."""
        return self.count

    def take(self, number: int, _: FrameType | None) -> None:
        """Take a signal."""
        self.count += 1


@app.command()
def run(
    config: Annotated[
        str, typer.Argument(help="Name of a workflow, or path of its TOML file.")
    ] = "prompt_processing",
    *,
    realtime: Annotated[
        bool | None,
        typer.Option(
            "--realtime/--no-realtime", help="Whether a simulated second lasts a second.", show_default=False
        ),
    ] = None,
    stf_count: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="STF files in each physics period; 0: as long as it lasts."),
    ] = None,
    physics_period_count: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Physics periods; 0: until the run is stopped.")
    ] = None,
    physics_period_duration: Annotated[
        float | None, typer.Option(metavar="S", min=0, help="Seconds of a period without --stf-count.")
    ] = None,
    stf_interval: Annotated[
        float | None, typer.Option(metavar="S", min=0, help="Seconds between the end of a file and the next.")
    ] = None,
    duration: Annotated[
        float | None, typer.Option(metavar="S", min=0, help="Simulated seconds after which the run is ended.")
    ] = None,
    payload: Annotated[
        str | None,
        typer.Option(metavar="CMD", help="Command that processes each file, instead of PP_PAYLOAD."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=1024, help="Payloads at once, instead of PP_PAYLOAD_WORKERS."),
    ] = None,
    namespace: _Namespace = None,
    directory: _Directory = None,
    bus: _Bus = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Over a broker: return once the run has begun.")
    ] = False,
    use_running: Annotated[
        bool, typer.Option("--use-running", help="Over a broker: use agents that run already.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(metavar="S", min=0, help="Seconds after which the run is stopped; 0: never.")
    ] = 0.0,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures to this file.")
    ] = None,
) -> None:
    """Run a workflow, and wait until all of it is processed.

    Without a broker everything happens in this process, and needs nothing
    else. With one (ACTIVEMQ_HOST), the agents are started under supervisord.

    Ctrl-C, or `testbed stop`, ends the run; what there is by then is
    processed. Exits 0 only if every STF file was processed, the dataset is
    closed and the execution completed.

    For example:

      testbed run

      testbed run prompt_processing --no-realtime --stf-count 1000 --workers 4

      testbed run workflows/mine.toml --payload ./reconstruct.sh --json out.json

      ACTIVEMQ_HOST=broker.example.org testbed run prompt_processing --detach
    """
    # Libraries take a moment to import; `--help` does without.
    from app.streaming.run_summary import summary_tree

    settings = _settings(directory, payload=payload, payload_workers=workers)
    parameters = {
        "realtime": realtime,
        "stf_count": stf_count,
        "physics_period_count": physics_period_count,
        "physics_period_duration": physics_period_duration,
        "stf_interval": stf_interval,
        "duration": duration,
        "namespace": namespace,
    }
    over_broker = _over_broker(bus, settings)
    if not over_broker and (detach or use_running):
        raise InvalidConfiguration("--detach and --use-running are for runs over a broker: set ACTIVEMQ_HOST")
    if use_running and (payload or workers):
        raise InvalidConfiguration(
            "--payload and --workers are for agents that are started, not --use-running"
        )
    if json_file is not None:
        _check_writable(json_file)
    # Whoever stops reading does not stop the run.
    console = _console(cast("TextIO", LastingOutput(sys.stdout)))
    stops = StopRequests()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stops.take)
    if over_broker:
        from app.streaming.broker_run import run_over_broker

        summary = run_over_broker(
            config,
            settings=settings,
            parameters=parameters,
            console=console,
            stops=stops,
            detach=detach,
            use_running=use_running,
            timeout=timeout,
        )
    else:
        from app.streaming.embedded_run import run_embedded

        summary = run_embedded(
            config, settings=settings, parameters=parameters, console=console, stops=stops, timeout=timeout
        )
    if summary is None:
        return
    console.print(summary_tree(summary, ascii_only=console.options.ascii_only), highlight=False)
    for fault in summary.faults:
        console.print(f"Fault: {fault}", style="bold red", markup=False, highlight=False)
    if summary.faults and not over_broker:
        place = settings.in_one_process.testbed_directory
        console.print(
            f"The log is {place}/testbed.log; what failed payloads said is in {place}/outputs/*/.failed.",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    if json_file is not None:
        _write(json_file, summary.model_dump_json(indent=2) + "\n")
    if summary.faults or summary.execution_status != "completed":
        raise typer.Exit(FAILED)


@app.command()
def stop(
    *,
    namespace: _Namespace = None,
    execution: Annotated[
        str | None, typer.Option(metavar="ID", help="Only this execution; over a broker.")
    ] = None,
    agents: Annotated[
        bool, typer.Option("--agents", help="Over a broker: end the agents under supervisord, too.")
    ] = False,
    directory: _Directory = None,
    bus: _Bus = None,
) -> None:
    """End the run that is running. What there is by then is processed.

    Exits 1 if nothing runs that could be ended.

    For example:

      testbed stop

      ACTIVEMQ_HOST=broker.example.org testbed stop --namespace alice --agents
    """
    settings = _settings(directory)
    console = _console()
    if _over_broker(bus, settings):
        # What goes wrong is in the error, once.
        logging.getLogger().addHandler(logging.NullHandler())
        from app.streaming.broker_run import stop_over_broker

        stop_over_broker(
            settings=settings, namespace=namespace, execution=execution, agents=agents, console=console
        )
        return
    if agents or execution is not None:
        raise InvalidConfiguration("--agents and --execution are for runs over a broker: set ACTIVEMQ_HOST")
    from app.streaming.embedded_past import Traces
    from app.streaming.workplace import running_testbed

    place = settings.in_one_process.testbed_directory
    process = running_testbed(place)
    if process is not None and namespace is not None and (there := Traces(place).namespace) != namespace:
        console.print(
            f"The testbed in {settings.testbed_directory} is one of namespace {there or '?'}.",
            highlight=False,
            markup=False,
        )
        raise typer.Exit(FAILED)
    if process is None:
        console.print(f"No testbed runs in {settings.testbed_directory}.", highlight=False, markup=False)
        raise typer.Exit(FAILED)
    os.kill(process, signal.SIGTERM)
    console.print(f"Process {process} was asked to end its run.", highlight=False)


@app.command()
def status(
    *,
    namespace: _Namespace = None,
    directory: _Directory = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="Executions to show.")] = 5,
    json_wanted: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show executions, runs, tasks and agents.

    They are shown as the monitor knows them.

    For example:

      testbed status

      testbed status --json --limit 20
    """
    from app.streaming.testbed_status import print_status

    print_status(
        _settings(directory), namespace=namespace, limit=limit, json_wanted=json_wanted, console=_console()
    )


def main() -> None:
    """Run the command line; the console script."""
    run_command(app)


def _console(stream: TextIO | None = None) -> Console:
    """Return a console that breaks lines for people only: programs read them whole."""
    console = Console(file=stream)
    if not console.is_terminal:
        console.width = _WHOLE_LINES
    return console


def _over_broker(bus: BusKind | None, settings: StreamingSettings) -> bool:
    return bus is BusKind.STOMP or (bus is None and settings.has_broker)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise TemporarilyUnavailable(f"--json: {path} cannot be written: {error}") from error


def _check_writable(path: Path) -> None:
    """Check before a run that its figures will find their place."""
    there = path if path.exists() else path.parent
    if path.is_dir() or not there.exists() or not os.access(there, os.W_OK):
        raise InvalidConfiguration(f"--json: {path} cannot be written: see its directory")


def _settings(directory: str | None, **given: Any) -> StreamingSettings:
    """Return the settings, with what options say instead."""
    from config.environment import apply_library_variables
    from config.streaming.settings import load_streaming_settings
    from config.values import expand_user

    apply_library_variables("testbed")
    settings = load_streaming_settings()
    changes = {name: value for name, value in given.items() if value is not None}
    if directory is not None:
        if not directory.strip():
            raise InvalidConfiguration("--directory: is empty; leave it out for PP_TESTBED_DIRECTORY")
        changes["testbed_directory"] = expand_user(directory)
    return settings.model_copy(update=changes)


if __name__ == "__main__":
    main()
