"""Registers finished outputs in a central repo, one visit or many at a time.

The same ingest serves direct export and the writer service, which gives it
the messages of a batch.
"""

from __future__ import annotations

__all__ = ["Outputs", "RegistryWriter", "parse_outputs"]

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from lsst.daf.butler import (
    Butler,
    DatasetType,
    DimensionRecord,
    DimensionRecordSet,
    DimensionUniverse,
    FileDataset,
    MissingDatasetTypeError,
    SerializedDatasetType,
    SerializedDimensionRecord,
    SerializedFileDataset,
)

from models.errors import InvalidConfiguration
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
        message: dict[str, Any] = {
            "type": "pp-output",
            "dimension_records": [r.to_simple().model_dump(mode="json") for r in self.records],
            "datasets": [f.to_simple().model_dump(mode="json") for f in self.files],
        }
        if with_dataset_types:
            message["dataset_types"] = [t.to_simple().model_dump(mode="json") for t in self.dataset_types]
        return json.dumps(message, separators=(",", ":")).encode()


def parse_outputs(
    message: Mapping[str, Any], universe: DimensionUniverse, dataset_types: Mapping[str, DatasetType]
) -> Outputs:
    """Read a writer message.

    Parameters
    ----------
    message : `dict`
        The parsed JSON.
    universe : `lsst.daf.butler.DimensionUniverse`
    dataset_types : `dict` [`str`, `lsst.daf.butler.DatasetType`]
        Looked up by name, unless the message defines them; a mapping that
        asks the repo will do.
    """
    defined = {
        t.name: t
        for t in (
            DatasetType.from_simple(SerializedDatasetType.model_validate(simple), universe=universe)
            for simple in message.get("dataset_types", ())
        )
    }
    records = [
        DimensionRecord.from_simple(SerializedDimensionRecord.model_validate(r), universe=universe)
        for r in message["dimension_records"]
    ]
    files = [
        FileDataset.from_simple(
            SerializedFileDataset.model_validate(d),
            universe=universe,
            dataset_type_loader=lambda name: defined.get(name) or dataset_types[name],
        )
        for d in message["datasets"]
    ]
    return Outputs(records, files, list(defined.values()))


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
    register_dataset_types : `bool`
        Whether dataset types that the outputs define may be registered.
    """

    def __init__(
        self,
        butler: Butler,
        *,
        lock: AbstractContextManager[Any] | None = None,
        retry_delay: float = 30.0,
        register_dataset_types: bool = False,
    ) -> None:
        self._butler = butler
        self._register = register_dataset_types
        self._lock = lock if lock is not None else nullcontext()
        self._retry_delay = retry_delay

    def ingest(self, outputs: Iterable[Outputs]) -> int:
        """Insert outputs whose files are in place.

        Datasets that the repo holds already, with the same type, run and data
        id, are skipped.

        Returns
        -------
        ingested : `int`
            Number of distinct datasets handed in.

        Raises
        ------
        lsst.daf.butler.registry.ConflictingDefinitionError
            Raised if something differs from what the repo holds.
        models.errors.InvalidConfiguration
            Raised if dataset types are not registered; the text names them.
        """
        outputs = list(outputs)
        groups: dict[str, DimensionRecordSet] = {}
        files: dict[Any, FileDataset] = {}
        for item in outputs:
            for record in item.records:
                name = record.definition.name
                groups.setdefault(name, DimensionRecordSet(record.definition)).add(record)
            for file in item.files:
                # The Butler takes a dataset id once a batch only.
                files.setdefault(tuple(ref.id for ref in file.refs), file)

        def insert() -> None:
            with self._lock:
                # The Butler would register them in silence.
                self._ensure_dataset_types(outputs)
                for element in self._butler.dimensions.sorted(groups):
                    self._butler.registry.insertDimensionData(
                        element, *groups[element.name], skip_existing=True
                    )
                if files:
                    self._butler.ingest(
                        *files.values(), transfer=None, skip_existing=True, record_validation_info=False
                    )

        retry_connections(insert, delay=self._retry_delay)
        return len(files)

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
        undefined = sorted(missing - defined.keys())
        if undefined:
            raise InvalidConfiguration(
                f"dataset types are not registered in the central repo: {', '.join(undefined)}; "
                "run `prompt-processing init` with this deployment's settings"
            )
        for name in missing:
            self._butler.registry.registerDatasetType(defined[name])

    def _unregistered(self, names: Iterable[str]) -> set[str]:
        missing = set()
        for name in names:
            try:
                self._butler.get_dataset_type(name)
            except MissingDatasetTypeError:
                missing.add(name)
        return missing
