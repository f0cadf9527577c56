"""The local repo that is no repo: a visit's datasets in memory.

For pipelines with one quantum a task, which is what prompt processing runs.
`repos.full_repo` serves the others; both write the same outputs.
"""

from __future__ import annotations

__all__ = ["MemoryRepo"]

import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from lsst.daf.butler import DatasetRef, DatasetType, FileDataset, FileDescriptor, FormatterV2, Location
from lsst.resources import ResourcePath

from models.errors import NoPipelineBuilt
from repos.central import CentralRepo
from repos.central_files import CentralFiles
from repos.data_ids import VisitDataIds, output_ref
from repos.dataset_cache import DatasetCache
from repos.memory_butler import MemoryButler, StoredDataset, Unreadable
from repos.pipeline_graphs import LoadedPipeline
from repos.quanta import PlannedQuantum, plan_quanta
from repos.quantum_runner import QuantumRunner, RunReport
from repos.workspace import FoundInput, IngestedExposure, VisitContext


class MemoryRepo:
    """Keeps inputs in memory between visits, as far as the cache allows.

    Parameters
    ----------
    central : `repos.central.CentralRepo`
    cache : `repos.dataset_cache.DatasetCache`
    raw_formatter : `type`
        Formatter that reads the instrument's raw files.
    """

    def __init__(
        self, *, central: CentralRepo, cache: DatasetCache, raw_formatter: type[FormatterV2]
    ) -> None:
        self._central = central
        self._cache = cache
        self._values: dict[uuid.UUID, Any] = {}
        self._raw_formatter = raw_formatter
        self._runner = QuantumRunner()

    @property
    def cached_bytes(self) -> int:
        """Size of the arrays among what is kept for coming visits."""
        return sum(_array_bytes(value) for value in self._values.values())

    def open(self, context: VisitContext) -> MemoryWorkspace:
        """Begin a visit."""
        return MemoryWorkspace(self, context)

    def close(self) -> None:
        """Forget everything."""
        self._values.clear()
        self._cache.clear()

    def load(self, ref: DatasetRef) -> Any:
        """Return a dataset of the central repo, read at most once while it is
        in use or in the cache.

        One whose classes cannot be imported here comes as
        `~repos.memory_butler.Unreadable`: it is for the tasks to fail on it.
        """
        self._cache.use(ref)
        if ref.id not in self._values:
            try:
                self._values[ref.id] = self._central.read_butler.get(ref)
            except ImportError as error:
                self._values[ref.id] = Unreadable(error)
        return self._values[ref.id]

    def read_raw(self, exposure: IngestedExposure) -> Any:
        """Read a raw file."""
        location = Location(None, ResourcePath(exposure.path, forceAbsolute=True))
        descriptor = FileDescriptor(location, storageClass=exposure.ref.datasetType.storageClass)
        formatter = self._raw_formatter(descriptor, ref=exposure.ref)
        return formatter.read()

    def run_quanta(
        self,
        quanta: list[PlannedQuantum],
        butler: MemoryButler,
        on_quantum: Callable[[PlannedQuantum], None] | None,
    ) -> RunReport:
        """Execute quanta on a visit's datasets."""
        return self._runner.run(quanta, butler.for_quantum, on_quantum)

    def release(self) -> None:
        """End a visit: drop what the cache does not keep."""
        for ref in self._cache.release():
            self._values.pop(ref.id, None)


class MemoryWorkspace:
    """One visit in a `MemoryRepo`."""

    def __init__(self, repo: MemoryRepo, context: VisitContext) -> None:
        self._repo = repo
        self._context = context
        self._butler = MemoryButler(context.data_ids.universe)
        self._available: dict[str, list[DatasetRef]] = {}
        self._exposures: list[VisitDataIds] = []

    def fetch(self, inputs: Iterable[FoundInput]) -> None:
        """Read datasets of the central repo, unless they are here already."""
        for found in inputs:
            known = self._available.setdefault(found.ref.datasetType.name, [])
            if found.ref not in known:
                self._butler.add_input(found.ref, self._repo.load(found.ref))
                known.append(found.ref)

    def put(self, dataset_type: DatasetType, value: Any, run: str) -> DatasetRef:
        """Keep a dataset that the service itself made for this group."""
        ref = output_ref(dataset_type, self._context.data_ids.get(dataset_type.dimensions), run)
        self._butler.add_output(ref, value)
        self._available.setdefault(dataset_type.name, []).append(ref)
        return ref

    def add_exposure(self, exposure: IngestedExposure) -> None:
        """Read a raw image into memory."""
        self._butler.add_input(exposure.ref, self._repo.read_raw(exposure))
        self._available.setdefault(exposure.ref.datasetType.name, []).append(exposure.ref)
        values: dict[str, Any] = {
            "exposure": exposure.exposure,
            "day_obs": exposure.day_obs,
            "physical_filter": exposure.physical_filter,
            "band": exposure.band,
        }
        if exposure.visit is not None:
            values["visit"] = exposure.visit
        records = [r for group in exposure.records.values() for r in group]
        # Not necessarily the filter that was announced, if any was.
        records += [
            r
            for r in self._context.records
            if r.definition.name == "physical_filter" and r.name == exposure.physical_filter
        ]
        records.append(self._context.data_ids.universe["band"].RecordClass(name=exposure.band))
        self._exposures.append(self._context.data_ids.extended(values, records))

    def has(self, dataset_type: str) -> bool:
        """Say whether any dataset of a type is here."""
        return any(self._butler.stored_many(self._available.get(dataset_type, ())).values())

    def has_ref(self, ref: DatasetRef) -> bool:
        """Say whether a dataset is here."""
        return self._butler.stored(ref)

    def inputs(self) -> list[DatasetRef]:
        """Return what came from outside, raw images included."""
        return self._butler.inputs()

    def run(
        self,
        pipeline: LoadedPipeline,
        run: str,
        init_outputs: Mapping[str, DatasetRef],
        *,
        on_start: Callable[[], None] | None = None,
        on_quantum: Callable[[PlannedQuantum], None] | None = None,
    ) -> RunReport:
        """Build and execute a pipeline, for each exposure if there are any.

        Raises
        ------
        models.errors.NoPipelineBuilt
            Raised if the pipeline cannot run on what is here.
        """
        quanta: dict[uuid.UUID, PlannedQuantum] = {}
        stored = {name: self._stored(refs) for name, refs in self._available.items()}
        for data_ids in self._exposures or [self._context.data_ids]:
            for planned in plan_quanta(pipeline, data_ids, stored, run, init_outputs):
                first = quanta.setdefault(planned.quantum_id, planned)
                if first.quantum.inputs != planned.quantum.inputs:
                    raise NoPipelineBuilt(
                        f"task {planned.task_node.label} of pipeline {pipeline.stem} gathers several "
                        "exposures, which needs a full local repo; let PP_LOCAL_REPO_FORM be auto or full"
                    )
        for ref in init_outputs.values():
            self._butler.add_input(ref, self._repo.load(ref))
        if on_start is not None:
            on_start()
        report = self._repo.run_quanta(list(quanta.values()), self._butler, on_quantum)
        for dataset in self._butler.outputs():
            known = self._available.setdefault(dataset.ref.datasetType.name, [])
            if dataset.ref not in known:
                known.append(dataset.ref)
        return report

    def read(self, ref: DatasetRef) -> Any:
        """Return a dataset that is here, not to be changed."""
        return self._butler.peek(ref)

    def outputs(self) -> list[DatasetRef]:
        """Return what was put by tasks and by the service."""
        return [dataset.ref for dataset in self._butler.outputs()]

    def export(self, refs: Iterable[DatasetRef], files: CentralFiles) -> list[FileDataset]:
        """Write outputs to their final place in the central datastore."""
        wanted = {ref.id for ref in refs}
        chosen: list[StoredDataset] = [d for d in self._butler.outputs() if d.ref.id in wanted]
        with files.together():
            return [files.write(dataset) for dataset in chosen]

    def close(self) -> None:
        """Forget the visit."""
        self._butler.clear()
        self._available.clear()
        self._exposures.clear()
        self._repo.release()

    def _stored(self, refs: list[DatasetRef]) -> list[DatasetRef]:
        return [ref for ref, here in self._butler.stored_many(refs).items() if here]


def _array_bytes(value: Any) -> int:
    """Return the size of the arrays that a dataset consists of."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    attributes = getattr(value, "__dict__", {})
    return sum(a.nbytes for a in attributes.values() if isinstance(a, np.ndarray))
