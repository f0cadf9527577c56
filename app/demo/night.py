"""One demo, from an empty directory to figures."""

from __future__ import annotations

__all__ = ["DemoNight"]

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from app.demo.progress import NightProgress
from app.demo.service_process import ServiceProcess, free_port
from app.demo.summary import DemoFigures, print_summary, summarise
from app.demo.table import outcome_of
from app.demo.workplace import Workplace
from app.initialising import initialise, nights_to_prepare
from app.logging import JsonFormatter
from app.progress import progress_reporter
from config.child_environment import child_environment
from config.settings import load_service_settings
from init_job.create_central import create_central
from init_job.new_repository import create_apdb
from models.sky_map import SkyMap
from simulator.frames import plan_frames
from simulator.observatory import observe
from simulator.observing import Timing, VisitReport
from simulator.plan import Plan
from simulator.schedule import plan_simulated
from simulator.score import score

#: Slots at most; the demo is for laptops.
_MOST_SLOTS = 4


class DemoNight:
    """Prepares everything, observes and reports.

    Parameters
    ----------
    console : `rich.console.Console`
    out : `pathlib.Path`
        Directory for everything.
    visits, detectors, transients, seed : `int`
        Of the simulated night; see `simulator.schedule.plan_simulated`.
    data : `pathlib.Path` or `None`
        Directory with real frames, instead of a simulated night.
    """

    def __init__(
        self,
        *,
        console: Console,
        out: Path,
        visits: int,
        detectors: int,
        transients: int,
        data: Path | None,
        seed: int,
    ) -> None:
        self._console = console
        self._out = out
        self._visits = visits
        self._detectors = detectors
        self._transients = transients
        self._data = data
        self._seed = seed

    def run(self, *, keep_running: bool = False) -> DemoFigures:
        """Run the demo.

        Parameters
        ----------
        keep_running : `bool`
            Whether to leave the service running, until interrupted, once the
            figures are shown.
        """
        plan = self._plan()
        place = Workplace.create(self._out)
        slots = min(_MOST_SLOTS, len(plan.detectors))
        with _logged_to(place.log):
            service = self._prepare(plan, place, slots)
        try:
            self._console.print("Starting the service ...")
            service.start()
            self._console.print(f"The service is up at [bold]{service.url}[/bold], with {slots} slots.")
            reports = self._observe(plan, place, service)
            files = [f for r in reports if (o := outcome_of(r)) is not None for f in o.alert_files]
            result = score(plan, files)
            figures = summarise(reports, result, slots=slots)
            print_summary(self._console, reports, figures, result, place)
            if keep_running:
                self._wait(service)
        finally:
            service.stop()
        return figures

    def _plan(self) -> Plan:
        if self._data is not None:
            return plan_frames(self._data)
        return plan_simulated(
            seed=self._seed,
            visits=self._visits,
            detectors=self._detectors,
            transients=self._transients,
            start=time.time(),
        )

    def _prepare(self, plan: Plan, place: Workplace, slots: int) -> ServiceProcess:
        with progress_reporter(self._console) as report:
            plan.write_seed_directory(
                place.seed,
                lambda _what, done, total: report("make calibrations and templates", done, total),
            )
            create_central(
                str(place.central),
                place.seed,
                progress=lambda what, done, total: report(f"store {what}", done, total),
            )
        create_apdb(f"sqlite:///{place.apdb.with_suffix('.db')}", place.apdb)
        skymap = SkyMap.model_validate_json((place.seed / "skymap.json").read_bytes()).name
        port = free_port()
        variables = place.write_settings(plan.instrument, skymap=skymap, port=port, slots=slots)
        self._console.print("Initialising output collections ...")
        initialise(load_service_settings(variables), nights_to_prepare())
        return ServiceProcess(
            environment=child_environment(variables), log=place.log, url=f"http://127.0.0.1:{port}"
        )

    def _observe(self, plan: Plan, place: Workplace, service: ServiceProcess) -> Sequence[VisitReport]:
        with progress_reporter(self._console) as report:
            return observe(
                plan,
                url=service.url,
                image_dir=place.images,
                timing=Timing(),
                progress=NightProgress(report, plan),
            )

    def _wait(self, service: ServiceProcess) -> None:
        self._console.print(f"The service keeps running at {service.url}; Ctrl-C stops it.")
        try:
            service.wait()
        except KeyboardInterrupt:
            self._console.print("Stopping.")


@contextmanager
def _logged_to(file: Path) -> Iterator[None]:
    """Send what the middleware logs in this process to a file instead of the
    screen.
    """
    root = logging.getLogger()
    handler = logging.FileHandler(file)
    handler.setFormatter(JsonFormatter())
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
