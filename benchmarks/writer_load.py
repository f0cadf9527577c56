"""Messages to the writer as a night makes them, on a central repo of their own.

Each message has thirty datasets of thirty types and the dimension records of
its exposure and detector; sixteen detectors make an exposure.
"""

from __future__ import annotations

__all__ = ["WriterLoad"]

import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import astro_metadata_translator
import astropy.units as u
from astropy.coordinates import Angle, SkyCoord
from astropy.time import Time
from lsst.daf.butler import Butler, DataCoordinate, DatasetRef, DatasetType, DimensionRecord, FileDataset

from repos.registry_writer import Outputs

#: The repo stores class names such as sketch.model.ProtoCam.
YARDSTICK = Path(__file__).resolve().parent

RUN = "ProtoCam/prompt/output-2025-06-13/Bench/d1"
_FORMATTER = "lsst.daf.butler.formatters.yaml.YamlFormatter"
_DETECTORS = 16
_NIGHT = 20250613
#: Number of dataset types by dimensions; together thirty.
_TYPES = {
    ("instrument", "group", "detector"): 8,
    ("instrument", "exposure", "detector"): 4,
    ("instrument", "visit", "detector"): 18,
}


class WriterLoad:
    """A central repo and messages about it.

    Parameters
    ----------
    root : `pathlib.Path`
        Where the repo is made.
    database : `str`
        SQLAlchemy URL of its registry.
    """

    datasets_per_message = sum(_TYPES.values())

    def __init__(self, root: Path, database: str) -> None:
        if str(YARDSTICK) not in sys.path:
            sys.path.append(str(YARDSTICK))
        from sketch.central import make_central

        self.root = root
        make_central(str(root), (database,), ndet_cal=1)
        with Butler.from_config(str(root), writeable=True) as butler:
            self._universe = butler.dimensions
            self._types = [
                DatasetType(f"out_{group[1]}_{i}", group, "StructuredDataDict", universe=butler.dimensions)
                for group, count in _TYPES.items()
                for i in range(count)
            ]
            for dataset_type in self._types:
                butler.registry.registerDatasetType(dataset_type)
            butler.collections.register(RUN)

    def messages(self, first: int, count: int, *, with_files: bool = False) -> list[bytes]:
        """Make messages number `first` to ``first + count - 1``.

        Parameters
        ----------
        first, count : `int`
        with_files : `bool`
            Whether the files are put in place, for an ingest that looks.
        """
        made = []
        for number in range(first, first + count):
            outputs = self._outputs(*divmod(number, _DETECTORS))
            if with_files:
                for file in outputs.files:
                    path = self.root / str(file.path)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(b"{}\n")
            made.append(outputs.to_message())
        return made

    def registered(self) -> list[UUID]:
        """Return the ids of all datasets that a fresh client finds."""
        with Butler.from_config(str(self.root)) as butler:
            return [
                ref.id
                for dataset_type in self._types
                for ref in butler.query_datasets(
                    dataset_type, RUN, find_first=False, explain=False, limit=None
                )
            ]

    def expected(self, first: int, count: int) -> Iterator[UUID]:
        """Return the ids of the datasets of messages."""
        for number in range(first, first + count):
            yield from (file.refs[0].id for file in self._files(*divmod(number, _DETECTORS)))

    def _outputs(self, exposure_number: int, detector: int) -> Outputs:
        files = self._files(exposure_number, detector)
        return Outputs(self._records(_exposure(exposure_number), detector), files)

    def _files(self, exposure_number: int, detector: int) -> list[FileDataset]:
        exposure = _exposure(exposure_number)
        values: dict[str, Any] = dict.fromkeys(("exposure", "visit"), exposure)
        values |= {"instrument": "ProtoCam", "group": str(exposure), "detector": detector}
        files = []
        for dataset_type in self._types:
            data_id = DataCoordinate.from_required_values(
                dataset_type.dimensions, tuple(values[name] for name in dataset_type.dimensions.required)
            )
            name = f"{dataset_type.name}_{exposure}_D{detector:02d}"
            ref = DatasetRef(dataset_type, data_id, run=RUN, id=uuid.uuid5(uuid.NAMESPACE_OID, name))
            path = f"{RUN}/{dataset_type.name}/{exposure}/{name}.yaml"
            files.append(FileDataset(path, [ref], formatter=_FORMATTER))
        return files

    def _records(self, exposure: int, detector: int) -> list[DimensionRecord]:
        from sketch.common import records_for
        from sketch.model import ProtoCam

        begin = Time("2025-06-14T02:00:00", scale="tai")
        info = astro_metadata_translator.makeObservationInfo(
            instrument="ProtoCam",
            exposure_id=exposure,
            visit_id=exposure,
            exposure_group=str(exposure),
            observation_id=f"PC_{exposure}",
            physical_filter="g_6",
            detector_num=detector,
            datetime_begin=begin,
            datetime_end=begin + 30 * u.s,
            exposure_time=30 * u.s,
            observation_type="science",
            observing_day=_NIGHT,
            tracking_radec=SkyCoord(225.0, -38.0, unit="deg"),
            boresight_rotation_angle=Angle(10 * u.deg),
            boresight_rotation_coord="sky",
            observation_counter=exposure % 100_000,
            object="field",
        )
        found = records_for(info, self._universe, ProtoCam.camera(), [detector])
        return [self._universe[name].RecordClass(**row) for name, rows in found.items() for row in rows]


def _exposure(number: int) -> int:
    return _NIGHT * 100_000 + number
