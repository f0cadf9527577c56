"""One demo, from an empty directory to figures."""

from __future__ import annotations

__all__ = ["DemoNight"]

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from app.demo.embedded import EmbeddedInstallation
from app.demo.in_service import ServiceInstallation
from app.demo.installation import Installation
from app.demo.progress import NightProgress
from app.demo.summary import DemoFigures, print_summary, summarise
from app.demo.workplace import Workplace
from app.logging import JsonFormatter
from app.progress import progress_reporter
from simulator.frames import plan_frames
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
    in_service : `bool`
        Whether everything runs on servers, as it does at an observatory.
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
        in_service: bool = False,
    ) -> None:
        self._console = console
        self._out = out
        self._visits = visits
        self._detectors = detectors
        self._transients = transients
        self._data = data
        self._seed = seed
        self._in_service = in_service

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
        with progress_reporter(self._console) as report:
            plan.write_seed_directory(
                place.seed,
                lambda _what, done, total: report("make calibrations and templates", done, total),
            )
        kind = ServiceInstallation if self._in_service else EmbeddedInstallation
        installation: Installation = kind(place=place, plan=plan, slots=slots)
        try:
            with _logged_to(place.log):
                with progress_reporter(self._console) as report:
                    installation.prepare(report)
                self._console.print("Output collections are initialised. Starting the service ...")
                installation.start()
                self._console.print(
                    f"The service is up at [bold]{installation.url}[/bold], with {slots} slots."
                )
                with progress_reporter(self._console) as report:
                    result = installation.observe(plan, NightProgress(report, plan))
            truth = score(plan, result.alert_files)
            figures = summarise(result, truth, slots=slots)
            print_summary(self._console, result.reports, figures, truth, place, installation)
            if keep_running:
                self._wait(installation)
        finally:
            installation.stop()
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

    def _wait(self, installation: Installation) -> None:
        self._console.print(f"The service keeps running at {installation.url}; Ctrl-C stops it.")
        try:
            installation.wait()
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
