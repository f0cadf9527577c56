"""The local repo as a full Butler repository, on this machine's disk.

For pipelines that `repos.memory_repo` cannot serve: several quanta a task,
tasks that query. Inputs of a visit are gathered in a tagged collection of its
own, so that what is cached from other visits is not seen.
"""

from __future__ import annotations

__all__ = ["FullRepo", "local_config"]

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from lsst.daf.butler import (
    Butler,
    ButlerConfig,
    CollectionType,
    Config,
    DatasetRef,
    DatasetType,
    DimensionRecord,
    FileDataset,
    FormatterV2,
)

from repos.central import CentralRepo
from repos.central_files import CentralFiles
from repos.data_ids import output_ref
from repos.dataset_cache import DatasetCache
from repos.full_quanta import build_quanta
from repos.pipeline_graphs import LoadedPipeline
from repos.quanta import PlannedQuantum
from repos.quantum_runner import QuantumRunner, RunReport
from repos.scratch import ScratchDirectory
from repos.workspace import FoundInput, IngestedExposure, VisitContext

_log = logging.getLogger(__name__)


def local_config(central_uri: str, override: str | None = None) -> Config:
    """Return the configuration of a local repo: the central repo's storage
    classes and formatters, which both must name alike.

    Parameters
    ----------
    central_uri : `str`
    override : `str`, optional
        Butler configuration file to use instead.
    """
    if override:
        return Config(override)
    # The file alone, without the Butler's defaults, which the local repo has
    # anyway.
    central = Config(ButlerConfig(Butler.get_repo_uri(central_uri, return_label=True)).configFile)
    config = Config()
    if "storageClasses" in central:
        config["storageClasses"] = central["storageClasses"]
    if ("datastore", "formatters") in central:
        config["datastore", "formatters"] = central["datastore", "formatters"]
    return config


class FullRepo:
    """A Butler repository in a directory of its own, made when first needed.

    Parameters
    ----------
    central : `repos.central.CentralRepo`
    directory : `pathlib.Path`
        Where the repo's directory is made.
    config : `lsst.daf.butler.Config`
        See `local_config`.
    cache : `repos.dataset_cache.DatasetCache`
    raw_formatter : `type`
        Formatter that reads the instrument's raw files.
    """

    def __init__(
        self,
        *,
        central: CentralRepo,
        directory: Path,
        config: Config,
        cache: DatasetCache,
        raw_formatter: type[FormatterV2],
    ) -> None:
        self._central = central
        self._scratch = ScratchDirectory(directory)
        self._config = config
        self._cache = cache
        self.raw_formatter = raw_formatter
        self.runner = QuantumRunner()
        self._butler: Butler | None = None

    @property
    def butler(self) -> Butler:
        """Client of the local repo."""
        if self._butler is None:
            try:
                self._butler = self._make()
            except BaseException:
                self.close()
                raise
        return self._butler

    def _make(self) -> Butler:
        root = str(self._scratch.path)
        Butler.makeRepo(
            root,
            config=self._config,
            dimensionConfig=self._central.universe.dimensionConfig,
        )
        return Butler.from_config(root, writeable=True)

    def open(self, context: VisitContext) -> FullWorkspace:
        """Begin a visit."""
        return FullWorkspace(self, context)

    def transfer(self, refs: Iterable[DatasetRef]) -> None:
        """Copy datasets of the central repo here, unless they are already."""
        refs = list(refs)
        new = [ref for ref in refs if ref not in self._cache]
        if new:
            self.butler.transfer_from(
                self._central.read_butler,
                new,
                transfer="copy",
                skip_missing=False,
                register_dataset_types=True,
                transfer_dimensions=True,
            )
        for ref in refs:
            self._cache.use(ref)

    def insert_records(self, records: Iterable[DimensionRecord]) -> None:
        """Write dimension records, with those that they need first."""
        by_element: dict[str, list[DimensionRecord]] = {}
        for record in records:
            by_element.setdefault(record.definition.name, []).append(record)
        for element in self.butler.dimensions.sorted(by_element):
            self.butler.registry.insertDimensionData(element, *by_element[element.name], skip_existing=True)

    def release(self) -> None:
        """End a visit: drop what the cache does not keep."""
        evicted = self._cache.release()
        if evicted:
            self.butler.pruneDatasets(evicted, disassociate=True, unstore=True, purge=True)

    def close(self) -> None:
        """Remove the repo from disk; if it is used again, a new one is made."""
        self._cache.clear()
        if self._butler is not None:
            self._butler.close()
            self._butler = None
        self._scratch.remove()


class FullWorkspace:
    """One visit in a `FullRepo`."""

    def __init__(self, repo: FullRepo, context: VisitContext) -> None:
        self._repo = repo
        self._context = context
        self._tag = f"pp/inputs/{context.group}/{context.detector}"
        self._runs: list[str] = []
        self._raw_runs: list[str] = []
        self._inputs: dict[Any, DatasetRef] = {}
        self._outputs: dict[Any, DatasetRef] = {}
        self._raws: list[DatasetRef] = []
        self._exposures: list[int] = []
        self._types: dict[str, set[Any]] = {}
        repo.insert_records([*context.data_ids.records, *context.records])
        repo.butler.collections.register(self._tag, CollectionType.TAGGED)

    def fetch(self, inputs: Iterable[FoundInput]) -> None:
        """Copy datasets of the central repo, unless they are here already."""
        refs = [found.ref for found in inputs]
        refs = [ref for ref in refs if ref.id not in self._types.get(ref.datasetType.name, ())]
        self._repo.transfer(refs)
        self._repo.butler.registry.associate(self._tag, refs)
        self._inputs.update((ref.id, ref) for ref in refs)
        for ref in refs:
            self._types.setdefault(ref.datasetType.name, set()).add(ref.id)

    def put(self, dataset_type: DatasetType, value: Any, run: str) -> DatasetRef:
        """Keep a dataset that the service itself made for this group."""
        ref = output_ref(dataset_type, self._context.data_ids.get(dataset_type.dimensions), run)
        butler = self._repo.butler
        butler.registry.registerDatasetType(dataset_type)
        self._register_run(run)
        butler.put(value, ref)
        self._note_output(ref)
        return ref

    def add_exposure(self, exposure: IngestedExposure) -> None:
        """Ingest a raw image."""
        butler = self._repo.butler
        self._repo.insert_records(r for group in exposure.records.values() for r in group)
        butler.registry.registerDatasetType(exposure.ref.datasetType)
        butler.collections.register(exposure.ref.run)
        butler.ingest(
            FileDataset(path=exposure.path, refs=[exposure.ref], formatter=self._repo.raw_formatter),
            transfer="copy",
        )
        self._raws.append(exposure.ref)
        self._types.setdefault(exposure.ref.datasetType.name, set()).add(exposure.ref.id)
        if exposure.ref.run not in self._raw_runs:
            self._raw_runs.append(exposure.ref.run)
        self._exposures.append(exposure.exposure)

    def has(self, dataset_type: str) -> bool:
        """Say whether any dataset of a type is here."""
        return bool(self._types.get(dataset_type))

    def has_ref(self, ref: DatasetRef) -> bool:
        """Say whether a dataset is here."""
        return self._repo.butler.stored(ref)

    def inputs(self) -> list[DatasetRef]:
        """Return what came from outside, raw images included."""
        return [*self._inputs.values(), *self._raws]

    def run(
        self,
        pipeline: LoadedPipeline,
        run: str,
        init_outputs: Mapping[str, DatasetRef],
        *,
        on_start: Callable[[], None] | None = None,
        on_quantum: Callable[[PlannedQuantum], None] | None = None,
    ) -> RunReport:
        """Build and execute a pipeline.

        Raises
        ------
        models.errors.NoPipelineBuilt
            Raised if the pipeline cannot run on what is here.
        """
        self._repo.transfer(init_outputs.values())
        self._inputs.update((ref.id, ref) for ref in init_outputs.values())
        quanta = self._plan(pipeline, run, init_outputs)
        butler = self._repo.butler
        pipeline.graph.register_dataset_types(butler)
        self._register_run(run)
        if on_start is not None:
            on_start()
        unclosable = _Unclosable(butler)
        try:
            return self._repo.runner.run(quanta, lambda _: unclosable, on_quantum)
        finally:
            # Also if the slot was told to stop: what is not noted would stay.
            predicted = [ref for q in quanta for refs in q.quantum.outputs.values() for ref in refs]
            for ref, here in butler.stored_many(predicted).items():
                if here:
                    self._note_output(ref)

    def read(self, ref: DatasetRef) -> Any:
        """Return a dataset that is here."""
        return self._repo.butler.get(ref)

    def outputs(self) -> list[DatasetRef]:
        """Return what was put by tasks and by the service."""
        return list(self._outputs.values())

    def export(self, refs: Iterable[DatasetRef], files: CentralFiles) -> list[FileDataset]:
        """Copy outputs to their final place in the central datastore."""
        with files.together():
            return [files.copy(self._repo.butler.getURI(ref), ref) for ref in refs]

    def close(self) -> None:
        """Forget the visit. A repo in which that fails is given up."""
        try:
            butler = self._repo.butler
            gone = [*self._outputs.values(), *self._raws]
            if gone:
                butler.pruneDatasets(gone, disassociate=True, unstore=True, purge=True)
            butler.collections.x_remove(self._tag)
            self._repo.release()
        except Exception:  # database and file system raise many types
            _log.exception("The local repo is given up: a visit could not be removed from it.")
            self._repo.close()
        self._outputs.clear()
        self._raws.clear()
        self._types.clear()

    def _register_run(self, run: str) -> None:
        self._repo.butler.collections.register(run)
        if run not in self._runs:
            self._runs.append(run)

    def _note_output(self, ref: DatasetRef) -> None:
        self._outputs[ref.id] = ref
        self._types.setdefault(ref.datasetType.name, set()).add(ref.id)

    def _plan(
        self, pipeline: LoadedPipeline, run: str, init_outputs: Mapping[str, DatasetRef]
    ) -> list[PlannedQuantum]:
        context = self._context
        where = "instrument = :pp_instrument AND detector = :pp_detector"
        bind: dict[str, Any] = {"pp_instrument": context.instrument, "pp_detector": context.detector}
        if self._exposures:
            where += " AND exposure IN (:pp_exposures)"
            bind["pp_exposures"] = self._exposures
        else:
            where += " AND group = :pp_group"
            bind["pp_group"] = context.group
        return build_quanta(
            pipeline,
            self._repo.butler,
            where=where,
            bind=bind,
            input_collections=[self._tag, *self._raw_runs, *(r for r in self._runs if r != run)],
            run=run,
            init_outputs=init_outputs,
        )


class _Unclosable:
    """A Butler that survives the executor's closing it after each quantum."""

    def __init__(self, butler: Butler) -> None:
        self._butler = butler

    def __getattr__(self, name: str) -> Any:
        return getattr(self._butler, name)

    def close(self) -> None:
        """Do nothing."""
