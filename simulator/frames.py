"""Recorded frames as a night: the visits, the seed directory made of a stack.

Works for any directory whose files a camera file identifies: calibrated
frames (``raw_form: calibrated``) with a WCS, exposure ids and times given per
file under ``files``, and one deep stack to subtract.
"""

from __future__ import annotations

__all__ = ["FileFrame", "plan_frames"]

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astropy.io import fits
from astropy.time import Time

from config.instruments import InstrumentConfig, find_instrument_file, load_instrument
from models.errors import InvalidConfiguration
from models.visits import CoordinateSystem, Dome, RotationSystem, SummitVisit
from simulator.plan import Plan, PlannedVisit, raw_key
from simulator.stack_seed import StackSeed


@dataclass(frozen=True)
class FileFrame:
    """A frame that lies in a file and is sent as it is.

    Attributes
    ----------
    path : `pathlib.Path`
    detector, snap, exposure_id : `int`
    key : `str`
        Where the frame belongs, relative to the image directory or bucket.
    """

    path: Path
    detector: int
    snap: int
    exposure_id: int
    key: str

    @property
    def injected(self) -> None:
        """The truth is not known."""
        return None

    def read(self) -> bytes:
        """Return the file's bytes."""
        return self.path.read_bytes()


def plan_frames(
    data_dir: str | Path,
    *,
    instrument: InstrumentConfig | None = None,
    science: str = r"DEC-OBS18.\.mini\.fits",
    template: str = "Stack-DEC-OBS04.fits",
    survey: str = "frames",
) -> Plan:
    """Plan to send recorded frames.

    Parameters
    ----------
    data_dir : path-like
        Directory with the frames.
    instrument : `config.instruments.InstrumentConfig`, optional
        The camera; DecamStamps unless given.
    science : `str`, optional
        Regular expression of the names of the frames to send.
    template : `str`, optional
        Name of the stack that templates and reference catalogue are made of.
    survey : `str`, optional

    Returns
    -------
    plan : `simulator.plan.Plan`
        Its visits in the order of the file names; the truth is not known.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if frames or stack are not there, cannot be read, or the camera
        file does not say what they are.
    """
    data_dir = Path(data_dir)
    instrument = instrument or load_instrument(find_instrument_file("DecamStamps"))
    if not data_dir.is_dir():
        raise InvalidConfiguration(f"{data_dir} is not a directory; give one that holds frames")
    names = sorted(path.name for path in data_dir.iterdir())
    chosen = [name for name in names if re.fullmatch(science, name)]
    if not chosen or template not in names:
        raise InvalidConfiguration(
            f"{data_dir} must hold the stack {template} and frames with names like {science}; "
            f"it has {', '.join(names[:10]) or 'no files'}"
        )
    visits = tuple(
        _plan_file(instrument, data_dir / name, number, survey) for number, name in enumerate(chosen)
    )
    return Plan(
        instrument=instrument,
        visits=visits,
        seed_writer=StackSeed(instrument=instrument, stack=data_dir / template),
    )


def _plan_file(instrument: InstrumentConfig, path: Path, number: int, survey: str) -> PlannedVisit:
    try:
        header = fits.getheader(path, instrument.raw_hdu)
    except (OSError, IndexError) as error:
        raise InvalidConfiguration(f"{path} cannot be read: {error}") from error
    overrides = instrument.overrides_for(path.name)

    def find(name: str) -> Any:
        return _find_value(instrument, name, path, header, overrides)

    begin = Time(find("datetime_begin"), format="isot", scale="tai").unix_tai
    group = path.name.split(".")[0]
    exposure_id, physical_filter, detector = (
        int(find("exposure_id")),
        find("physical_filter"),
        int(find("detector_num")),
    )
    visit = SummitVisit(
        salIndex=1,
        scriptSalIndex=100_000 + number,
        groupId=group,
        coordinateSystem=CoordinateSystem.ICRS,
        position=(float(find("tracking_ra")), float(find("tracking_dec"))),
        startTime=begin,
        rotationSystem=RotationSystem.SKY,
        cameraAngle=float(find("boresight_rotation_angle")),
        filters=physical_filter,
        dome=Dome.OPEN,
        duration=float(find("exposure_time")) + 5.0,
        nimages=1,
        instrument=instrument.name,
        survey=survey,
        totalCheckpoints=1,
        private_sndStamp=begin - 20.0,
        private_identity="simulator",
    )
    key = raw_key(
        instrument.name,
        detector=detector,
        group=group,
        snap=0,
        exposure_id=exposure_id,
        physical_filter=physical_filter,
        file_name=path.name,
    )
    frame = FileFrame(path=path, detector=detector, snap=0, exposure_id=exposure_id, key=key)
    return PlannedVisit(visit=visit, detectors=(detector,), frames=(frame,))


def _find_value(
    instrument: InstrumentConfig, name: str, path: Path, header: fits.Header, overrides: Mapping[str, Any]
) -> Any:
    """Return a piece of metadata from where the camera file says it is."""
    if name in overrides:
        return overrides[name]
    source = instrument.metadata.get(name)
    if source is not None and source.key is None:
        return source.value
    if source is not None and source.key in header:
        return header[source.key]
    raise InvalidConfiguration(
        f"the file of camera {instrument.name} does not say where {path.name} has its {name}; "
        "add it under 'metadata' or 'files'"
    )
