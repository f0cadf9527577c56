"""Reads messages to the writer as outputs that a repo can take."""

from __future__ import annotations

__all__ = ["MessageReader"]

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from lsst.daf.butler import (
    DataCoordinate,
    DatasetRef,
    DatasetType,
    DimensionRecord,
    DimensionUniverse,
    FileDataset,
    Formatter,
    FormatterV2,
    MissingDatasetTypeError,
    SerializedDatasetType,
    SerializedDimensionRecord,
)
from lsst.utils.introspection import get_class_of

from models.errors import InvalidMessage
from models.events import DatasetMessage, FileMessage, PromptOutput
from repos.registry_writer import Outputs


class MessageReader:
    """Turns messages into outputs, or says what is wrong with them.

    Parameters
    ----------
    universe : `lsst.daf.butler.DimensionUniverse`
        Of the repo.
    dataset_type : callable
        Returns the repo's dataset type of a name, or raises
        `lsst.daf.butler.MissingDatasetTypeError`.
    """

    def __init__(self, universe: DimensionUniverse, dataset_type: Callable[[str], DatasetType]) -> None:
        self._universe = universe
        self._find = dataset_type
        self._types: dict[str, DatasetType] = {}
        self._formatters: set[str] = set()

    def read(self, payload: bytes | str) -> Outputs:
        """Read a message.

        Raises
        ------
        models.errors.InvalidMessage
            Raised if anything in it cannot be used; the text names it.
        """
        message = PromptOutput.parse(payload)
        try:
            defined = self._defined(message.dataset_types or ())
            records = [self._record(r.definition, r.record) for r in message.dimension_records]
            files = [self._file(file, defined) for file in message.datasets]
        except MissingDatasetTypeError as error:
            raise InvalidMessage(
                f"{error}; if it should exist, run `prompt-processing init` with the sender's settings"
            ) from error
        return Outputs(records, files, list(defined.values()))

    def _defined(self, simple: tuple[dict[str, Any], ...]) -> dict[str, DatasetType]:
        try:
            types = [
                DatasetType.from_simple(SerializedDatasetType.model_validate(t), universe=self._universe)
                for t in simple
            ]
        except Exception as error:  # the Butler raises many types here
            raise InvalidMessage(f"dataset_types: {_short(error)}") from error
        return {t.name: t for t in types}

    def _record(self, element: str, record: Mapping[str, Any]) -> DimensionRecord:
        try:
            simple = SerializedDimensionRecord.model_validate({"definition": element, "record": record})
            return DimensionRecord.from_simple(simple, universe=self._universe)
        except Exception as error:  # the Butler raises many types here
            raise InvalidMessage(f"dimension_records: {element} {record}: {_short(error)}") from error

    def _file(self, file: FileMessage, defined: Mapping[str, DatasetType]) -> FileDataset:
        if len({ref.run for ref in file.refs.values()}) > 1:
            raise InvalidMessage(f"datasets: those in {file.path} are of different runs")
        if file.formatter is not None:
            self._check_formatter(file.formatter)
        refs = [self._ref(id_, ref, defined) for id_, ref in file.refs.items()]
        return FileDataset(file.path, refs, formatter=file.formatter)

    def _ref(self, id_: uuid.UUID, simple: DatasetMessage, defined: Mapping[str, DatasetType]) -> DatasetRef:
        dataset_type = self._type(simple.dataset_type_name, defined)
        try:
            data_id = self._data_id(dataset_type, simple.data_id)
        except Exception as error:  # the Butler raises many types here
            raise InvalidMessage(
                f"datasets: {simple.data_id} is no data id of {dataset_type.name}: {_short(error)}"
            ) from error
        return DatasetRef(dataset_type, data_id, simple.run, id=id_, conform=False)

    def _data_id(self, dataset_type: DatasetType, values: Mapping[str, Any]) -> DataCoordinate:
        # What `DataCoordinate.standardize` does, for the one case that there is.
        required = dataset_type.dimensions.required
        return DataCoordinate.from_required_values(
            dataset_type.dimensions,
            tuple(
                self._universe.dimensions[name].primaryKey.getPythonType()(values[name]) for name in required
            ),
        )

    def _type(self, name: str, defined: Mapping[str, DatasetType]) -> DatasetType:
        known = self._types.get(name)
        if known is None:
            try:
                known = self._types[name] = self._find(name)
            except MissingDatasetTypeError:
                if name not in defined:
                    raise
                return defined[name]
        return known

    def _check_formatter(self, name: str) -> None:
        if name in self._formatters:
            return
        try:
            found = get_class_of(name)
        except Exception as error:  # importing another's class may raise anything
            raise InvalidMessage(f"datasets: formatter {name} cannot be imported: {_short(error)}") from error
        if not (isinstance(found, type) and issubclass(found, Formatter | FormatterV2)):
            raise InvalidMessage(f"datasets: {name} is no formatter")
        self._formatters.add(name)


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
