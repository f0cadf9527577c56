"""The yardstick's repo, small, and visits in it, for tests of `repos`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sketch.central
import sketch.common
from astropy.time import Time
from lsst.daf.butler import Butler, CollectionType, Config, DatasetRef, DatasetType, Timespan
from sketch.formatters import ImageFormatter
from sketch.model import SkyMapModel

from config.instruments import load_instrument
from init_job.initialise import Initializer
from models.errors import NoPipelineBuilt
from models.inputs import InputNeed
from models.raws import FoundImage, LocalImage, parse_raw_key
from models.visits import FannedOutVisit
from repos.central import CentralRepo, sqlite_lock
from repos.collections import output_run, raw_run
from repos.data_ids import VisitDataIds
from repos.dataset_cache import DatasetCache
from repos.footprint import CameraGeometry
from repos.full_repo import FullRepo, local_config
from repos.index import CentralIndex
from repos.ingest import RawIngester
from repos.input_finder import InputFinder
from repos.memory_repo import MemoryRepo
from repos.observation import ObservationReader
from repos.pipeline_graphs import resolve_pipeline
from repos.pipeline_library import PipelineLibrary
from repos.quantum_runner import RunReport
from repos.registry_writer import Outputs
from repos.service_datasets import ServiceDatasets
from repos.visit_context import VisitContexts
from repos.workspace import FoundInput, LocalRepo, VisitContext, Workspace, exported_records
from tests.repos.pipeline_tasks import STORAGE, Thing
from tests.visits import make_visit

INSTRUMENT = "ProtoCam"
DETECTOR = 1
FILTER = "g_6"
DATE = "2025-06-13"
SENT = float(Time("2025-06-14T02:00:00", scale="tai").unix_tai)
DEPLOYMENT = "dtest"
SKYMAP = "proto_v1"
CAMERA_FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "ProtoCam.yaml"
SIZE = 16
RA, DEC, ANGLE = sketch.central.RA, sketch.central.DEC, sketch.central.ROT


def build_central(root: Path) -> None:
    """Make the yardstick's repo with tiny images, two detectors'
    calibrations and what `tests.repos.pipeline_tasks` reads.
    """
    override = Config(sketch.central.OVERRIDE)
    override.update(STORAGE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sketch.central, "N", SIZE)
        patch.setattr(sketch.central, "OVERRIDE", override)
        patch.setattr(sketch.central, "SkyMapModel", partial(SkyMapModel, nx=4, ny=4))
        sketch.central.make_central(str(root), ndet_cal=2)
    with Butler.from_config(str(root), writeable=True) as butler:
        _add_inputs(butler)


def _add_inputs(butler: Butler) -> None:
    for name, dimensions, storage_class, calibration in (
        ("thing_calib", ("instrument", "detector"), "TestThing", True),
        ("weights", ("instrument",), "StructuredDataDict", False),
        ("global_settings", (), "StructuredDataDict", False),
    ):
        butler.registry.registerDatasetType(
            DatasetType(
                name, dimensions, storage_class, universe=butler.dimensions, isCalibration=calibration
            )
        )
    run = f"{INSTRUMENT}/other"
    butler.collections.register(run)
    refs = [
        butler.put(
            Thing(np.arange(6.0).reshape(3, 2) + detector, {"detector": detector}),
            "thing_calib",
            instrument=INSTRUMENT,
            detector=detector,
            run=f"{INSTRUMENT}/calib/run",
        )
        for detector in range(2)
    ]
    butler.registry.certify(f"{INSTRUMENT}/calib/gen", refs, Timespan(None, None))
    butler.put({"weight": 0.5}, "weights", instrument=INSTRUMENT, run=run)
    butler.put({"answer": 42}, "global_settings", run=run)
    butler.collections.register(raw_run(INSTRUMENT))
    butler.collections.extend_chain(f"{INSTRUMENT}/defaults", [run, raw_run(INSTRUMENT)])


def write_raw(path: Path, exposure: int, detector: int = DETECTOR, filter_: str = FILTER) -> None:
    """Write a raw file of the yardstick's camera."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sketch.common, "N", SIZE)
        sketch.common.make_raw(str(path), exposure, detector, filter_)


@dataclass
class Observed:
    """What came of a visit.

    Attributes
    ----------
    executed, failed : `list`
        Quanta, in order, and why the others failed.
    files : `dict`
        Paths in the central datastore and contents.
    message : `dict`
        What the writer service would be told.
    refs : `list`
        All outputs.
    not_built : `str` or `None`
        Why a pipeline was not run at all.
    """

    executed: list[tuple[str, str]] = field(default_factory=list)
    failed: list[tuple[str, str, str]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    message: dict[str, Any] = field(default_factory=dict)
    refs: list[DatasetRef] = field(default_factory=list)
    not_built: str | None = None

    @property
    def types(self) -> set[str]:
        """Dataset types of the outputs, those of the middleware left out."""
        return {n for r in self.refs if not (n := r.datasetType.name).endswith(("_log", "_metadata"))}

    def note(self, report: RunReport) -> None:
        """Add what a pipeline did."""
        self.executed += [(q.task_node.label, str(q.quantum.dataId)) for q in report.executed]
        self.failed += [(label, type(e).__name__, str(e)) for label, e in report.failed]


class Observatory:
    """A central repo, both forms of local repo, and visits that go through.

    Parameters
    ----------
    root : `pathlib.Path`
        Of a repo made by `build_central`.
    directory : `pathlib.Path`
        For raw files and local repos.
    pipelines : `dict` [`str`, `str`]
        Text of pipelines, by stem.
    initialise : `list` [`str`]
        Those whose init-outputs are written; of the others only the dataset
        types are registered, which is quicker.
    """

    def __init__(
        self, root: Path, directory: Path, pipelines: Mapping[str, str], *, initialise: Sequence[str] = ()
    ) -> None:
        self.root = root
        self.directory = directory
        self.central = CentralRepo(uri=str(root), retry_delay=0.01)
        camera = load_instrument(CAMERA_FILE)
        geometry = CameraGeometry(camera)
        self.index = CentralIndex(self.central.read_butler, max_age=600.0)
        self.contexts = VisitContexts(
            central=self.central, geometry=geometry, deployment_id=DEPLOYMENT, padding=30.0
        )
        self.finder = InputFinder(
            central=self.central, index=self.index, instrument=INSTRUMENT, skymap=SKYMAP
        )
        raw_type = self.central.dataset_type("raw")
        assert raw_type is not None
        self.ingester = RawIngester(
            universe=self.central.universe,
            dataset_type=raw_type,
            run=raw_run(INSTRUMENT),
            records=self.contexts.records,
            fetch=lambda found: LocalImage(Path(found.location), landed=None),
            reader=ObservationReader(camera),
            geometry=geometry,
        )
        self.own = ServiceDatasets(
            universe=self.central.universe,
            deployment_id=DEPLOYMENT,
            region_time_info=self.contexts.region_time_info,
        )
        self.memory_cache = DatasetCache()
        self.full_cache = DatasetCache()
        self.memory = MemoryRepo(central=self.central, cache=self.memory_cache, raw_formatter=ImageFormatter)
        (directory / "local").mkdir(parents=True, exist_ok=True)
        self.full = FullRepo(
            central=self.central,
            directory=directory / "local",
            config=local_config(str(root)),
            cache=self.full_cache,
            raw_formatter=ImageFormatter,
        )
        self.library = PipelineLibrary(apdb_config="")
        self.paths = {stem: str(directory / f"{stem}.yaml") for stem in pipelines}
        for stem, text in pipelines.items():
            Path(self.paths[stem]).write_text(text)
        self.library.load(self.paths.values())
        faults = self.library.faults()
        assert not faults, faults
        self._prepare(initialise)

    def _prepare(self, stems: Sequence[str]) -> None:
        butler = self.central.write_butler
        Initializer(
            butler=butler,
            instrument=INSTRUMENT,
            deployment_id=DEPLOYMENT,
            register_dataset_types=True,
            lock=sqlite_lock(str(self.root)),
        ).run(
            preprocessing=[],
            main=[p for p in self.library.loaded() if p.stem in stems],
            dates=[DATE],
        )
        for pipeline in self.library.loaded():
            if pipeline.stem not in stems:
                resolve_pipeline(pipeline, butler).graph.register_dataset_types(butler)
        butler.registry.refresh()

    def repo(self, form: str) -> LocalRepo:
        """Return a form of local repo by its name."""
        return self.full if form == "full" else self.memory

    def pipeline(self, stem: str) -> Any:
        """Return a pipeline, resolved."""
        return self.library.get(self.paths[stem], self.central.read_butler)

    def visit(self, group: str, **fields: Any) -> FannedOutVisit:
        """Make a visit of the yardstick's field."""
        values = {
            "groupId": group,
            "instrument": INSTRUMENT,
            "detector": DETECTOR,
            "position": [RA, DEC],
            "cameraAngle": ANGLE,
            "filters": FILTER,
            "private_sndStamp": SENT,
            "startTime": SENT + 20.0,
        }
        return make_visit(**{**values, **fields})

    def find(self, visit: FannedOutVisit, needs: Iterable[InputNeed]) -> list[FoundInput]:
        """Find what a visit needs."""
        values = self.contexts.make(visit, DATE).data_ids.values
        region = self.contexts.footprint(visit)
        return [
            found
            for need in needs
            if need.preloadable
            for found in self.finder.find(need, values, valid_at=visit.private_sndStamp, region=region)
        ]

    def begin(self, form: str, visit: FannedOutVisit, stems: Sequence[str]) -> tuple[Workspace, VisitContext]:
        """Open a workspace and preload it."""
        context = self.contexts.make(visit, DATE)
        workspace = self.repo(form).open(context)
        needs = {n.dataset_type: n for s in stems for n in self.pipeline(s).needs}
        workspace.fetch(self.find(visit, needs.values()))
        region = self.contexts.footprint(visit)
        if region is not None:
            self.own.put_region_time_info(workspace, visit, region, context.preload_run)
        return workspace, context

    def expose(
        self, workspace: Workspace, visit: FannedOutVisit, exposure: int, filter_: str = FILTER
    ) -> list[Any]:
        """Take an image; returns its dimension records."""
        key = f"{INSTRUMENT}/{visit.detector}/{visit.groupId}/0/{exposure}/{filter_}/x.fits"
        path = self.directory / "raw" / key
        write_raw(path, exposure, visit.detector, filter_)
        raw = self.ingester.ingest(FoundImage(parse_raw_key(key), str(path)), visit)
        workspace.add_exposure(raw.ingested)
        return [r for group in raw.ingested.records.values() for r in group]

    def run(self, workspace: Workspace, stem: str, **hooks: Callable[..., None]) -> RunReport:
        """Run a pipeline in a workspace."""
        pipeline = self.pipeline(stem)
        run = output_run(INSTRUMENT, DATE, stem, DEPLOYMENT)
        return workspace.run(pipeline, run, self.central.init_outputs(run, pipeline.init_inputs), **hooks)

    def observe(
        self,
        form: str,
        stem: str,
        *,
        group: str,
        exposures: Sequence[int] = (1,),
        preprocessing: str | None = None,
        filter_: str = FILTER,
        **fields: Any,
    ) -> Observed:
        """Process a visit from preload to files in place."""
        visit = self.visit(group, **fields)
        stems = [stem] if preprocessing is None else [preprocessing, stem]
        workspace, context = self.begin(form, visit, stems)
        observed = Observed()
        records = list(context.records)
        try:
            try:
                if preprocessing is not None:
                    observed.note(self.run(workspace, preprocessing))
                for exposure in exposures:
                    records += self.expose(workspace, visit, exposure, filter_)
                observed.note(self.run(workspace, stem))
            except NoPipelineBuilt as error:
                observed.not_built = str(error)
            observed.refs = workspace.outputs()
            outputs = Outputs(
                exported_records(self.central.universe, records),
                workspace.export(observed.refs, self.central.files),
            )
            observed.message = json.loads(outputs.to_message())
            observed.files = {str(f.path): (self.root / str(f.path)).read_bytes() for f in outputs.files}
        finally:
            workspace.close()
        return observed

    def close(self) -> None:
        """Remove the local repo."""
        self.memory.close()
        self.full.close()
        self.central.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def sketch_data_ids(central: CentralRepo, group: str = "g", **values: Any) -> VisitDataIds:
    """Make the data ids of an exposure without any image."""
    known = central.instrument_records(INSTRUMENT, DETECTOR)
    record = central.universe["group"].RecordClass(instrument=INSTRUMENT, name=group)
    return VisitDataIds(
        central.universe,
        {"instrument": INSTRUMENT, "detector": DETECTOR, "group": group, **values},
        [*known["instrument"], *known["detector"], record],
    )


def recertify(butler: Butler, dataset_type: str, value: Any, timespan: Timespan, run: str) -> DatasetRef:
    """Put a calibration of the test's detector and certify it."""
    butler.collections.register(run, CollectionType.RUN)
    ref = butler.put(value, dataset_type, instrument=INSTRUMENT, detector=DETECTOR, run=run)
    butler.registry.certify(f"{INSTRUMENT}/calib/gen", [ref], timespan)
    return ref
