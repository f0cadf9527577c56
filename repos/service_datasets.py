"""Datasets that the service itself writes."""

from __future__ import annotations

__all__ = ["METRICS", "PROVENANCE", "REGION_TIME_INFO", "ServiceDatasets", "service_dataset_types"]

from collections.abc import Callable, Mapping
from typing import Any

from lsst.daf.butler import DatasetType, DimensionUniverse
from lsst.pipe.base.utils import RegionTimeInfo
from lsst.sphgeom import Region

from models.metrics import Metric, MetricMeasurementBundle
from models.visits import FannedOutVisit
from repos.workspace import Workspace

#: Where and when the observation will be made, for preprocessing.
REGION_TIME_INFO = "regionTimeInfo"
#: How long preload took.
METRICS = "promptPreload_metrics"
#: What ran on what.
PROVENANCE = "prompt_provenance"


def service_dataset_types(universe: DimensionUniverse) -> dict[str, DatasetType]:
    """Return the dataset types of the service's own datasets, by name."""
    by_group = ("instrument", "group", "detector")
    return {
        name: DatasetType(name, by_group, storage_class, universe=universe)
        for name, storage_class in (
            (REGION_TIME_INFO, "RegionTimeInfo"),
            (METRICS, "MetricMeasurementBundle"),
            (PROVENANCE, "StructuredDataDict"),
        )
    }


class ServiceDatasets:
    """Writes the service's own datasets into a visit's workspace.

    Parameters
    ----------
    universe : `lsst.daf.butler.DimensionUniverse`
    deployment_id : `str`
    region_time_info : callable
        Maps a visit and its region to a ``RegionTimeInfo``.
    """

    def __init__(
        self,
        *,
        universe: DimensionUniverse,
        deployment_id: str,
        region_time_info: Callable[[FannedOutVisit, Region], RegionTimeInfo],
    ) -> None:
        self._types = service_dataset_types(universe)
        self._deployment_id = deployment_id
        self._region_time_info = region_time_info

    @property
    def expected(self) -> tuple[str, ...]:
        """Dataset types that pipelines may read."""
        return (REGION_TIME_INFO,)

    def put_region_time_info(
        self, workspace: Workspace, visit: FannedOutVisit, region: Region, run: str
    ) -> None:
        """Write where and when the observation will be made."""
        workspace.put(self._types[REGION_TIME_INFO], self._region_time_info(visit, region), run)

    def put_preload_metrics(self, workspace: Workspace, run: str, seconds: Mapping[str, float]) -> None:
        """Write how long preload took.

        Parameters
        ----------
        workspace : `repos.workspace.Workspace`
        run : `str`
        seconds : `dict` [`str`, `float`]
            By step: total, search, transfer, preprocess.
        """
        metrics = [
            Metric(metric=f"prep_butler{step.capitalize()}Time", value=seconds.get(step, 0.0), unit="s")
            for step in ("total", "search", "transfer", "preprocess")
        ]
        workspace.put(self._types[METRICS], MetricMeasurementBundle({"prepButlerTimeMetric": metrics}), run)

    def put_provenance(self, workspace: Workspace, run: str, facts: Mapping[str, Any]) -> None:
        """Write what ran on what, as plain data."""
        value = {"deployment_id": self._deployment_id, **facts}
        workspace.put(self._types[PROVENANCE], value, run)
