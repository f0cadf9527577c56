"""What the header of a raw image says of its observation.

`ObservationReader` turns a header into the common terms of
`astro_metadata_translator.ObservationInfo`, as the camera's file prescribes
(see ``metadata`` and ``files`` of `config.instruments.InstrumentConfig`).
"""

from __future__ import annotations

__all__ = ["Header", "ObservationReader", "sky_angle"]

import math
from os import PathLike
from typing import Any

import astropy.units as u
from astro_metadata_translator import ObservationInfo, makeObservationInfo
from astropy.coordinates import SkyCoord
from astropy.io.fits.card import Undefined
from astropy.time import TimeDelta

from config.instruments import HeaderField, InstrumentConfig
from models.errors import InvalidConfiguration, UnreadableImage
from models.raws import RawKey
from repos.fits_header import Header, read_fits_header
from repos.header_values import POINTING, Convert, value_converter

#: Half a day: the day of observation ends at noon, by TAI.
_HALF_DAY = TimeDelta(0.5, format="jd")


class ObservationReader:
    """Reads the headers of one camera's raw images.

    Parameters
    ----------
    instrument : `config.instruments.InstrumentConfig`

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if the camera file names a property that does not exist or
        cannot be read from a header, or an unknown unit.
    """

    def __init__(self, instrument: InstrumentConfig) -> None:
        self._instrument = instrument
        self._converters: dict[str, Convert] = {}
        faults = []
        names = {*instrument.metadata, *(name for values in instrument.files.values() for name in values)}
        for name in sorted(names):
            field = instrument.metadata.get(name) or HeaderField(value="")
            try:
                self._converters[name] = value_converter(name, field)
            except ValueError as error:
                faults.append(f"{name}: {error}")
        if faults:
            raise InvalidConfiguration(f"metadata of instrument {instrument.name}: {'; '.join(faults)}")

    def read_header(self, path: str | PathLike[str]) -> Header:
        """Read the header of a raw image, making sure that the file is whole.

        Parameters
        ----------
        path : path-like
            A FITS file, compressed or not.

        Returns
        -------
        header : mapping
            Cards of the HDU with the pixels, which win, and of the primary
            HDU.

        Raises
        ------
        models.errors.UnreadableImage
            Raised if the file cannot be read, is truncated, is not FITS, or
            belongs to another camera; the text names the file.
        """
        header = read_fits_header(path, self._instrument.raw_hdu)
        field = self._instrument.metadata.get("instrument")
        if field is not None and field.key is not None:
            found = header.get(field.key)
            if found != self._instrument.name:
                raise UnreadableImage(
                    f"{path} is foreign: {field.key} is {found!r}, not {self._instrument.name!r}"
                )
        return header

    def observation_info(
        self, header: Header, raw: RawKey, *, group: str, detector: int, file_name: str
    ) -> ObservationInfo:
        """Describe an observation in common terms.

        Parameters
        ----------
        header : mapping
            As from `read_header`.
        raw : `models.raws.RawKey`
            What the file's path says; the exposure id comes from here, other
            values do where the header has none.
        group : `str`
            From the path or the sidecar; whatever the header says of it is
            not asked.
        detector : `int`
        file_name : `str`
            Name without directories, for the camera file's ``files``.

        Returns
        -------
        info : `astro_metadata_translator.ObservationInfo`
            With at least instrument, exposure and visit id, group, detector,
            filter, begin, end and length of the exposure (TAI), observation
            type and id, day of observation and counter.

        Raises
        ------
        models.errors.UnreadableImage
            Raised if keywords are missing or cannot be understood, which are
            all named, or if exposure or detector are not those of the path.
        """
        values, missing = self._values(header, file_name)
        self._check_same(file_name, "exposure", values.get("exposure_id"), raw.exposure_id)
        self._check_same(file_name, "detector", values.get("detector_num"), detector)
        if values.get("physical_filter") is None and raw.physical_filter:
            values["physical_filter"] = raw.physical_filter
        _complete_times(values)
        required = ("physical_filter", "datetime_begin", "datetime_end", "exposure_time")
        lacking = [name for name in required if values.get(name) is None]
        if lacking:
            names = ", ".join(
                f"{missing.get(name, 'nothing in the camera file')} ({name})" for name in lacking
            )
            raise UnreadableImage(f"{file_name} lacks header keywords: {names}")
        if values["datetime_end"] < values["datetime_begin"]:
            raise UnreadableImage(f"{file_name} ends before it begins")
        values.update(
            instrument=self._instrument.name,
            exposure_id=raw.exposure_id,
            # Visits are defined one-to-one with exposures.
            visit_id=raw.exposure_id,
            exposure_group=group,
            detector_num=detector,
        )
        self._add_defaults(values, raw)
        try:
            return makeObservationInfo(**values)
        except (ValueError, TypeError, KeyError) as error:
            raise UnreadableImage(f"{file_name} describes no valid observation: {error}") from error

    def _values(self, header: Header, file_name: str) -> tuple[dict[str, Any], dict[str, str]]:
        """Return property values, and the keywords of those that are missing."""
        overrides = self._instrument.overrides_for(file_name)
        values: dict[str, Any] = {}
        missing: dict[str, str] = {}
        faults = []
        for name, convert in self._converters.items():
            field = self._instrument.metadata.get(name)
            where = "the camera file"
            if name in overrides:
                value = overrides[name]
            elif field is None:
                continue
            elif field.key is None:
                value = field.value
            else:
                where = field.key
                value = header.get(field.key)
                if value is None or value == "" or isinstance(value, Undefined):
                    missing[name] = field.key
                    continue
            try:
                values[name] = convert(value)
            except (ValueError, TypeError, OverflowError) as error:
                faults.append(f"{where} ({name}) is {value!r}: {error}")
        if faults:
            raise UnreadableImage(f"{file_name} has unusable header values: {'; '.join(faults)}")
        ra, dec = (values.pop(name, None) for name in POINTING)
        if ra is not None and dec is not None and math.isfinite(ra.deg) and math.isfinite(dec.deg):
            try:
                values["tracking_radec"] = SkyCoord(ra, dec, frame="icrs")
            except ValueError as error:
                raise UnreadableImage(f"{file_name} points nowhere on the sky: {error}") from error
        return values, missing

    @staticmethod
    def _check_same(file_name: str, what: str, found: int | None, expected: int) -> None:
        if found is not None and found != expected:
            raise UnreadableImage(
                f"{file_name} is foreign: its header is of {what} {found}, its path of {expected}"
            )

    @staticmethod
    def _add_defaults(values: dict[str, Any], raw: RawKey) -> None:
        """Fill in what everybody needs and few headers say."""
        values.setdefault("dark_time", values["exposure_time"])
        values.setdefault("observation_type", "science")
        values.setdefault("observation_id", f"{values['instrument']}_{raw.exposure_id}")
        values.setdefault("observation_counter", raw.exposure_id % 100_000)
        if "boresight_rotation_angle" in values:
            values.setdefault("boresight_rotation_coord", "sky")
        if values.get("observing_day") is None:
            day = (values["datetime_begin"].tai - _HALF_DAY).strftime("%Y%m%d")
            values["observing_day"] = raw.day_obs or int(day)


def sky_angle(info: ObservationInfo) -> float | None:
    """Return the orientation of an image on the sky.

    Returns
    -------
    angle : `float` or `None`
        Focal +Y east of north, degrees; None if it is not known.
    """
    if info.boresight_rotation_angle is None or info.boresight_rotation_coord != "sky":
        return None
    angle = float(info.boresight_rotation_angle.deg)
    return angle if math.isfinite(angle) else None


def _complete_times(values: dict[str, Any]) -> None:
    """Derive the end from begin and length, or the length from both ends."""
    begin, end, length = (values.get(n) for n in ("datetime_begin", "datetime_end", "exposure_time"))
    if begin is not None and end is None and length is not None:
        values["datetime_end"] = begin.tai + length
    elif begin is not None and end is not None and length is None:
        values["exposure_time"] = (end.tai - begin.tai).to(u.s)
