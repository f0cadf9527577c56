"""What the repositories need to know of a visit before its images."""

from __future__ import annotations

__all__ = ["VisitContexts"]

from astropy.time import Time
from lsst.daf.butler import DimensionRecord, Timespan
from lsst.pipe.base.utils import RegionTimeInfo
from lsst.sphgeom import Region

from models.visits import FannedOutVisit
from repos.central import CentralRepo
from repos.collections import preload_run
from repos.data_ids import VisitDataIds
from repos.footprint import FootprintGeometry
from repos.workspace import VisitContext


class VisitContexts:
    """Makes the contexts of one instrument's visits.

    Parameters
    ----------
    central : `repos.central.CentralRepo`
    geometry : `repos.footprint.FootprintGeometry`
        Where the detectors look.
    deployment_id : `str`
    padding : `float`
        Arcseconds added around a detector's footprint.
    """

    def __init__(
        self, *, central: CentralRepo, geometry: FootprintGeometry, deployment_id: str, padding: float
    ) -> None:
        self._central = central
        self._geometry = geometry
        self._deployment_id = deployment_id
        self._padding = padding
        self._records: dict[tuple[str, int], dict[str, list[DimensionRecord]]] = {}

    def records(self, instrument: str, detector: int) -> dict[str, list[DimensionRecord]]:
        """Return the records of the instrument, a detector and all filters."""
        key = instrument, detector
        if key not in self._records:
            self._records[key] = self._central.instrument_records(instrument, detector)
        return self._records[key]

    def make(self, visit: FannedOutVisit, output_date: str) -> VisitContext:
        """Make the context of a visit.

        Parameters
        ----------
        visit : `models.visits.FannedOutVisit`
        output_date : `str`
            TAI date 12 h before processing began, YYYY-MM-DD.
        """
        known = self.records(visit.instrument, visit.detector)
        universe = self._central.universe
        group = universe["group"].RecordClass(instrument=visit.instrument, name=visit.groupId)
        values = {"instrument": visit.instrument, "detector": visit.detector, "group": visit.groupId}
        records = [*known["instrument"], *known["detector"], group]
        for record in known["physical_filter"]:
            if record.name == visit.filters:
                values["physical_filter"] = record.name
                values["band"] = record.band
                records.append(record)
        return VisitContext(
            instrument=visit.instrument,
            detector=visit.detector,
            group=visit.groupId,
            data_ids=VisitDataIds(universe, values, records),
            records=[*known["physical_filter"], group],
            preload_run=preload_run(visit.instrument, output_date, self._deployment_id),
        )

    def footprint(self, visit: FannedOutVisit) -> Region | None:
        """Return the padded area that the detector will cover, or None if
        that is not known.
        """
        if not visit.has_footprint:
            return None
        ra, dec = visit.position
        return self._geometry.detector_region(visit.detector, ra, dec, visit.cameraAngle, self._padding)

    def region_time_info(self, visit: FannedOutVisit, region: Region) -> RegionTimeInfo:
        """Return the area and time in which the observation will lie."""
        begin = Time(visit.private_sndStamp, format="unix_tai", scale="tai")
        end = Time(visit.private_sndStamp + 3.0 * visit.duration, format="unix_tai", scale="tai")
        return RegionTimeInfo(region=region, timespan=Timespan(begin, end))
