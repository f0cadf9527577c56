"""What is known of variable sky where a detector is about to look."""

# mypy: disable-error-code="call-arg"
# (keywords of a class statement go to metaclasses that mypy does not see)

from __future__ import annotations

__all__ = ["LoadDiaCatalogsConfig", "LoadDiaCatalogsConnections", "LoadDiaCatalogsTask"]

import lsst.pex.config as pexConfig
import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT
import numpy as np
import pandas as pd
from astropy.time import Time
from lsst.dax.apdb import Apdb, ApdbTables
from lsst.pipe.base.utils import RegionTimeInfo
from lsst.sphgeom import Region

from pipelines.apdb_access import open_apdb
from pipelines.dia_tables import empty_table, table_shape


class LoadDiaCatalogsConnections(
    pipeBase.PipelineTaskConnections, dimensions=("instrument", "group", "detector")
):
    """Inputs and outputs of `LoadDiaCatalogsTask`."""

    region_time = cT.Input(
        name="regionTimeInfo",
        storageClass="RegionTimeInfo",
        dimensions=("instrument", "group", "detector"),
        doc="Padded footprint and time of the announced exposure.",
    )
    dia_objects = cT.Output(
        name="preloaded_dia_objects",
        storageClass="DataFrame",
        dimensions=("instrument", "group", "detector"),
        doc="DIA objects in the footprint.",
    )
    dia_sources = cT.Output(
        name="preloaded_dia_sources",
        storageClass="DataFrame",
        dimensions=("instrument", "group", "detector"),
        doc="Their DIA sources so far.",
    )
    dia_forced_sources = cT.Output(
        name="preloaded_dia_forced_sources",
        storageClass="DataFrame",
        dimensions=("instrument", "group", "detector"),
        doc="Forced photometry of them so far.",
    )


class LoadDiaCatalogsConfig(pipeBase.PipelineTaskConfig, pipelineConnections=LoadDiaCatalogsConnections):
    """Configuration of `LoadDiaCatalogsTask`."""

    apdb_config_url = pexConfig.Field(
        dtype=str, default="", doc="Configuration file of the APDB, or label:<name>."
    )


class LoadDiaCatalogsTask(pipeBase.PipelineTask):
    """Read DIA objects and their history from the APDB."""

    ConfigClass = LoadDiaCatalogsConfig
    _DefaultName = "loadDiaCatalogs"

    def run(self, *, region_time: RegionTimeInfo) -> pipeBase.Struct:
        """Read the catalogues of one footprint.

        Parameters
        ----------
        region_time : `lsst.pipe.base.utils.RegionTimeInfo`

        Returns
        -------
        result : `lsst.pipe.base.Struct`
            ``dia_objects``, ``dia_sources`` and ``dia_forced_sources``, each
            with the columns of its APDB table and sorted by id and time.
        """
        apdb = open_apdb(self.config.apdb_config_url)
        region: Region = region_time.region
        when = region_time.timespan.begin or Time.now()
        objects = _inside(apdb.getDiaObjects(region), region)
        ids = objects["diaObjectId"].tolist()
        sources = self._history(apdb, ApdbTables.DiaSource, region, ids, when)
        forced = self._history(apdb, ApdbTables.DiaForcedSource, region, ids, when)
        self.metadata["dia_objects"] = len(objects)
        self.metadata["dia_sources"] = len(sources)
        self.log.info(
            "%d DIA objects with %d sources and %d forced sources.", len(objects), len(sources), len(forced)
        )
        return pipeBase.Struct(
            dia_objects=_sorted(objects, ["diaObjectId"]),
            dia_sources=_sorted(sources, ["diaObjectId", "midpointMjdTai", "diaSourceId"]),
            dia_forced_sources=_sorted(forced, ["diaObjectId", "midpointMjdTai", "diaForcedSourceId"]),
        )

    def _history(
        self, apdb: Apdb, table: ApdbTables, region: Region, ids: list[int], when: Time
    ) -> pd.DataFrame:
        if not ids:
            return empty_table(table_shape(apdb, table))
        query = apdb.getDiaSources if table is ApdbTables.DiaSource else apdb.getDiaForcedSources
        found = query(region, ids, when)
        return empty_table(table_shape(apdb, table)) if found is None else found


def _inside(objects: pd.DataFrame, region: Region) -> pd.DataFrame:
    """Leave out objects that the APDB returned for good measure."""
    if objects.empty:
        return objects
    ra, dec = np.radians(objects["ra"].to_numpy(float)), np.radians(objects["dec"].to_numpy(float))
    return objects.loc[np.asarray(region.contains(ra, dec), bool)]


def _sorted(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    return table.sort_values(by, kind="stable").reset_index(drop=True)
