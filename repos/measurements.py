"""The metric bundles among a visit's outputs, as plain values."""

from __future__ import annotations

__all__ = ["collect_measurements"]

import logging
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

from models.metrics import MeasuredBundle, Metric
from repos.workspace import Workspace

_log = logging.getLogger(__name__)

#: Storage class by which an output is known to hold metrics.
_STORAGE_CLASS = "MetricMeasurementBundle"


def collect_measurements(workspace: Workspace) -> tuple[MeasuredBundle, ...]:
    """Return what was measured of a visit, by its tasks and by the service.

    A bundle that cannot be read is left out: nobody waits for metrics.
    """
    bundles = []
    for ref in workspace.outputs():
        if ref.datasetType.storageClass_name != _STORAGE_CLASS:
            continue
        try:
            bundle = workspace.read(ref)
            bundles.append(
                MeasuredBundle(
                    id=str(ref.id),
                    dataset_type=ref.datasetType.name,
                    run=str(ref.run),
                    data_id={name: ref.dataId.mapping[name] for name in ref.dataId.mapping},
                    tag=getattr(bundle, "dataset_identifier", None),
                    values={action: dict(_values(metrics)) for action, metrics in _actions(bundle)},
                    unix_time=time.time(),
                )
            )
        except Exception:  # of whatever class the bundle is
            _log.exception("Metrics %s cannot be uploaded.", ref)
    return tuple(bundles)


def _actions(bundle: Any) -> Iterator[tuple[str, Any]]:
    # The observatory's own class is a mapping; ours holds one.
    yield from getattr(bundle, "root", bundle).items()


def _values(metrics: Any) -> Iterator[tuple[str, float]]:
    for metric in metrics:
        if isinstance(metric, Metric):
            name, value = metric.metric, metric.value
        else:
            form: Mapping[str, Any] = metric.json  # of lsst.verify.Measurement
            name, value = form["metric"], form["value"]
        # Missing values are 0 in Sasquatch (RFC-763).
        yield name, 0.0 if value is None or math.isnan(value) else float(value)
