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
    SerializedDimensionRecord,
    SerializedFileDataset,
)

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
        Looked up by name; a mapping that asks the repo will do.
    """
    records = [
        DimensionRecord.from_simple(SerializedDimensionRecord.model_validate(r), universe=universe)
        for r in message["dimension_records"]
    ]
    files = [
        FileDataset.from_simple(
            SerializedFileDataset.model_validate(d),
            universe=universe,
            dataset_type_loader=dataset_types.__getitem__,
        )
        for d in message["datasets"]
    ]
    return Outputs(records, files)


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
    """

    def __init__(
        self, butler: Butler, *, lock: AbstractContextManager[Any] | None = None, retry_delay: float = 30.0
    ) -> None:
        self._butler = butler
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
        """
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
