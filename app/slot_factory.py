"""Wiring of a slot: everything that touches the middleware.

`prepare_template` runs once, in the template process; what it returns builds
an application in each slot that is forked.
"""

from __future__ import annotations

__all__ = ["SlotFactory", "prepare_template"]

import logging
from collections.abc import Callable
from functools import cached_property
from typing import Any

from lsst.daf.butler import FormatterV2
from lsst.pipe.base import Instrument

from app.configured_files import find_camera
from app.deployment import deployment_id_of, load_library
from app.logging import add_exposures, configure_logging
from app.rehearsal import imaginary_raw, imaginary_visit, import_readers
from app.slot_application import Application
from app.slot_outlets import create_alert_sink, create_handover, create_image_store
from config.instruments import InstrumentConfig
from config.settings import ServiceSettings, load_service_settings
from models.errors import InvalidConfiguration
from models.metrics import MeasuredBundle
from pipelines.apdb_access import open_apdb
from pipelines.warm_up import warm_up as warm_up_pipelines
from repos.apdb import ApdbClient
from repos.central import CentralRepo
from repos.collections import output_run, raw_run
from repos.dataset_cache import DatasetCache
from repos.earth_orientation import configure_earth_orientation
from repos.footprint import CameraGeometry, FootprintGeometry
from repos.formatters import raw_formatter
from repos.full_repo import FullRepo, local_config
from repos.index import CentralIndex
from repos.ingest import RawIngester
from repos.input_finder import InputFinder
from repos.instrument import ConfiguredInstrument
from repos.local_repos import LocalRepos
from repos.measurements import collect_measurements
from repos.memory_repo import MemoryRepo
from repos.observation import ObservationReader
from repos.pipeline_library import PipelineLibrary
from repos.registry_writer import Outputs
from repos.retry import is_outage, retry_connections
from repos.s3_client import load_service_description
from repos.scratch import remove_leftovers
from repos.service_datasets import ServiceDatasets
from repos.visit_context import VisitContexts
from repos.workspace import Workspace, exported_records
from services.alerts import AlertPublisher
from services.collaborators import Collaborators
from services.conductor import VisitProcessor
from services.execution import PipelineExecution
from services.export import Exporter
from services.image_intake import ImageIntake
from services.images import ImageAwaiter, ImageStore
from services.preload import Preloader
from services.slots.protocol import SlotBlueprint

_log = logging.getLogger(__name__)


def prepare_template() -> SlotBlueprint:
    """Do what can be done before any slot exists: read the settings, import
    the tasks of all pipelines, compute the deployment id.
    """
    settings = load_service_settings()
    configure_logging(settings.log_levels)
    configure_earth_orientation(settings.central_iers_cache)
    library = load_library(settings)
    import_readers()
    warm_up_pipelines()
    deployment_id = deployment_id_of(settings, library)
    description = load_service_description() if settings.image_bucket else None
    return SlotBlueprint(
        deployment_id=deployment_id,
        create=lambda: SlotFactory(
            settings, library, deployment_id, s3_description=description
        ).create_application(),
    )


class SlotFactory:
    """Builds what one slot works with.

    Parameters
    ----------
    settings : `config.settings.ServiceSettings`
    library : `repos.pipeline_library.PipelineLibrary`
    deployment_id : `str`
    camera : `config.instruments.InstrumentConfig`, optional
        Found by the instrument's name if not given.
    geometry : `repos.footprint.FootprintGeometry`, optional
        That of the camera if not given.
    s3_description : optional
        See `repos.s3_client.load_service_description`.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        library: PipelineLibrary,
        deployment_id: str,
        *,
        camera: InstrumentConfig | None = None,
        geometry: FootprintGeometry | None = None,
        s3_description: Any = None,
    ) -> None:
        self._settings = settings
        self._library = library
        self._deployment_id = deployment_id
        self._given_camera = camera
        self._given_geometry = geometry
        self._s3_description = s3_description

    @cached_property
    def camera(self) -> InstrumentConfig:
        """The camera's description."""
        if self._given_camera is not None:
            return self._given_camera
        return find_camera(self._settings)

    @cached_property
    def geometry(self) -> FootprintGeometry:
        """Where the camera's detectors look."""
        return self._given_geometry or CameraGeometry(self.camera)

    @cached_property
    def central(self) -> CentralRepo:
        """Connections to the central repo."""
        settings = self._settings
        return CentralRepo(
            uri=settings.central_repo,
            read_uri=settings.read_central_repo,
            retry_delay=settings.repo_retry_delay,
        )

    @cached_property
    def index(self) -> CentralIndex:
        """What the central repo holds."""
        return CentralIndex(self.central.read_butler, max_age=self._settings.index_max_age)

    @cached_property
    def contexts(self) -> VisitContexts:
        """Data ids and footprints of visits."""
        return VisitContexts(
            central=self.central,
            geometry=self.geometry,
            deployment_id=self._deployment_id,
            padding=self._settings.preload_padding,
        )

    @cached_property
    def apdb(self) -> ApdbClient:
        """The APDB."""
        return ApdbClient(self._settings.config_apdb, connect=open_apdb)

    @cached_property
    def local_repos(self) -> LocalRepos:
        """The slot's local repo; those of slots that died are removed."""
        settings = self._settings
        if removed := remove_leftovers(settings.local_repos):
            _log.info("Removed %d local repos that slots had left behind.", removed)
        limits = settings.local_repo_cache_size
        return LocalRepos(
            memory=MemoryRepo(
                central=self.central,
                cache=DatasetCache(limits.default, limits.types),
                raw_formatter=self.raw_formatter,
            ),
            full=FullRepo(
                central=self.central,
                directory=settings.local_repos,
                config=local_config(settings.central_repo, settings.local_repo_config),
                cache=DatasetCache(limits.default, limits.types),
                raw_formatter=self.raw_formatter,
            ),
            form=settings.local_repo_form,
        )

    @cached_property
    def raw_formatter(self) -> type[FormatterV2]:
        """Reads the instrument's raw files: what its class names, if it can
        be imported here.
        """
        try:
            instrument = Instrument.fromName(self.camera.name, self.central.read_butler.registry)
            formatter: type[FormatterV2] = instrument.getRawFormatter({})
        except Exception as error:  # importing another's class may raise anything
            _log.info("Raw files are read by our own formatter: %s", error)
            return raw_formatter(self.camera.raw_hdu)
        return (
            raw_formatter(self.camera.raw_hdu) if isinstance(instrument, ConfiguredInstrument) else formatter
        )

    def create_application(self) -> Application:
        """Return what the slot runs."""
        return Application(self)

    def create_processor(self) -> VisitProcessor:
        """Return what processes visits."""
        central = self.central
        return VisitProcessor(
            Collaborators(
                get_pipeline=lambda path: self._library.get(path, central.read_butler),
                records=self.contexts,
                open_workspace=self.local_repos.open,
                is_initialised=central.is_initialised,
                run_of=lambda date, stem: output_run(self.camera.name, date, stem, self._deployment_id),
                preloader=self.create_preloader(),
                own_datasets=ServiceDatasets(
                    universe=central.universe,
                    deployment_id=self._deployment_id,
                    region_time_info=self.contexts.region_time_info,
                ),
                images=self.create_image_intake(),
                execution=PipelineExecution(
                    init_outputs=lambda run, pipeline: retry_connections(
                        lambda: central.init_outputs(run, pipeline.init_inputs),
                        delay=self._settings.repo_retry_delay,
                    )
                ),
                alerts=AlertPublisher(sink=create_alert_sink(self._settings)),
                exporter=self.create_exporter(),
                export_records=lambda records: exported_records(central.universe, records),
                measurements=self.create_measurements(),
                apdb=self.apdb,
                on_exposures=add_exposures,
                retry=lambda action: retry_connections(action, delay=self._settings.repo_retry_delay),
                is_outage=is_outage,
            )
        )

    def create_preloader(self) -> Preloader:
        """Return what decides on inputs."""
        return Preloader(source=self.create_input_finder())

    def create_input_finder(self) -> InputFinder:
        """Return what knows where inputs are."""
        return InputFinder(
            central=self.central,
            index=self.index,
            instrument=self.camera.name,
            skymap=self._settings.skymap,
        )

    @cached_property
    def image_store(self) -> ImageStore:
        """Where raw images are read."""
        return create_image_store(self._settings, self.camera, s3_description=self._s3_description)

    def create_image_intake(self) -> ImageIntake:
        """Return what waits for images.

        Raises
        ------
        models.errors.InvalidConfiguration
            Raised if the central repo has no dataset type for raw images.
        """
        settings = self._settings
        store = self.image_store
        raw_type = self.central.dataset_type("raw")
        if raw_type is None:
            raise InvalidConfiguration(f"the central repo {settings.central_repo} has no dataset type raw")
        return ImageIntake(
            source=ImageAwaiter(
                store=store,
                detector_names={d.name: d.id for d in self.camera.detectors},
                image_timeout=settings.image_timeout,
            ),
            ingester=RawIngester(
                universe=self.central.universe,
                dataset_type=raw_type,
                run=raw_run(self.camera.name),
                records=self.contexts.records,
                fetch=store.fetch,
                reader=ObservationReader(self.camera),
                geometry=self.geometry,
            ),
        )

    def create_measurements(self) -> Callable[[Workspace], tuple[MeasuredBundle, ...]]:
        """Return what collects the metrics that are to be uploaded."""
        return collect_measurements if self._settings.sasquatch_url else lambda _: ()

    def create_exporter(self) -> Exporter:
        """Return what exports outputs."""
        settings = self._settings
        return Exporter(
            files=self.central.files,
            handover=create_handover(settings, self.central),
            bundle=Outputs,
            wants=settings.exports,
            enabled=settings.debug_export_outputs,
        )

    def rehearse_preload(self) -> None:
        """Look for the inputs of a visit that will not be."""
        visit = imaginary_visit(self.camera)
        data_id = self.contexts.make(visit, "1970-01-01").data_ids.values
        region = self.contexts.footprint(visit)
        finder = self.create_input_finder()
        for pipeline in self._library.loaded():
            for need in self._library.get(pipeline.path, self.central.read_butler).needs:
                if need.preloadable:
                    finder.find(need, data_id, valid_at=visit.private_sndStamp, region=region)

    def rehearse_images(self) -> None:
        """Look for an image that will not be, and for its sidecar."""
        self.image_store.find_existing("rehearsal", -1, "rehearsal", 0)
        self.image_store.read_sidecar_group(imaginary_raw())

    @property
    def deployment_id(self) -> str:
        """The deployment id."""
        return self._deployment_id

    @property
    def pipelines(self) -> PipelineLibrary:
        """The deployment's pipelines."""
        return self._library
