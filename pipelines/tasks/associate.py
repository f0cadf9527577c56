"""DIA sources become part of DIA objects, and both part of the APDB."""

# mypy: disable-error-code="call-arg"
# (keywords of a class statement go to metaclasses that mypy does not see)

from __future__ import annotations

__all__ = ["AssociateConfig", "AssociateConnections", "AssociateTask"]

from typing import Any

import lsst.pex.config as pexConfig
import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT
import numpy as np
import pandas as pd
from astropy.table import Table
from astropy.time import Time
from lsst.dax.apdb import ApdbTables

from models.ids import pack_source_id
from models.images import PromptImage
from pipelines.algorithms.photometry import psf_photometry
from pipelines.apdb_access import open_apdb, store_lock
from pipelines.dia_tables import conform, match_to_objects, summarise_objects, table_shape


class AssociateConnections(pipeBase.PipelineTaskConnections, dimensions=("instrument", "visit", "detector")):
    """Inputs and outputs of `AssociateTask`."""

    detected = cT.Input(
        name="dia_source_unassociated",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit", "detector"),
        doc="Sources in the difference image, without ids.",
    )
    science = cT.Input(
        name="preliminary_visit_image",
        storageClass="PromptImage",
        dimensions=("instrument", "visit", "detector"),
        doc="Calibrated image, nJy.",
    )
    difference = cT.Input(
        name="difference_image",
        storageClass="PromptImage",
        dimensions=("instrument", "visit", "detector"),
        doc="Image minus matched template, nJy.",
    )
    known_objects = cT.Input(
        name="preloaded_dia_objects",
        storageClass="DataFrame",
        dimensions=("instrument", "group", "detector"),
        doc="DIA objects in the footprint.",
    )
    history = cT.Input(
        name="preloaded_dia_sources",
        storageClass="DataFrame",
        dimensions=("instrument", "group", "detector"),
        doc="Their DIA sources so far.",
    )
    dia_source = cT.Output(
        name="dia_source",
        storageClass="DataFrame",
        dimensions=("instrument", "visit", "detector"),
        doc="DIA sources as stored in the APDB.",
    )
    dia_object = cT.Output(
        name="dia_object",
        storageClass="DataFrame",
        dimensions=("instrument", "visit", "detector"),
        doc="DIA objects that are new or have a new source, as stored in the APDB.",
    )
    dia_forced_source = cT.Output(
        name="dia_forced_source",
        storageClass="DataFrame",
        dimensions=("instrument", "visit", "detector"),
        doc="Photometry at DIA objects, as stored in the APDB.",
    )


class AssociateConfig(pipeBase.PipelineTaskConfig, pipelineConnections=AssociateConnections):
    """Configuration of `AssociateTask`."""

    apdb_config_url = pexConfig.Field(
        dtype=str, default="", doc="Configuration file of the APDB, or label:<name>."
    )
    radius = pexConfig.Field(
        dtype=float, default=1.0, doc="Distance within which a source belongs to an object, arcseconds."
    )
    forced_photometry = pexConfig.Field(
        dtype=bool, default=True, doc="Measure all known objects, whether or not they are seen?"
    )


class AssociateTask(pipeBase.PipelineTask):
    """Match DIA sources to known objects and store everything in the APDB.

    Ids follow from visit, detector and the order of the sources, see
    `models.ids`; a new object has the id of its first source.
    """

    ConfigClass = AssociateConfig
    _DefaultName = "associate"

    def run(
        self,
        *,
        detected: Table,
        science: PromptImage,
        difference: PromptImage,
        known_objects: pd.DataFrame,
        history: pd.DataFrame,
    ) -> pipeBase.Struct:
        """Associate the sources of one visit and detector.

        Parameters
        ----------
        detected : `astropy.table.Table`
        science, difference : `models.images.PromptImage`
        known_objects, history : `pandas.DataFrame`

        Returns
        -------
        result : `lsst.pipe.base.Struct`
            ``dia_source``, ``dia_object`` and ``dia_forced_source``.
        """
        apdb = open_apdb(self.config.apdb_config_url)
        header = difference.header
        mjd = float(header["MJD-MID"])
        common = {
            "visit": int(header["VISIT"]),
            "detector": int(header["DETECTOR"]),
            "band": str(header["BAND"]),
            "midpointMjdTai": mjd,
            "timeProcessedMjdTai": float(Time.now().tai.mjd),
        }
        sources = self._identify(detected, known_objects, common, float(header["EXPTIME"]))
        shape = table_shape(apdb, ApdbTables.DiaSource)
        objects = summarise_objects(known_objects, history, sources, mjd) if len(sources) else sources[:0]
        dia_source = conform(sources, shape)
        dia_object = conform(objects, table_shape(apdb, ApdbTables.DiaObject))
        places = pd.concat(
            [t.reindex(columns=["diaObjectId", "ra", "dec"]) for t in (dia_object, known_objects) if len(t)]
            or [dia_object.reindex(columns=["diaObjectId", "ra", "dec"])]
        ).drop_duplicates("diaObjectId")
        forced = self._force(
            places if self.config.forced_photometry else places[:0], science, difference, common
        )
        dia_forced_source = conform(forced, table_shape(apdb, ApdbTables.DiaForcedSource))
        with store_lock(apdb):
            apdb.store(
                Time(mjd, format="mjd", scale="tai"),
                dia_object.drop(columns="validityStartMjdTai"),
                dia_source,
                dia_forced_source,
            )
        new = int((dia_object["nDiaSources"] == 1).sum())
        self.metadata["new_objects"] = new
        self.metadata["updated_objects"] = len(dia_object) - new
        self.metadata["forced_sources"] = len(dia_forced_source)
        self.log.info(
            "%d DIA sources: %d new objects, %d known ones; %d forced sources.",
            len(dia_source), new, len(dia_object) - new, len(dia_forced_source),
        )  # fmt: skip
        return pipeBase.Struct(
            dia_source=dia_source, dia_object=dia_object, dia_forced_source=dia_forced_source
        )

    def _identify(
        self, detected: Table, known: pd.DataFrame, common: dict[str, Any], exposure_time: float
    ) -> pd.DataFrame:
        """Give each source its id and that of its object."""
        sources = detected.to_pandas()
        for name, value in common.items():
            sources[name] = value
        sources["exposureTime"] = exposure_time
        ids = np.array(
            [pack_source_id(common["visit"], common["detector"], k) for k in range(len(sources))], np.int64
        )
        matches = match_to_objects(
            (sources["ra"].to_numpy(float), sources["dec"].to_numpy(float)),
            (known["ra"].to_numpy(float), known["dec"].to_numpy(float)),
            self.config.radius,
        )
        known_ids = np.append(known["diaObjectId"].to_numpy(np.int64), 0)
        sources["diaSourceId"] = ids
        sources["diaObjectId"] = np.where(matches >= 0, known_ids[matches], ids)
        return sources

    def _force(
        self, places: pd.DataFrame, science: PromptImage, difference: PromptImage, common: dict[str, Any]
    ) -> pd.DataFrame:
        """Measure flux at the places of objects that lie on the detector."""
        assert difference.variance is not None and science.variance is not None and difference.psf is not None
        forced = places.sort_values("diaObjectId").reset_index(drop=True)
        if len(forced):
            x, y = difference.wcs.all_world2pix(
                forced["ra"].to_numpy(float), forced["dec"].to_numpy(float), 0, quiet=True
            )
            ny, nx = difference.shape
            inside = (x > -0.5) & (x < nx - 0.5) & (y > -0.5) & (y < ny - 0.5)
            forced, x, y = forced[inside].reset_index(drop=True), x[inside], y[inside]
        else:
            x = y = np.empty(0)
        psf = difference.psf
        changed = psf_photometry(difference.image, difference.variance, difference.unusable(), psf, x, y)
        direct = psf_photometry(science.image, science.variance, science.unusable(), psf, x, y)
        forced["psfFlux"], forced["psfFluxErr"] = changed.flux, changed.error
        forced["scienceFlux"], forced["scienceFluxErr"] = direct.flux, direct.error
        for name, value in common.items():
            forced[name] = value
        forced["diaForcedSourceId"] = [
            pack_source_id(common["visit"], common["detector"], k) for k in range(len(forced))
        ]
        return forced
