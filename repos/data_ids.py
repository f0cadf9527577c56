"""Data ids of one visit and detector, with their dimension records, made
without asking a registry.
"""

from __future__ import annotations

__all__ = ["VisitDataIds", "output_ref"]

from collections.abc import Iterable, Mapping
from typing import Any

from lsst.daf.butler import (
    DataCoordinate,
    DatasetIdGenEnum,
    DatasetRef,
    DatasetType,
    DimensionGroup,
    DimensionRecord,
    DimensionUniverse,
)


class VisitDataIds:
    """Makes expanded data ids from the values and records of one visit.

    Parameters
    ----------
    universe : `lsst.daf.butler.DimensionUniverse`
    values : `dict` [`str`, value]
        Values of dimensions, such as instrument, detector, group, exposure.
    records : iterable of `lsst.daf.butler.DimensionRecord`
        Records of the elements that these values select.
    """

    def __init__(
        self, universe: DimensionUniverse, values: Mapping[str, Any], records: Iterable[DimensionRecord]
    ) -> None:
        self._universe = universe
        self._values = dict(values)
        self._records = {record.definition.name: record for record in records}
        self._made: dict[DimensionGroup, DataCoordinate] = {}

    @property
    def universe(self) -> DimensionUniverse:
        """Dimension universe of the data ids."""
        return self._universe

    @property
    def values(self) -> Mapping[str, Any]:
        """Values of the dimensions."""
        return self._values

    @property
    def records(self) -> list[DimensionRecord]:
        """The records known."""
        return list(self._records.values())

    def extended(self, values: Mapping[str, Any], records: Iterable[DimensionRecord]) -> VisitDataIds:
        """Return data ids that know more dimensions."""
        return VisitDataIds(self._universe, {**self._values, **values}, [*self._records.values(), *records])

    def covers(self, dimensions: DimensionGroup) -> bool:
        """Say whether all values of a set of dimensions are known."""
        return all(map(self.knows, dimensions.names))

    def knows(self, dimension: str) -> bool:
        """Say whether the value of a dimension is known."""
        return dimension in self._values

    def get(self, dimensions: DimensionGroup) -> DataCoordinate:
        """Return the data id with these dimensions, expanded.

        Raises
        ------
        KeyError
            Raised if the value of a dimension is not known.
        """
        made = self._made.get(dimensions)
        if made is None:
            full = DataCoordinate.from_full_values(
                dimensions,
                tuple(self._values[name] for name in (*dimensions.required, *dimensions.implied)),
            )
            made = full.expanded({name: self._records.get(name) for name in dimensions.elements})
            self._made[dimensions] = made
        return made

    def agrees(self, data_id: DataCoordinate) -> bool:
        """Say whether a data id has no value that differs from this visit's."""
        values = self._values
        return all(
            values.get(name, value) == value
            for name, value in zip(data_id.dimensions.required, data_id.required_values, strict=True)
        )


def output_ref(dataset_type: DatasetType, data_id: DataCoordinate, run: str) -> DatasetRef:
    """Make the reference of an output; its id follows from type, data id and
    run, so that a second run of a visit writes the same ids.
    """
    return DatasetRef(dataset_type, data_id, run=run, id_generation_mode=DatasetIdGenEnum.DATAID_TYPE_RUN)
