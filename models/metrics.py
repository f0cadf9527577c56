"""Metric values that the service records about its own work."""

from __future__ import annotations

__all__ = ["MeasuredBundle", "Metric", "MetricMeasurementBundle"]

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, RootModel


class Metric(BaseModel):
    """One measured value.

    Attributes
    ----------
    metric : `str`
        Its name.
    value : `float`
    unit : `str`
        Unit of the value, as `astropy.units` reads it.
    """

    model_config = ConfigDict(frozen=True)

    metric: str
    value: float
    unit: str = ""


class MetricMeasurementBundle(RootModel[dict[str, list[Metric]]]):
    """Metrics by the name of the action that measured them."""


@dataclass(frozen=True)
class MeasuredBundle:
    """A dataset of metrics, with what it belongs to, for upload.

    Attributes
    ----------
    id : `str`
        The dataset's UUID.
    dataset_type, run : `str`
    data_id : `dict` [`str`, `int` or `str`]
        Every dimension that is known, implied ones included.
    values : `dict` [`str`, `dict` [`str`, `float`]]
        Values by metric, by the action that measured them.
    unix_time : `float`
        When they were measured, UTC unix seconds.
    tag : `str` or `None`
        Name that the bundle gives the data it was measured on.
    """

    id: str
    dataset_type: str
    run: str
    data_id: Mapping[str, int | str]
    values: Mapping[str, Mapping[str, float]]
    unix_time: float
    tag: str | None = None
