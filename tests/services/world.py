"""A world around the conductor: its repositories, database and slot, small."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.errors import InterruptSignal, NoImageArrived, TaskFailed, TemporarilyUnavailable
from models.events import ALERT, BUTLER_WRITER, OutboxMessage
from models.inputs import InputKind, InputNeed
from models.pipelines import SelectedPipelines
from models.raws import FoundImage, parse_raw_key
from models.visits import FannedOutVisit
from services.alerts import AlertPublisher, Outlet
from services.collaborators import Collaborators
from services.conductor import VisitProcessor
from services.execution import PipelineExecution
from services.export import Exporter
from services.image_intake import ImageIntake
from services.preload import Preloader
from services.slots.protocol import Finished, ProcessVisit, Stage
from tests.visits import make_visit

DATE = "2026-03-01"


@dataclass(frozen=True)
class StorageType:
    """A dataset type."""

    name: str
    storageClass_name: str = "PromptImage"
    dimensions: frozenset[str] = frozenset({"instrument", "visit", "detector"})


@dataclass(frozen=True)
class Ref:
    """A dataset."""

    datasetType: StorageType
    run: str = ""
    visit: int = 0

    @property
    def dataId(self) -> Mapping[str, Any]:
        return {"visit": self.visit} if self.visit else {}

    @property
    def id(self) -> str:
        return f"{self.datasetType.name}@{self.run}/{self.visit}"


@dataclass
class Quantum:
    """What a task is about to do."""

    outputs: Mapping[StorageType, Sequence[Ref]]


@dataclass
class Planned:
    """A task on one data id."""

    quantum: Quantum


@dataclass
class Task:
    """A task: what it makes, and what happens meanwhile."""

    label: str
    makes: tuple[StorageType, ...] = ()
    happens: Callable[[], object] = lambda: None


@dataclass
class Pipeline:
    """A pipeline of tasks."""

    path: str
    tasks: list[Task] = field(default_factory=list)
    needs: tuple[InputNeed, ...] = ()
    unbuildable: Exception | None = None

    @property
    def stem(self) -> str:
        return Path(self.path).stem

    @property
    def products(self) -> frozenset[str]:
        return frozenset(t.name for task in self.tasks for t in task.makes)


@dataclass
class Report:
    """What executing a pipeline came to."""

    task_seconds: float = 0.125
    failed: list[tuple[str, Exception]] = field(default_factory=list)

    def raise_failure(self, pipeline: str) -> None:
        for label, error in self.failed:
            raise TaskFailed(f"task {label} of pipeline {pipeline} failed: {error}") from error


@dataclass(frozen=True)
class Exposure:
    """An ingested image."""

    exposure: int
    visit: int | None
    landed: float | None = None
    records: Mapping[str, Sequence[str]] = field(default_factory=lambda: {"exposure": ["exposure"]})


@dataclass(frozen=True)
class Image:
    """A raw that made sense."""

    ingested: Exposure
    sky_angle: float | None = 30.0

    @property
    def exposure(self) -> int:
        return self.ingested.exposure


def need(name: str, kind: InputKind = InputKind.CALIBRATION, **fields: Any) -> InputNeed:
    return InputNeed(
        **{
            "dataset_type": name,
            "kind": kind,
            "required": True,
            "prerequisite": True,
            "constrains": False,
            **fields,
        }
    )


def found_image(exposure: int) -> FoundImage:
    key = f"Fake-Cam/0/group/0/{exposure}/r/raw.fits"
    return FoundImage(raw=parse_raw_key(key), location=f"/images/{key}")


IMAGE = StorageType("preliminary_visit_image")
SOURCES = StorageType("dia_source", "ArrowAstropy")
ALERTS = StorageType("alert_packets", "AlertPackets")
OBJECTS = StorageType("preloaded_dia_objects", "DataFrame", frozenset({"instrument", "group", "detector"}))
REGION = StorageType("regionTimeInfo", "RegionTimeInfo", frozenset({"instrument", "group", "detector"}))
METRICS = StorageType("promptPreload_metrics", "Metrics", frozenset({"instrument", "group", "detector"}))
PROVENANCE = StorageType("prompt_provenance", "Dict", frozenset({"instrument", "group", "detector"}))


class Workspace:
    """One visit in a local repo."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.here: dict[str, list[Any]] = {}
        self.made: dict[Ref, Any] = {}
        self.fetched: list[str] = []
        self.closed = 0

    def fetch(self, inputs: Iterable[Any]) -> None:
        self.world.step("fetch")
        for name in inputs:
            self.fetched.append(name)
            self.here.setdefault(name, []).append(name)

    def put(self, dataset_type: StorageType, value: Any, run: str) -> None:
        self.world.step(f"put {dataset_type.name}")
        self.made[Ref(dataset_type, run)] = value
        self.here.setdefault(dataset_type.name, []).append(value)

    def add_exposure(self, exposure: Exposure) -> None:
        self.world.step("add_exposure")
        if (error := self.world.unreadable_pixels.pop(exposure.exposure, None)) is not None:
            raise error

    def has(self, dataset_type: str) -> bool:
        return bool(self.here.get(dataset_type))

    def has_ref(self, ref: Ref) -> bool:
        return ref in self.made

    def inputs(self) -> list[Ref]:
        return [Ref(StorageType(name)) for name in self.fetched]

    def outputs(self) -> list[Ref]:
        return [*self.made]

    def read(self, ref: Ref) -> Any:
        return self.made[ref]

    def run(
        self,
        pipeline: Pipeline,
        run: str,
        init_outputs: Mapping[str, Any],
        *,
        on_start: Callable[[], None] | None = None,
        on_quantum: Callable[[Planned], None] | None = None,
    ) -> Report:
        self.world.step(f"build {pipeline.stem}")
        if pipeline.unbuildable is not None:
            raise pipeline.unbuildable
        if on_start is not None:
            on_start()
        self.world.ran.append(pipeline.stem)
        report = Report()
        for exposure in self.world.taken or [Exposure(0, 0)]:
            for task in pipeline.tasks:
                refs = [Ref(t, run, exposure.visit or exposure.exposure) for t in task.makes]
                try:
                    self.world.step(f"task {task.label}")
                    task.happens()
                except Exception as error:
                    report.failed.append((task.label, error))
                    return report
                for ref in refs:
                    if ref.datasetType.name not in self.world.no_work:
                        value = self.world.packets if ref.datasetType is ALERTS else "value"
                        self.made[ref] = value
                        self.here.setdefault(ref.datasetType.name, []).append(value)
                self.world.step(f"after {task.label}")
                if on_quantum is not None:
                    on_quantum(Planned(Quantum({ref.datasetType: [ref] for ref in refs})))
        return report

    def export(self, refs: Iterable[Ref], files: Any) -> list[str]:
        self.world.step("export")
        if self.world.export_fails is not None:
            raise self.world.export_fails
        names = [ref.id for ref in refs]
        self.world.exported += names
        return names

    def close(self) -> None:
        self.closed += 1
        if self.world.close_fails is not None:
            raise self.world.close_fails


class Channel:
    """The slot's side of the parent."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []
        self.reported: dict[Stage, tuple[int, ...]] = {}
        self.shields = 0
        self.held = False
        self.messages: list[OutboxMessage] = []
        self.interrupted = False

    def report(self, stage: Stage, exposures: tuple[int, ...] = ()) -> None:
        self.stages.append(stage)
        self.reported[stage] = exposures
        if stage in (Stage.PUBLISHING, Stage.EXPORTING):
            self.held = True

    def send(self, messages: Sequence[OutboxMessage]) -> None:
        # Only in this order a slot's death can be judged.
        assert self.shields and self.stages[-1] is Stage.PUBLISHING
        self.messages.extend(messages)

    def images(self, timeout: float) -> list[FoundImage]:
        return []

    @contextmanager
    def shielded(self) -> Iterator[None]:
        self.shields += 1
        try:
            yield
        finally:
            self.shields -= 1

    def signal(self) -> None:
        """As the slot's signal handler does."""
        if self.interrupted:
            return
        self.interrupted = True
        if not self.shields and not self.held:
            raise InterruptSignal("stopped by SIGTERM")


class Incoming:
    """Images of a visit, as they land."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.warnings = list(world.image_warnings)
        self.waited = 0.5
        self.rejected: list[str] = []
        self._images = iter(world.images)

    def __iter__(self) -> Incoming:
        return self

    def __next__(self) -> FoundImage:
        self.world.step("wait")
        found = next(self._images, None)
        if found is not None:
            return found
        if self.world.no_image is not None:
            raise self.world.no_image
        raise StopIteration

    def reject(self, found: FoundImage, reason: str) -> None:
        self.rejected.append(reason)
        self.world.rejected.append(reason)


class World:
    """Everything around the conductor, and what became of it.

    By default one image comes, and the one main pipeline makes an image,
    writes to the APDB and sends three alerts.
    """

    def __init__(self) -> None:
        self.channel = Channel()
        self.visit: FannedOutVisit = make_visit()
        self.on_step: Callable[[str], object] = lambda _: None
        self.steps: list[str] = []
        # The central repo.
        self.central: dict[str, list[str]] = {
            "bias": ["bias"],
            "flat": ["flat"],
            "refcat": ["refcat"],
            "template_coadd": ["template_coadd"],
        }
        self.initialised = True
        self.data_id: dict[str, Any] = {"physical_filter": "r", "band": "r"}
        self.footprint: Any = "footprint"
        self.export_fails: Exception | None = None
        self.close_fails: Exception | None = None
        self.handover_fails: Exception | None = None
        self.retries = 0
        self.outages: tuple[type[BaseException], ...] = (ConnectionError,)
        # Images.
        self.landed: float | None = None
        self.images = [found_image(100)]
        self.no_image: Exception | None = None
        self.image_warnings: list[str] = []
        self.unreadable: dict[int, Exception] = {}
        self.unreadable_pixels: dict[int, Exception] = {}
        self.sky_angles: dict[int, float | None] = {}
        self.rejected: list[str] = []
        self.labelled: list[int] = []
        # Pipelines.
        self.measurements: Callable[[Any], tuple[Any, ...]] = lambda workspace: ("measured",)
        #: Whether alerts go to files, or else to a broker.
        self.alert_files = True
        self.packets: list[Any] = ["alert 1", "alert 2", "alert 3"]
        self.no_work: set[str] = set()
        self.pipelines: dict[str, Pipeline | Exception] = {}
        self.main = ["ApPipe.yaml"]
        self.preprocessing = ["Preprocessing.yaml"]
        self.add(
            Pipeline(
                "ApPipe.yaml",
                [
                    Task("calibrate", (IMAGE,)),
                    Task("associate", (SOURCES,), self.touch_apdb),
                    Task("alert", (ALERTS,)),
                    Task("measure", (StorageType("metrics"),)),
                ],
                (need("bias"), need("raw", InputKind.VISIT)),
            )
        )
        self.add(
            Pipeline("Preprocessing.yaml", [Task("load", (OBJECTS,))], (need("refcat", InputKind.REFCAT),))
        )
        self.ran: list[str] = []
        # The APDB and alerts.
        self.apdb_visits: set[int] = set()
        self.apdb_asked = 0
        self.apdb_away: Exception | None = None
        self.sent: list[tuple[int, int]] = []
        self.sink_fails: Exception | None = None
        # What goes out.
        self.exported: list[str] = []
        self.records: list[Any] = []
        self.workspaces: list[Workspace] = []
        self.patterns = [".*"]

    def add(self, pipeline: Pipeline) -> Pipeline:
        self.pipelines[pipeline.path] = pipeline
        return pipeline

    @property
    def pipeline(self) -> Pipeline:
        """The main pipeline."""
        found = self.pipelines["ApPipe.yaml"]
        assert isinstance(found, Pipeline)
        return found

    def task(self, label: str, happens: Callable[[], object], pipeline: str = "ApPipe.yaml") -> None:
        """Let something happen while a task runs."""
        found = self.pipelines[pipeline]
        assert isinstance(found, Pipeline)
        for task in found.tasks:
            if task.label == label:
                task.happens = happens

    @property
    def taken(self) -> list[Exposure]:
        return [Exposure(n, n) for n in self.labelled]

    @property
    def workspace(self) -> Workspace:
        (workspace,) = self.workspaces
        return workspace

    @property
    def exported_names(self) -> set[str]:
        return {name.split("@")[0] for name in self.exported}

    def step(self, name: str) -> None:
        self.steps.append(name)
        self.on_step(name)

    def touch_apdb(self) -> None:
        self.apdb_visits.update(e.visit or e.exposure for e in self.taken)

    # Collaborators.

    def get_pipeline(self, path: str) -> Pipeline:
        found = self.pipelines[path]
        if isinstance(found, Exception):
            raise found
        return found

    def find(self, need: InputNeed, data_id: Mapping[str, Any], *, valid_at: float, region: Any) -> list[str]:
        self.step(f"find {need.dataset_type}")
        return self.central.get(need.dataset_type, [])

    def make(self, visit: FannedOutVisit, output_date: str) -> Any:
        self.step("make context")

        class Ids:
            values = self.data_id

        class Context:
            data_ids = Ids
            records = ("group",)
            preload_run = f"NoPipeline/{output_date}"

        return Context

    def contains(self, visits: Sequence[int], detector: int) -> bool:
        self.step("ask APDB")
        self.apdb_asked += 1
        if self.apdb_away is not None:
            raise self.apdb_away
        return bool(self.apdb_visits & set(visits))

    def send(self, packets: Any, visit: FannedOutVisit, exposure: int, outlet: Outlet) -> str:
        assert self.channel.shields
        if self.sink_fails is not None:
            raise self.sink_fails
        self.sent.append((exposure, len(packets)))
        if self.alert_files:
            return f"/alerts/{exposure}.avro"
        outlet([OutboxMessage(ALERT, "alerts", None, b"alert") for _ in packets])
        return ""

    def ingest(self, found: FoundImage, visit: FannedOutVisit) -> Image:
        self.step("ingest")
        number = found.raw.exposure_id
        if (error := self.unreadable.pop(number, None)) is not None:
            raise error
        return Image(Exposure(number, number, self.landed), self.sky_angles.get(number, visit.cameraAngle))

    def await_images(self, visit: FannedOutVisit, channel_images: Any) -> Incoming:
        return Incoming(self)

    def open_workspace(self, context: Any, pipelines: Any, *, one_exposure: bool) -> Workspace:
        self.step("open workspace")
        self.workspaces.append(Workspace(self))
        return self.workspaces[-1]

    def hand_over(self, outputs: Any) -> tuple[OutboxMessage, ...]:
        if self.handover_fails is not None:
            raise self.handover_fails
        self.records = list(outputs[0])
        return (OutboxMessage(kind=BUTLER_WRITER, topic="t", key=None, payload=b"{}"),)

    def retry(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except self.outages:
            self.retries += 1
            return action()

    def is_initialised(self, runs: Sequence[str]) -> bool:
        self.step("is initialised")
        return self.initialised

    # Own datasets.

    expected = ("regionTimeInfo",)

    def put_region_time_info(self, workspace: Workspace, visit: Any, region: Any, run: str) -> None:
        workspace.put(REGION, region, run)

    def put_preload_metrics(self, workspace: Workspace, run: str, seconds: Mapping[str, float]) -> None:
        workspace.put(METRICS, dict(seconds), run)

    def put_provenance(self, workspace: Workspace, run: str, facts: Mapping[str, Any]) -> None:
        workspace.put(PROVENANCE, dict(facts), run)

    def own(self, dataset_type: StorageType) -> tuple[str, Any]:
        """Return the run and the value of a dataset of the service's own."""
        ((run, value),) = [
            (ref.run, value) for ref, value in self.workspace.made.items() if ref.datasetType is dataset_type
        ]
        return run, value

    def collaborators(self) -> Collaborators:
        class Records:
            make = self.make

            @staticmethod
            def footprint(visit: FannedOutVisit) -> Any:
                return self.footprint if visit.has_footprint else None

        return Collaborators(
            get_pipeline=self.get_pipeline,
            records=Records(),
            open_workspace=self.open_workspace,  # type: ignore[arg-type]
            is_initialised=self.is_initialised,
            run_of=lambda date, stem: f"{stem}/{date}",
            preloader=Preloader(source=self),
            own_datasets=self,
            images=ImageIntake(source=self, ingester=self),
            execution=PipelineExecution(init_outputs=lambda *_: {}),
            alerts=AlertPublisher(sink=self),
            exporter=Exporter(
                files=None,
                handover=self,
                bundle=lambda records, files, types: (records, files, types),
                wants=lambda name: any(re.fullmatch(p, name) for p in self.patterns),
            ),
            export_records=lambda records: records,
            measurements=self.measurements,
            apdb=self,
            on_exposures=self.labelled.extend,
            retry=self.retry,
            is_outage=lambda error: isinstance(error, self.outages),
        )

    def process(self, **fields: Any) -> Finished:
        """Process the visit."""
        if fields:
            self.visit = make_visit(**fields)
        request = ProcessVisit(
            visit=self.visit,
            pipelines=SelectedPipelines(tuple(self.preprocessing), tuple(self.main)),
            output_date=DATE,
            attempt=2,
        )
        return VisitProcessor(self.collaborators()).process(request, self.channel)


def away() -> TemporarilyUnavailable:
    return TemporarilyUnavailable("the APDB cannot be asked")


def nothing_came() -> NoImageArrived:
    return NoImageArrived("no image arrived within 80 s")
