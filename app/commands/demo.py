"""``prompt-processing demo``: watch a small observatory observe."""

from __future__ import annotations

__all__ = ["demo"]

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

#: Where everything goes.
_OUT = Path("demo-out")
#: Exit code after Ctrl-C, as shells have it.
_INTERRUPTED = 130


def demo(
    visits: Annotated[int, typer.Option(min=1, help="Visits to observe.")] = 3,
    detectors: Annotated[int, typer.Option(min=1, help="Detectors of the camera to use.")] = 4,
    transients: Annotated[
        int,
        typer.Option(min=0, help="Transients on each detector's part of the sky; they shine in every visit."),
    ] = 12,
    data: Annotated[
        Path | None,
        typer.Option(help="Directory with real frames (DECam stamps) to send instead of a simulated sky."),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Where everything goes; an earlier demo there is replaced.")
    ] = _OUT,
    seed: Annotated[int, typer.Option(help="Seed of the simulated sky: the same seed, the same night.")] = 1,
    *,
    keep_running: Annotated[
        bool, typer.Option("--keep-running", help="Leave the service running until Ctrl-C.")
    ] = False,
    in_service: Annotated[
        bool,
        typer.Option(
            "--service",
            help="Run on PostgreSQL, S3, Kafka and Redis, with fan-out and writer, as an observatory would; "
            "servers that are not installed are fetched first.",
        ),
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
) -> None:
    """Watch a small observatory observe: visits are announced, preloaded,
    exposed, processed and turned into alerts, by the real service over HTTP.

    Exits 0 only when every visit was processed and its score holds.

    For example:

      prompt-processing demo

      prompt-processing demo --service

      prompt-processing demo --visits 10 --detectors 1 --seed 7 --json figures.json

      prompt-processing demo --data ../shared/data/decam_two_epochs --keep-running
    """
    # Simulator and middleware are heavy; `--help` does without.
    from app.demo.night import DemoNight

    console = Console()
    night = DemoNight(
        console=console,
        out=out,
        visits=visits,
        detectors=detectors,
        transients=transients,
        data=data,
        seed=seed,
        in_service=in_service,
    )
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    try:
        figures = night.run(keep_running=keep_running)
    except KeyboardInterrupt:
        console.print("Interrupted; the service was stopped.")
        raise typer.Exit(_INTERRUPTED) from None
    if json_file is not None:
        json_file.write_text(figures.model_dump_json(indent=2) + "\n")
    for fault in figures.faults:
        console.print(f"[bold red]{fault}[/bold red]")
    if figures.faults:
        raise typer.Exit(1)


def _leave(number: int, _: FrameType | None) -> None:
    """End by a signal as by an error: what was started is stopped first."""
    sys.exit(128 + number)
