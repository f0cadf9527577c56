"""A stand-in for the observatory's ``analysis_tools``, which is in no package
registry.

The Butler's storage class ``MetricMeasurementBundle`` names the class in this
module, and datasets of that class can be read only if it can be imported.
Neither ``lsst`` nor ``lsst.analysis`` is a regular package here, so where the
real ``analysis_tools`` is installed, Python finds that one.
"""

from __future__ import annotations

__all__ = ["MetricMeasurementBundle"]

from models.metrics import MetricMeasurementBundle
