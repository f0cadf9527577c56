"""``prompt-processing simulate``: observe against a running service."""

from __future__ import annotations

__all__ = ["simulate"]

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from models.errors import InvalidConfiguration, TemporarilyUnavailable

if TYPE_CHECKING:
    from config.instruments import InstrumentConfig
    from simulator.plan import Plan

#: Visits up to which all frames are rendered before the first is announced.
_RENDER_ALL = 10
#: Visits that longer nights are rendered ahead.
_STAGE_AHEAD = 3


def simulate(
    url: Annotated[str, typer.Option(help="Where the service listens.")] = "http://127.0.0.1:8080",
    image_dir: Annotated[
        Path | None,
        typer.Option(help="Directory that the service watches for images, its PP_IMAGE_DIRECTORY."),
    ] = None,
    instrument: Annotated[
        str, typer.Option(help="Camera: a name, or an instrument file; the service's RUBIN_INSTRUMENT.")
    ] = "DemoCam",
    visits: Annotated[int, typer.Option(min=1, help="Visits to observe.")] = 3,
    detectors: Annotated[
        int | None, typer.Option(min=1, help="Detectors to use, the first so many. All, if left out.")
    ] = None,
    transients: Annotated[
        int, typer.Option(min=0, help="Transients on each detector's part of the sky.")
    ] = 12,
    seed: Annotated[int, typer.Option(help="Seed of the sky, that of the central repo.")] = 1,
    survey: Annotated[str, typer.Option(help="Survey; pipelines may be chosen by it.")] = "demo",
    cadence: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="Seconds between announcements. If left out, each visit waits for all answers."
        ),
    ] = None,
    lead: Annotated[
        float, typer.Option(min=0.0, help="Seconds from the announcement to the opening of the shutter.")
    ] = 6.0,
    exposure: Annotated[float, typer.Option(min=0.0, help="Seconds for which the shutter is open.")] = 3.0,
    token: Annotated[
        str | None, typer.Option(help="Bearer token, if the service wants one. PP_TOKEN, if left out.")
    ] = None,
    seed_dir: Annotated[
        Path | None,
        typer.Option(help="Write what create-central makes a central repo of this sky from, and exit."),
    ] = None,
) -> None:
    """Observe a simulated sky against a running service: announce visits over
    HTTP, expose, and deliver raws into the directory that it watches.

    The service must know this sky: its central repo is made from the
    directory that --seed-dir writes, with the same instrument and seed.

    Exits 0 only when every visit was processed.

    For example, from nothing to a night:

      prompt-processing simulate --seed 7 --seed-dir ./sky

      prompt-processing create-central ./central ./sky --apdb ./apdb.yaml

      prompt-processing init && prompt-processing serve

      prompt-processing simulate --seed 7 --image-dir ./images --visits 5

    At the pace of a survey, against a service elsewhere:

      prompt-processing simulate --url http://pp.example.org --image-dir /raws
      --visits 100 --cadence 37 --lead 20 --exposure 30
    """
    console = Console()
    plan = _plan(
        _find_instrument(instrument),
        seed=seed,
        visits=visits,
        detectors=detectors,
        transients=transients,
        survey=survey,
    )
    if seed_dir is not None:
        _write_seed(console, plan, seed_dir)
        return
    if image_dir is None:
        raise typer.BadParameter(
            "say which directory the service watches (or, to make its central repo, use --seed-dir)",
            param_hint="--image-dir",
        )
    # Simulator and HTTP client are heavy; `--help` does without.
    from app.demo.progress import NightProgress
    from app.demo.table import night_table, print_failures, print_groups
    from app.progress import progress_reporter
    from simulator.io.service_client import is_ready
    from simulator.observatory import observe
    from simulator.observing import Timing

    if not is_ready(url):
        raise TemporarilyUnavailable(
            f"no service at {url} is ready to take visits; start one with `prompt-processing serve`, "
            "or name it with --url"
        )
    timing = Timing(
        lead=lead,
        exposure=exposure,
        cadence=cadence,
        stage_ahead=None if visits <= _RENDER_ALL else _STAGE_AHEAD,
    )
    with progress_reporter(console) as report:
        reports = observe(
            plan,
            url=url,
            image_dir=image_dir,
            token=token or _configured_token(),
            timing=timing,
            progress=NightProgress(report, plan),
        )
    console.print(night_table(reports))
    print_groups(console, reports)
    print_failures(console, reports)
    if any(report.status != 200 for report in reports):
        raise typer.Exit(1)


def _plan(
    camera: InstrumentConfig, *, seed: int, visits: int, detectors: int | None, transients: int, survey: str
) -> Plan:
    from simulator.schedule import plan_simulated

    try:
        return plan_simulated(
            seed=seed,
            visits=visits,
            detectors=detectors,
            transients=transients,
            instrument=camera,
            start=time.time(),
            survey=survey,
        )
    except ValueError as error:
        raise InvalidConfiguration(str(error)) from error


def _find_instrument(instrument: str) -> InstrumentConfig:
    from config.instruments import find_instrument_file, load_instrument

    path = Path(instrument)
    return load_instrument(path if path.is_file() else find_instrument_file(instrument))


def _write_seed(console: Console, plan: Plan, directory: Path) -> None:
    from app.progress import progress_reporter

    with progress_reporter(console) as report:
        plan.write_seed_directory(directory, report)
    console.print(
        f"{directory} is ready for `prompt-processing create-central`.", highlight=False, soft_wrap=True
    )


def _configured_token() -> str | None:
    """Return the service's token, as its settings have it."""
    from config.loading import merge_variables

    environment, from_file = merge_variables("service")
    token = environment.get("PP_TOKEN") or from_file.get("PP_TOKEN")
    return str(token) if token else None
