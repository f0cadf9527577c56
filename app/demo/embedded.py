"""The demo on one machine: files, SQLite, one service."""

from __future__ import annotations

__all__ = ["EmbeddedInstallation"]

from app.demo.installation import NightResult
from app.demo.service_process import ServiceProcess, free_port
from app.demo.table import outcome_of
from app.demo.workplace import Workplace
from app.initialising import initialise, nights_to_prepare
from app.progress import Report
from config.child_environment import child_environment
from config.settings import load_service_settings
from init_job.create_central import create_central
from init_job.new_repository import create_apdb
from models.sky_map import SkyMap
from simulator.observatory import observe
from simulator.observing import Progress, Timing
from simulator.plan import Plan


class EmbeddedInstallation:
    """A service and what it works on, in one directory.

    Parameters
    ----------
    place : `app.demo.workplace.Workplace`
        Its seed directory is filled.
    plan : `simulator.plan.Plan`
    slots : `int`
    """

    def __init__(self, *, place: Workplace, plan: Plan, slots: int) -> None:
        self._place = place
        self._plan = plan
        skymap = SkyMap.model_validate_json((place.seed / "skymap.json").read_bytes()).name
        port = free_port()
        self._variables = place.write_settings(plan.instrument, skymap=skymap, port=port, slots=slots)
        self._service = ServiceProcess(
            environment=child_environment(self._variables), log=place.log, url=f"http://127.0.0.1:{port}"
        )

    @property
    def url(self) -> str:
        """Where the service listens."""
        return self._service.url

    @property
    def outputs(self) -> str:
        """Where outputs go, for people."""
        return f"{self._place.central} (a Butler repository)"

    @property
    def alerts(self) -> str:
        """Where alerts go, for people."""
        return str(self._place.alerts)

    def prepare(self, report: Report) -> None:
        """Make the central repo and the APDB, and initialise the night."""
        place = self._place
        create_central(
            str(place.central),
            place.seed,
            progress=lambda what, done, total: report(f"store {what}", done, total),
        )
        create_apdb(f"sqlite:///{place.apdb.with_suffix('.db')}", place.apdb)
        initialise(load_service_settings(self._variables), nights_to_prepare())

    def start(self) -> None:
        """Start the service and wait until visits can be taken."""
        self._service.start()

    def observe(self, plan: Plan, progress: Progress) -> NightResult:
        """Observe a plan: announcements over HTTP, raws into a directory."""
        reports = observe(
            plan, url=self.url, image_dir=self._place.images, timing=Timing(), progress=progress
        )
        files = [f for r in reports if (o := outcome_of(r)) is not None for f in o.alert_files]
        return NightResult(reports, files)

    def wait(self) -> None:
        """Wait until the service ends by itself."""
        self._service.wait()

    def stop(self) -> None:
        """Stop the service."""
        self._service.stop()
