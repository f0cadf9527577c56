"""Understands raw images as datasets, without a registry.

What comes out is what a full Butler ingest of the same file would have made:
the same dataset id, data id and dimension records.
"""

from __future__ import annotations

__all__ = ["IngestedRaw", "RawIngester"]

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from astro_metadata_translator import ObservationInfo
from lsst.daf.butler import DatasetType, DimensionRecord, DimensionUniverse

from models.errors import UnreadableImage
from models.raws import FoundImage, LocalImage
from models.visits import FannedOutVisit
from repos.data_ids import VisitDataIds, output_ref
from repos.footprint import FootprintGeometry
from repos.observation import ObservationReader, sky_angle
from repos.visit_definition import dimension_records
from repos.workspace import IngestedExposure

#: Arcseconds added around the regions of visits, for the pointing's error.
REGION_PADDING = 5.0


@dataclass(frozen=True)
class IngestedRaw:
    """A raw image of the visit, understood but not yet read.

    Attributes
    ----------
    ingested : `repos.workspace.IngestedExposure`
        What a local repo takes.
    info : `astro_metadata_translator.ObservationInfo`
    sky_angle : `float` or `None`
        Focal +Y east of north, degrees.
    """

    ingested: IngestedExposure
    info: ObservationInfo
    sky_angle: float | None

    @property
    def exposure(self) -> int:
        """Exposure id."""
        return self.ingested.exposure


class RawIngester:
    """Makes datasets of the raw images of one instrument.

    Parameters
    ----------
    universe : `lsst.daf.butler.DimensionUniverse`
        Of the central repo.
    dataset_type : `lsst.daf.butler.DatasetType`
        Of raw images.
    run : `str`
        Collection for raw images.
    records : callable
        Takes an instrument and a detector; returns their records and those of
        all filters, by element.
    fetch : callable
        Takes an image; returns where it can be read on this machine, or raises
        `models.errors.UnreadableImage`.
    reader : `repos.observation.ObservationReader`
    geometry : `repos.footprint.FootprintGeometry`
    padding : `float`, optional
        Arcseconds added around the regions of visits.
    """

    def __init__(
        self,
        *,
        universe: DimensionUniverse,
        dataset_type: DatasetType,
        run: str,
        records: Callable[[str, int], Mapping[str, Sequence[DimensionRecord]]],
        fetch: Callable[[FoundImage], LocalImage],
        reader: ObservationReader,
        geometry: FootprintGeometry,
        padding: float = REGION_PADDING,
    ) -> None:
        self._universe = universe
        self._dataset_type = dataset_type
        self._run = run
        self._records = records
        self._fetch = fetch
        self._reader = reader
        self._geometry = geometry
        self._padding = padding

    def ingest(self, found: FoundImage, visit: FannedOutVisit) -> IngestedRaw:
        """Understand a raw image.

        Parameters
        ----------
        found : `models.raws.FoundImage`
            Known to be of this visit's group and detector.
        visit : `models.visits.FannedOutVisit`

        Returns
        -------
        raw : `IngestedRaw`

        Raises
        ------
        models.errors.UnreadableImage
            Raised if the file is truncated, not FITS, foreign, lacks
            keywords, or was taken through a filter that the repo does not
            know.
        """
        local = self._fetch(found)
        path = local.path
        header = self._reader.read_header(path)
        info = self._reader.observation_info(
            header, found.raw, group=visit.groupId, detector=visit.detector, file_name=path.name
        )
        known = self._records(visit.instrument, visit.detector)
        filter_record = _filter_record(path, info, known["physical_filter"])
        records = dimension_records(
            info, self._universe, self._geometry, detector=visit.detector, padding=self._padding
        )
        data_ids = VisitDataIds(
            self._universe,
            {
                "instrument": visit.instrument,
                "detector": visit.detector,
                "group": visit.groupId,
                "day_obs": info.observing_day,
                "exposure": info.exposure_id,
                "physical_filter": filter_record.name,
                "band": filter_record.band,
            },
            [
                *known["instrument"],
                *known["detector"],
                filter_record,
                self._universe["band"].RecordClass(name=filter_record.band),
                *(record for group in records.values() for record in group),
            ],
        )
        ref = output_ref(self._dataset_type, data_ids.get(self._dataset_type.dimensions), self._run)
        return IngestedRaw(
            ingested=IngestedExposure(
                ref=ref,
                path=str(path),
                exposure=info.exposure_id,
                visit=info.visit_id if "visit" in records else None,
                physical_filter=filter_record.name,
                band=filter_record.band,
                day_obs=info.observing_day,
                records=records,
                landed=local.landed,
            ),
            info=info,
            sky_angle=sky_angle(info),
        )


def _filter_record(path: Path, info: ObservationInfo, known: Sequence[DimensionRecord]) -> DimensionRecord:
    for record in known:
        if record.name == info.physical_filter:
            return record
    names = ", ".join(sorted(record.name for record in known)) or "none"
    raise UnreadableImage(
        f"{path} was taken through filter {info.physical_filter!r}, which the repo does not know; "
        f"it knows {names}"
    )
