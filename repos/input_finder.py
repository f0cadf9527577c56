"""Where in a central repo each kind of input is looked for."""

from __future__ import annotations

__all__ = ["InputFinder"]

from collections.abc import Mapping
from typing import Any

from astropy.time import Time
from lsst.daf.butler import DatasetType, MissingDatasetTypeError, Timespan
from lsst.sphgeom import Region

from models.inputs import InputKind, InputNeed
from repos.central import CentralRepo
from repos.collections import (
    REFCATS,
    SKYMAPS,
    calib_collection,
    defaults_collection,
    templates_collection,
)
from repos.index import CentralIndex
from repos.workspace import FoundInput


class InputFinder:
    """Finds datasets for one instrument.

    Parameters
    ----------
    central : `repos.central.CentralRepo`
    index : `repos.index.CentralIndex`
        Of the same repo.
    instrument : `str`
    skymap : `str`
        Name of the sky map that templates are on.
    """

    def __init__(self, *, central: CentralRepo, index: CentralIndex, instrument: str, skymap: str) -> None:
        self._central = central
        self._index = index
        self._instrument = instrument
        self._skymap = skymap
        self._types: dict[str, DatasetType] = {}

    def find(
        self, need: InputNeed, data_id: Mapping[str, Any], *, valid_at: float, region: Region | None
    ) -> list[FoundInput]:
        """Find the datasets of one type that a visit needs.

        Parameters
        ----------
        need : `models.inputs.InputNeed`
            Of a preloadable kind.
        data_id : `dict`
            What is known of the visit: instrument, detector, physical_filter,
            band.
        valid_at : `float`
            Date for calibrations, unix-style seconds TAI.
        region : `lsst.sphgeom.Region` or `None`
            Padded footprint of the detector, for sky-dependent kinds.
        """
        dataset_type = self._dataset_type(need.dataset_type)
        if dataset_type is None:
            return []
        values = {**data_id, "skymap": self._skymap}
        match need.kind:
            case InputKind.CALIBRATION:
                instant = Timespan.fromInstant(Time(valid_at, format="unix_tai", scale="tai"))
                found = self._index.calibrations(
                    dataset_type, calib_collection(self._instrument), values, instant
                )
                return [FoundInput(c.ref, (c.collection, c.timespan)) for c in found]
            case InputKind.REFCAT:
                refs = self._overlapping(dataset_type, REFCATS, region, values)
            case InputKind.TEMPLATE:
                refs = self._overlapping(dataset_type, templates_collection(self._instrument), region, values)
            case InputKind.SKYMAP:
                refs = self._index.by_data_id(dataset_type, SKYMAPS, values)
            case InputKind.OTHER:
                refs = self._index.by_data_id(dataset_type, defaults_collection(self._instrument), values)
            case _:
                raise ValueError(f"{need.dataset_type} is made for the visit and cannot be preloaded")
        return [FoundInput(ref) for ref in refs]

    def _overlapping(
        self, dataset_type: DatasetType, collections: str, region: Region | None, values: Mapping[str, Any]
    ) -> list[Any]:
        if region is None:
            return []
        return self._index.overlapping(dataset_type, collections, region, values)

    def _dataset_type(self, name: str) -> DatasetType | None:
        if name not in self._types:
            try:
                self._types[name] = self._central.read_butler.get_dataset_type(name)
            except MissingDatasetTypeError:
                return None
        return self._types[name]
