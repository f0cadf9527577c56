"""Registers finished outputs in a central repo, one visit or many at a time.

The same ingest serves direct export and the writer service, which gives it
the messages of a batch. What `lsst.daf.butler.Butler.ingest` would do file by
file (look whether some of them exist, resolve paths, import formatters) was
done when they were written, so rows go straight into the tables, all in one
transaction.
"""

from __future__ import annotations

__all__ = ["Outputs", "RegistryWriter"]

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

from lsst.daf.butler import (
    Butler,
    DataCoordinate,
    DatasetId,
    DatasetRef,
    DatasetType,
    DimensionRecord,
    FileDataset,
    MissingDatasetTypeError,
)
from lsst.daf.butler.datastore.record_data import DatastoreRecordData
from lsst.daf.butler.datastore.stored_file_info import StoredFileInfo
from lsst.daf.butler.datastores.fileDatastore import FileDatastore
from lsst.daf.butler.direct_butler import DirectButler
from lsst.daf.butler.registry import ConflictingDefinitionError

from models.errors import InvalidConfiguration
from models.events import DatasetMessage, DimensionRecordMessage, FileMessage, PromptOutput
from repos.retry import retry_connections


@dataclass(frozen=True)
class Outputs:
    """What one visit hands over.

    Attributes
    ----------
    records : `list` [`lsst.daf.butler.DimensionRecord`]
        Dimension records that the data ids need, in universe order.
    files : `list` [`lsst.daf.butler.FileDataset`]
        Datasets whose files are in place.
    dataset_types : `list` [`lsst.daf.butler.DatasetType`]
        Their types, for repos that register types on demand.
    """

    records: Sequence[DimensionRecord]
    files: Sequence[FileDataset]
    dataset_types: Sequence[DatasetType] = ()

    def to_message(self, *, with_dataset_types: bool = False) -> bytes:
        """Return the message to the writer service (``pp-output``) as JSON.

        Parameters
        ----------
        with_dataset_types : `bool`
            Whether to send the optional ``dataset_types`` list.
        """
        types = tuple(t.to_simple().model_dump(mode="json") for t in self.dataset_types)
        return PromptOutput(
            type="pp-output",
            dimension_records=tuple(
                DimensionRecordMessage(**r.to_simple().model_dump(mode="json")) for r in self.records
            ),
            datasets=tuple(_file_message(file) for file in self.files),
            dataset_types=types if with_dataset_types else None,
        ).to_payload()


def _file_message(file: FileDataset) -> FileMessage:
    simple = file.to_simple()
    refs = {id_: DatasetMessage(**ref.model_dump(mode="json")) for id_, ref in simple.refs.items()}
    return FileMessage(refs=refs, path=simple.path, formatter=simple.formatter)


class RegistryWriter:
    """Inserts outputs into a central repo's registry.

    Parameters
    ----------
    butler : `lsst.daf.butler.Butler`
        Writeable client of the central repo.
    lock : context manager, optional
        Held while the registry is written. An SQLite registry has one writer
        at a time and gives up on the others after a while; waiting in line
        outside of it loses nobody.
    retry_delay : `float`
        Mean pause before the second try after a connection error, seconds.
    attempts : `int`
        Tries after connection errors, the first included.
    register_dataset_types : `bool`
        Whether dataset types that the outputs define may be registered.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if this is no direct client, or the datastore is not one of
        files.
    """

    def __init__(
        self,
        butler: Butler,
        *,
        lock: AbstractContextManager[Any] | None = None,
        retry_delay: float = 30.0,
        attempts: int = 2,
        register_dataset_types: bool = False,
    ) -> None:
        if not isinstance(butler, DirectButler) or not isinstance(butler._datastore, FileDatastore):
            raise InvalidConfiguration(
                f"outputs cannot be registered in {butler}: it takes a direct client of a file datastore"
            )
        self._butler = butler
        self._datastore = butler._datastore
        self._register = register_dataset_types
        self._lock = lock if lock is not None else nullcontext()
        self._retry_delay = retry_delay
        self._attempts = attempts

    def ingest(self, outputs: Iterable[Outputs]) -> list[DatasetId]:
        """Insert outputs whose files are in place; all of them, or nothing.

        Datasets that the repo holds already, with the same type, run and data
        id, are skipped. Nobody looks whether the files are there.

        Returns
        -------
        ids : `list` [`uuid.UUID`]
            The distinct datasets that were handed in.

        Raises
        ------
        lsst.daf.butler.registry.ConflictingDefinitionError
            Raised if something differs from what the repo holds, or two of the
            outputs contradict each other.
        models.errors.InvalidConfiguration
            Raised if dataset types are not registered; the text names them.
        """
        outputs = list(outputs)
        records = _merge_records(outputs)
        datasets = _merge_datasets(outputs)

        def insert() -> None:
            with self._lock:
                self._ensure_dataset_types(outputs)
                for run in sorted({ref.run for ref, _ in datasets.values()}):
                    self._butler.collections.register(run)
                with self._butler.transaction():
                    for element in self._butler.dimensions.sorted(records):
                        self._butler.registry.insertDimensionData(
                            element, *records[element.name].values(), skip_existing=True
                        )
                    self._insert(datasets)

        retry_connections(insert, delay=self._retry_delay, attempts=self._attempts)
        return list(datasets)

    def _insert(self, datasets: Mapping[DatasetId, tuple[DatasetRef, FileDataset]]) -> None:
        registry = self._butler._registry
        # Registers of observations are filled from whole data ids.
        expand = registry.obsCoreTableManager is not None
        groups: dict[Any, list[DatasetRef]] = defaultdict(list)
        for ref, _ in datasets.values():
            groups[ref.datasetType.dimensions, ref.run].append(ref)
        for refs in groups.values():
            # Compares with what is there, and skips what is the same.
            registry._importDatasets(refs, expand=expand)
        known = self._datastore.knows_these([ref for ref, _ in datasets.values()])
        table = self._datastore._table.name
        stored = {
            id_: {table: [self._file_info(ref, file)]}
            for id_, (ref, file) in datasets.items()
            if not known[ref]
        }
        if stored:
            self._datastore.import_records({self._datastore.name: DatastoreRecordData(records=stored)})

    def _file_info(self, ref: DatasetRef, file: FileDataset) -> StoredFileInfo:
        formatter = file.formatter or self._datastore.formatterFactory.getFormatterClass(ref)
        return StoredFileInfo(
            formatter=formatter,
            path=str(file.path),
            storageClass=ref.datasetType.storageClass,
            component=ref.datasetType.component(),
            checksum=None,
            # Not known.
            file_size=-1,
        )

    def _ensure_dataset_types(self, outputs: Iterable[Outputs]) -> None:
        needed = {
            ref.datasetType.name: ref.datasetType for o in outputs for file in o.files for ref in file.refs
        }
        missing = self._unregistered(needed)
        if missing:
            # Another client may have registered them since this one looked.
            self._butler.registry.refresh()
            missing = self._unregistered(missing)
        defined = {t.name: t for o in outputs for t in o.dataset_types} if self._register else {}
        undefined = sorted(missing.keys() - defined.keys())
        if undefined:
            raise InvalidConfiguration(
                f"dataset types are not registered in the central repo: {', '.join(undefined)}; "
                "run `prompt-processing init` with this deployment's settings"
            )
        for name in missing:
            self._butler.registry.registerDatasetType(defined[name])

    def _unregistered(self, types: Mapping[str, DatasetType]) -> dict[str, DatasetType]:
        missing = {}
        for name, ours in types.items():
            try:
                registered = self._butler.get_dataset_type(name)
            except MissingDatasetTypeError:
                missing[name] = ours
                continue
            if registered != ours and not (
                registered.is_compatible_with(ours) and ours.is_compatible_with(registered)
            ):
                raise ConflictingDefinitionError(f"the central repo has {registered}, not {ours}")
        return missing


def _merge_records(outputs: Iterable[Outputs]) -> dict[str, dict[DataCoordinate, DimensionRecord]]:
    """Group records by element, each once; the first counts, as it would one
    by one.
    """
    merged: dict[str, dict[DataCoordinate, DimensionRecord]] = defaultdict(dict)
    for item in outputs:
        for record in item.records:
            merged[record.definition.name].setdefault(record.dataId, record)
    return merged


def _merge_datasets(outputs: Iterable[Outputs]) -> dict[DatasetId, tuple[DatasetRef, FileDataset]]:
    """Return every dataset once, with its file; a producer may repeat itself."""
    merged: dict[DatasetId, tuple[DatasetRef, FileDataset]] = {}
    for item in outputs:
        for file in item.files:
            for ref in file.refs:
                first = merged.setdefault(cast("DatasetId", ref.id), (ref, file))[0]
                if first != ref or first.run != ref.run:
                    raise ConflictingDefinitionError(
                        f"one id for two datasets: {first} in {first.run} and {ref} in {ref.run}"
                    )
    return merged
