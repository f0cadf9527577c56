"""What both forms of local repo share: the life of one visit in them."""

from __future__ import annotations

__all__ = ["FoundInput", "IngestedExposure", "LocalRepo", "VisitContext", "Workspace", "exported_records"]

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lsst.daf.butler import DatasetRef, DatasetType, DimensionRecord, DimensionUniverse, FileDataset, Timespan

from repos.central_files import CentralFiles
from repos.data_ids import VisitDataIds
from repos.pipeline_graphs import LoadedPipeline
from repos.quanta import PlannedQuantum
from repos.quantum_runner import RunReport

#: Elements whose records go out with a visit's outputs, besides those that
#: they populate; instrument, detector and sky map never do.
_EXPORTED = ("group", "day_obs", "exposure", "visit", "visit_system")


@dataclass(frozen=True)
class FoundInput:
    """A dataset in the central repo that a visit needs.

    Attributes
    ----------
    ref : `lsst.daf.butler.DatasetRef`
        Expanded.
    calibration : `tuple` [`str`, `lsst.daf.butler.Timespan`] or `None`
        Collection in which a calibration is certified, and for when.
    """

    ref: DatasetRef
    calibration: tuple[str, Timespan] | None = None


@dataclass(frozen=True)
class IngestedExposure:
    """A raw image of the visit, understood but not yet read.

    Attributes
    ----------
    ref : `lsst.daf.butler.DatasetRef`
        The ``raw`` dataset, expanded.
    path : `str`
        Its file on this machine, there until it has been ingested.
    exposure : `int`
    visit : `int` or `None`
        None if no visit can be defined (no pointing).
    physical_filter, band : `str`
    day_obs : `int`
    records : `dict` [`str`, `list` [`lsst.daf.butler.DimensionRecord`]]
        By element, in universe order, for this detector only.
    landed : `float` or `None`
        When the file was at its final name, UTC unix time in seconds.
    """

    ref: DatasetRef
    path: str
    exposure: int
    visit: int | None
    physical_filter: str
    band: str
    day_obs: int
    records: Mapping[str, Sequence[DimensionRecord]]
    landed: float | None = None


@dataclass(frozen=True)
class VisitContext:
    """What is known of a visit before its images.

    Attributes
    ----------
    instrument : `str`
    detector : `int`
    group : `str`
    data_ids : `repos.data_ids.VisitDataIds`
        Instrument, detector, group and, if announced, filter.
    records : `list` [`lsst.daf.butler.DimensionRecord`]
        The group's record.
    preload_run : `str`
        Run of the service's own datasets.
    """

    instrument: str
    detector: int
    group: str
    data_ids: VisitDataIds
    records: Sequence[DimensionRecord]
    preload_run: str


class Workspace(Protocol):
    """One visit in a local repo, from preload until it is forgotten."""

    def fetch(self, inputs: Iterable[FoundInput]) -> None:
        """Bring datasets of the central repo here, unless they are already."""

    def put(self, dataset_type: DatasetType, value: Any, run: str) -> DatasetRef:
        """Keep a dataset that the service itself made for this group."""

    def add_exposure(self, exposure: IngestedExposure) -> None:
        """Ingest a raw image."""

    def has(self, dataset_type: str) -> bool:
        """Say whether any dataset of a type is here."""

    def has_ref(self, ref: DatasetRef) -> bool:
        """Say whether a dataset is here."""

    def inputs(self) -> list[DatasetRef]:
        """Return what came from outside, raw images included."""

    def run(
        self,
        pipeline: LoadedPipeline,
        run: str,
        init_outputs: Mapping[str, DatasetRef],
        *,
        on_start: Callable[[], None] | None = None,
        on_quantum: Callable[[PlannedQuantum], None] | None = None,
    ) -> RunReport:
        """Build and execute a pipeline; nothing is executed if this raises
        `models.errors.NoPipelineBuilt`. `on_start` is called in between.
        """

    def read(self, ref: DatasetRef) -> Any:
        """Return a dataset that is here, not to be changed."""

    def outputs(self) -> list[DatasetRef]:
        """Return what was put by tasks and by the service."""

    def export(self, refs: Iterable[DatasetRef], files: CentralFiles) -> list[FileDataset]:
        """Write outputs to their final place in the central datastore."""

    def close(self) -> None:
        """Forget the visit, keeping only what may serve the next one."""


class LocalRepo(Protocol):
    """A slot's own repo."""

    def open(self, context: VisitContext) -> Workspace:
        """Begin a visit."""

    def close(self) -> None:
        """Remove the repo."""


def exported_records(
    universe: DimensionUniverse, records: Iterable[DimensionRecord]
) -> list[DimensionRecord]:
    """Choose the records that go out with a visit's outputs.

    Returns
    -------
    records : `list` [`lsst.daf.butler.DimensionRecord`]
        Without repetition, in universe order.
    """
    wanted = {name for name in _EXPORTED if name in universe.elements.names}
    for name in tuple(wanted):
        wanted.update(e.name for e in universe.get_elements_populated_by(universe.dimensions[name]))
    found: dict[str, dict[Any, DimensionRecord]] = {}
    for record in records:
        if record.definition.name in wanted:
            found.setdefault(record.definition.name, {})[record.dataId] = record
    return [r for element in universe.sorted(found) for r in found[element.name].values()]
