"""A small observatory with a service of its own, for tests and bars.

Unlike the demo it lets the caller announce and deliver one visit at a time,
and looks at the service from outside: processes, files, sockets.
"""

from __future__ import annotations

__all__ = ["PROJECT", "SMALL_CAM", "Answered", "Scene"]

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import yaml

from app.demo.service_process import ServiceProcess, free_port
from app.demo.workplace import Workplace
from app.initialising import initialise
from config.child_environment import child_environment
from config.settings import load_service_settings
from init_job.create_central import create_central
from init_job.new_repository import create_apdb
from models.sky_map import SkyMap
from models.times import output_date, tai_from_unix
from models.visits import FannedOutVisit
from simulator.io.cloud_events import CloudEventSender
from simulator.io.delivery import DirectoryDelivery
from simulator.plan import Frame, Plan, PlannedVisit

PROJECT = Path(__file__).resolve().parents[1]
#: Camera file of eight small sensors.
SMALL_CAM = PROJECT / "benchmarks" / "SmallCam.yaml"


@dataclass(frozen=True)
class Answered:
    """The answer to a visit.

    Attributes
    ----------
    status : `int` or `None`
    body : mapping
    retry_after : `int` or `None`
    at : `float`
        `time.monotonic` when it came.
    """

    status: int | None
    body: Mapping[str, Any]
    retry_after: int | None
    at: float


class Scene:
    """An observatory, its central repo and the settings of its service.

    Parameters
    ----------
    root : `pathlib.Path`
        Directory for everything; must be empty or a scene's.
    plan : `simulator.plan.Plan`
        What can be observed.
    slots : `int`
    variables : mapping [`str`, `str`], optional
        Settings besides those of a demo.
    nights : sequence of `str`, optional
        Nights that are initialised; those that may come up if not given.
    """

    def __init__(
        self,
        root: Path,
        plan: Plan,
        *,
        slots: int = 1,
        variables: Mapping[str, str] | None = None,
        nights: Sequence[str] | None = None,
    ) -> None:
        self.plan = plan
        self.place = Workplace.create(root)
        self.temporary = self.place.root / "tmp"
        self.temporary.mkdir()
        plan.write_seed_directory(self.place.seed)
        create_central(str(self.place.central), self.place.seed)
        create_apdb(f"sqlite:///{self.place.apdb.with_suffix('.db')}", self.place.apdb)
        skymap = SkyMap.model_validate_json((self.place.seed / "skymap.json").read_bytes()).name
        self.variables = {
            **self.place.write_settings(plan.instrument, skymap=skymap, port=0, slots=slots),
            "PP_INSTRUMENT_PATH": str(SMALL_CAM.parent),
            **(variables or {}),
        }
        self._delivery = DirectoryDelivery(image_dir=self.place.images)
        self._frames: dict[str, bytes] = {}
        self.initialise(tonight() if nights is None else nights)

    def initialise(self, nights: Sequence[str]) -> None:
        """Do what ``prompt-processing init`` does."""
        if nights:
            initialise(load_service_settings(self.variables), nights)

    @contextmanager
    def service(self, **variables: str) -> Iterator[ServiceProcess]:
        """Run the service while the context lasts.

        Parameters
        ----------
        **variables : `str`
            Settings besides those of the scene.
        """
        port = free_port()
        environment = child_environment(
            {
                **self.variables,
                **variables,
                "PP_PORT": str(port),
                # Whatever it leaves in the system's temporary directory shows.
                "TMPDIR": str(self.temporary),
                # Tasks of the benchmarks are imported by name.
                "PYTHONPATH": str(PROJECT),
            }
        )
        service = ServiceProcess(environment=environment, log=self.place.log, url=f"http://127.0.0.1:{port}")
        service.start()
        try:
            yield service
        finally:
            service.stop()

    def announce(self, planned: PlannedVisit, detector: int, **fields: Any) -> FannedOutVisit:
        """Return a planned visit as if it were published now."""
        now = tai_from_unix(time.time())
        visit = planned.visit.fan_out(detector)
        return visit.model_copy(update={"private_sndStamp": now, "startTime": now, "duration": 1.0, **fields})

    def frame(self, planned: PlannedVisit, detector: int) -> Frame:
        """Return a visit's only frame of a detector."""
        (frame,) = (f for f in planned.frames if f.detector == detector)
        return frame

    def content(self, frame: Frame) -> bytes:
        """Render a frame, once."""
        if frame.key not in self._frames:
            self._frames[frame.key] = frame.read()
        return self._frames[frame.key]

    def deliver(self, planned: PlannedVisit, detector: int, content: bytes | None = None) -> Path:
        """Put a frame at its final place, whole or what is given instead."""
        frame = self.frame(planned, detector)
        staged = self._delivery.stage(frame.key, self.content(frame) if content is None else content)
        staged.release()
        return self.place.images / frame.key

    def send(self, service: ServiceProcess, visit: FannedOutVisit) -> Answered:
        """Post a visit and wait for its answer."""
        sender = CloudEventSender(url=service.url, timeout=600.0, connections=1)
        try:
            answer = sender(visit)
        finally:
            sender.close()
        return Answered(answer.status, answer.body, answer.retry_after, time.monotonic())

    def observe(
        self, service: ServiceProcess, planned: PlannedVisit, detector: int, **fields: Any
    ) -> Answered:
        """Deliver a visit's frame, announce it and wait for the answer."""
        self.deliver(planned, detector)
        return self.send(service, self.announce(planned, detector, **fields))

    def get(self, service: ServiceProcess, path: str) -> httpx.Response:
        """Get a page of the service."""
        return httpx.get(f"{service.url}{path}", timeout=30.0, trust_env=False)


def by_survey(pipelines: Mapping[str, Path], default: Path | None = None) -> str:
    """Return a pipelines configuration that chooses by the visit's survey."""
    entries: list[dict[str, Any]] = [
        {"survey": survey, "pipelines": [str(path)]} for survey, path in pipelines.items()
    ]
    if default is not None:
        entries.append({"pipelines": [str(default)]})
    return yaml.safe_dump(entries)


def tonight() -> list[str]:
    """Return the night and the next."""
    today = output_date(tai_from_unix(time.time()))
    return [today, str(date.fromisoformat(today) + timedelta(days=1))]
