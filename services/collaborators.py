"""What the conductor works with, as far as it is concerned."""

from __future__ import annotations

__all__ = ["Collaborators", "OwnDatasets", "VisitDatabase", "VisitRecords", "VisitWorkspace"]

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from models.metrics import MeasuredBundle
from models.visits import FannedOutVisit
from services.alerts import AlertPublisher
from services.execution import PipelineExecution, PipelineWorkspace
from services.export import Exporter, OutputWorkspace
from services.image_intake import ImageIntake
from services.preload import Preloader


class VisitRecords(Protocol):
    """What the repositories know of visits."""

    def make(self, visit: FannedOutVisit, output_date: str) -> Any:
        """Return the context of a visit."""

    def footprint(self, visit: FannedOutVisit) -> Any:
        """Return the padded area that the detector will cover, or None."""


class VisitWorkspace(PipelineWorkspace, OutputWorkspace, Protocol):
    """One visit in the local repo, from preload until it is forgotten."""

    def fetch(self, inputs: Iterable[Any]) -> None:
        """Bring datasets of the central repo here; may be repeated."""

    def add_exposure(self, exposure: Any) -> None:
        """Ingest a raw image.

        Raises
        ------
        models.errors.UnreadableImage
            Raised if its pixels cannot be read.
        """

    def has(self, dataset_type: str) -> bool:
        """Say whether any dataset of a type is here."""

    def has_ref(self, ref: Any) -> bool:
        """Say whether a dataset is here."""

    def read(self, ref: Any) -> Any:
        """Return a dataset that is here, not to be changed."""

    def inputs(self) -> Sequence[Any]:
        """Return references to what came from outside."""

    def close(self) -> None:
        """Forget the visit, keeping only what may serve the next one."""


class OwnDatasets(Protocol):
    """Writes the service's own datasets into a workspace."""

    def put_region_time_info(self, workspace: Any, visit: FannedOutVisit, region: Any, run: str) -> None:
        """Write where and when the observation will be made."""

    def put_preload_metrics(self, workspace: Any, run: str, seconds: Mapping[str, float]) -> None:
        """Write how long preload took."""

    def put_provenance(self, workspace: Any, run: str, facts: Mapping[str, Any]) -> None:
        """Write what ran on what."""

    @property
    def expected(self) -> Sequence[str]:
        """Dataset types that pipelines may read."""


class VisitDatabase(Protocol):
    """The APDB, as far as the service asks it."""

    def contains(self, visits: Sequence[int], detector: int) -> bool:
        """Say whether it holds anything of some visits.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if it cannot be asked.
        """


@dataclass(frozen=True, kw_only=True)
class Collaborators:
    """Everything a `services.conductor.VisitProcessor` works with."""

    get_pipeline: Callable[[str], Any]
    """Returns a pipeline, ready to run, by its path."""
    records: VisitRecords
    """Data ids and footprints."""
    open_workspace: Callable[..., VisitWorkspace]
    """Begins a visit in the local repo."""
    is_initialised: Callable[[Sequence[str]], bool]
    """Whether the initializer has prepared output runs."""
    run_of: Callable[[str, str], str]
    """Maps output date and pipeline stem to the output run."""
    preloader: Preloader
    own_datasets: OwnDatasets
    images: ImageIntake
    execution: PipelineExecution
    alerts: AlertPublisher
    exporter: Exporter
    export_records: Callable[[Sequence[Any]], Sequence[Any]]
    """Chooses the dimension records that go out."""
    measurements: Callable[[Any], tuple[MeasuredBundle, ...]]
    """Collects the metrics of a visit that are to be uploaded."""
    apdb: VisitDatabase
    on_exposures: Callable[[Sequence[int]], None]
    """Told which exposures are processed, for the labels of log messages."""
    retry: Callable[[Callable[[], Any]], Any]
    """Runs what reads the central repo, again if the connection failed."""
    is_outage: Callable[[BaseException], bool]
    """Whether an error means that something we depend on is away or full."""
