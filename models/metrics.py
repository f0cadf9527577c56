"""Metric values that the service records about its own work."""

from __future__ import annotations

__all__ = ["Metric", "MetricMeasurementBundle"]

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
