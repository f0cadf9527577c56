"""Alerts of one visit and detector."""

# mypy: disable-error-code="call-arg"
# (keywords of a class statement go to metaclasses that mypy does not see)

from __future__ import annotations

__all__ = ["MakeAlertsConfig", "MakeAlertsConnections", "MakeAlertsTask"]

from typing import Any

import lsst.pex.config as pexConfig
import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT
import pandas as pd

from models.alerts import AlertPackets
from models.images import PromptImage
from pipelines.alert_packets import AlertBuilder, CutoutMaker
from pipelines.dia_tables import rows_of
from repos.alert_schema import latest_alert_schema_version, load_alert_schema


class MakeAlertsConnections(pipeBase.PipelineTaskConnections, dimensions=("instrument", "visit", "detector")):
    """Inputs and outputs of `MakeAlertsTask`."""

    dia_source = cT.Input(
        name="dia_source",
        storageClass="DataFrame",
        dimensions=("instrument", "visit", "detector"),
        doc="DIA sources as stored in the APDB.",
    )
    dia_object = cT.Input(
        name="dia_object",
        storageClass="DataFrame",
        dimensions=("instrument", "visit", "detector"),
        doc="Their DIA objects.",
    )
    history = cT.Input(
        name="preloaded_dia_sources",
        storageClass="DataFrame",
        dimensions=("instrument", "group", "detector"),
        doc="Earlier DIA sources of known objects.",
    )
    forced_history = cT.Input(
        name="preloaded_dia_forced_sources",
        storageClass="DataFrame",
        dimensions=("instrument", "group", "detector"),
        doc="Earlier forced photometry of known objects.",
    )
    science = cT.Input(
        name="preliminary_visit_image",
        storageClass="PromptImage",
        dimensions=("instrument", "visit", "detector"),
        doc="Calibrated image, nJy.",
    )
    template = cT.Input(
        name="template_detector",
        storageClass="PromptImage",
        dimensions=("instrument", "visit", "detector"),
        doc="Template on the image's pixels, nJy.",
    )
    difference = cT.Input(
        name="difference_image",
        storageClass="PromptImage",
        dimensions=("instrument", "visit", "detector"),
        doc="Image minus matched template, nJy.",
    )
    alert_packets = cT.Output(
        name="alert_packets",
        storageClass="AlertPackets",
        dimensions=("instrument", "visit", "detector"),
        doc="Alerts in the LSST alert schema.",
    )


class MakeAlertsConfig(pipeBase.PipelineTaskConfig, pipelineConnections=MakeAlertsConnections):
    """Configuration of `MakeAlertsTask`."""

    half_cutout = pexConfig.Field(dtype=int, default=15, doc="Half side of a cutout, pixels.")
    alert_dipoles = pexConfig.Field(
        dtype=bool,
        default=True,
        doc="Alert of sources flagged as dipoles? They are in dia_source and in the APDB all the same.",
    )


class MakeAlertsTask(pipeBase.PipelineTask):
    """Make an alert of each DIA source."""

    ConfigClass = MakeAlertsConfig
    _DefaultName = "makeAlerts"

    def run(
        self,
        *,
        dia_source: pd.DataFrame,
        dia_object: pd.DataFrame,
        history: pd.DataFrame,
        forced_history: pd.DataFrame,
        science: PromptImage,
        template: PromptImage,
        difference: PromptImage,
    ) -> pipeBase.Struct:
        """Make the alerts of one visit and detector.

        Parameters
        ----------
        dia_source, dia_object, history, forced_history : `pandas.DataFrame`
        science, template, difference : `models.images.PromptImage`

        Returns
        -------
        result : `lsst.pipe.base.Struct`
            ``alert_packets``, in the order of `dia_source`.
        """
        version = latest_alert_schema_version()
        builder = AlertBuilder(load_alert_schema(version))
        objects = {int(row["diaObjectId"]): row for row in rows_of(dia_object)}
        previous = _by_object(history, set(objects))
        forced = _by_object(forced_history, set(objects))
        makers = {
            name: CutoutMaker(image, self.config.half_cutout)
            for name, image in (
                ("cutoutScience", science),
                ("cutoutTemplate", template),
                ("cutoutDifference", difference),
            )
        }
        packets: list[dict[str, Any]] = []
        for row in rows_of(dia_source):
            if row["isDipole"] and not self.config.alert_dipoles:
                continue
            object_id = int(row["diaObjectId"])
            cutouts = {name: maker.cut(row["x"], row["y"]) for name, maker in makers.items()}
            packets.append(
                builder.alert(
                    builder.record("diaSource", row),
                    builder.record("diaObject", objects[object_id]),
                    [builder.record("diaSource", r) for r in previous.get(object_id, ())],
                    [builder.record("diaForcedSource", r) for r in forced.get(object_id, ())],
                    cutouts,
                )
            )
        self.metadata["alerts"] = len(packets)
        self.log.info("%d alerts of %d DIA sources.", len(packets), len(dia_source))
        return pipeBase.Struct(alert_packets=AlertPackets(version, packets))


def _by_object(table: pd.DataFrame, wanted: set[int]) -> dict[int, list[dict[str, Any]]]:
    """Return the rows of wanted objects, by object."""
    result: dict[int, list[dict[str, Any]]] = {}
    for row in rows_of(table[table["diaObjectId"].isin(wanted)]):
        result.setdefault(int(row["diaObjectId"]), []).append(row)
    return result
