"""Keys of raw images: where a raw lies says what it is.

A key is the path of an object in the image bucket, or of a file relative to
the image directory. Its first element, the camera, decides which of three
forms the rest has. Everything here is pure text: a key that arrives
URL-encoded is decoded by whoever received it, and detector numbers that only
the central repo knows are left out.
"""

from __future__ import annotations

__all__ = [
    "FoundImage",
    "LocalImage",
    "RawForm",
    "RawKey",
    "generic_prefix",
    "has_group_prefix",
    "parse_raw_key",
]

import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from models.errors import InvalidMessage


class RawForm(StrEnum):
    """The three forms of raw keys."""

    LSST = "lsst"
    """``<camera>/<dayobs>/<obsid>/<obsid>_R\\d\\d_S.\\d.<ext>``"""
    IMSIM = "imsim"
    """``<instrument>/<dayobs>/<expid>/<expid>_<filter>_<detector>_R\\d\\d_S.\\d.<ext>``"""
    GENERIC = "generic"
    """``<instrument>/<detector>/<group>/<snap>/<expid>/<filter>/<anything>.<ext>``"""


#: Cameras whose keys have the LSST form, with their short names.
_LSST_CAMERAS = {
    "LATISS": "LATISS",
    "ComCam": "LSSTComCam",
    "LSSTComCam": "LSSTComCam",
    "LSSTComCamSim": "LSSTComCamSim",
    "LSSTCam": "LSSTCam",
    "TS8": "LSST-TS8",
    "LSST-TS8": "LSST-TS8",
}
_IMSIM_CAMERA = "LSSTCam-imSim"

#: Exposure ids of the LSST cameras are dayobs * this + sequence number.
_EXPOSURES_A_DAY = 100_000

# Digits are limited to what fits the repo's 64-bit integers, and written out
# because \d accepts the digits of every script. The extension begins with
# "f"; a sidecar of a file such as "x.fits" must not count as an image.
_EXTENSION = r"f(?![^/]*\.json\Z)[^/]*"
_DETECTOR_NAME = r"(?P<detector_name>R[0-9]{2}_S[^/][0-9])"
_LSST = re.compile(
    r"[^/]+/(?P<day_obs>[0-9]{8})/"
    r"(?P<stem>[A-Za-z0-9]+_[A-Za-z0-9]+_(?P=day_obs)_(?P<seq>[0-9]{6}))/"
    rf"(?P<name>(?P=stem)_{_DETECTOR_NAME})\.{_EXTENSION}"
)
_IMSIM = re.compile(
    r"[^/]+/(?P<day_obs>[0-9]{8})/(?P<exposure>[0-9]{1,18})/"
    rf"(?P<name>(?P=exposure)_(?P<filter>[^/]*)_(?P<detector>[0-9]{{1,9}})_{_DETECTOR_NAME})\.{_EXTENSION}"
)
_GENERIC = re.compile(
    r"(?P<instrument>[^/]+)/(?P<detector>[0-9]{1,9})/(?P<group>[^/]+)/(?P<snap>[0-9]{1,9})/"
    rf"(?P<exposure>[0-9]{{1,18}})/(?P<filter>[^/]*)/[^/]+\.{_EXTENSION}"
)


@dataclass(frozen=True)
class RawKey:
    """What the key of a raw image says about it.

    What a form of key does not tell is `None`.
    """

    key: str
    """The key itself, relative to the bucket or the image directory."""
    form: RawForm
    """Which form the key has."""
    instrument: str
    """Short name of the camera, aliases resolved (ComCam is LSSTComCam)."""
    exposure_id: int
    """The Butler's exposure id."""
    detector: int | None
    """Detector number; None where only the repo's detector records tell."""
    detector_name: str | None
    """Full name of the detector, such as ``R22_S11``."""
    group: str | None
    """Group; None for the forms whose sidecar alone tells."""
    snap: int | None
    """Number of the exposure within its visit, from 0."""
    physical_filter: str | None
    """Physical filter."""
    day_obs: int | None
    """Day of observation, YYYYMMDD."""

    @property
    def sidecar_key(self) -> str | None:
        """Key of the JSON file that tells the group; None if the key does."""
        if self.form is RawForm.GENERIC:
            return None
        folder, _, name = self.key.rpartition("/")
        # The extension begins at the first dot after the detector name: the
        # filter in the name may hold dots, and so may the extension.
        start = name.rindex(f"_{self.detector_name}.") + len(f"_{self.detector_name}")
        return f"{folder}/{name[:start]}.json"


@dataclass(frozen=True)
class FoundImage:
    """A raw image that exists."""

    raw: RawKey
    """What its key says."""
    location: str
    """Absolute path, or ``s3://`` URI."""
    landed: float | None = field(default=None, compare=False)
    """When it was there, whole and at its final name, UTC unix time in
    seconds; None if whoever found it was not told.
    """


@dataclass(frozen=True)
class LocalImage:
    """A raw image on this machine."""

    path: Path
    """Where it can be read until the next one is asked for."""
    landed: float | None
    """When it was at its final name, UTC unix time in seconds, as well as
    that is known.
    """


def parse_raw_key(key: str) -> RawKey:
    """Read the key of a raw image.

    Parameters
    ----------
    key : `str`
        Path relative to the bucket or the image directory, not URL-encoded.

    Returns
    -------
    raw : `RawKey`
        What the key says.

    Raises
    ------
    models.errors.InvalidMessage
        Raised if this is not the key of a raw image; sidecars are none.
    """
    camera = key.partition("/")[0]
    if camera in _LSST_CAMERAS:
        return _parse_lsst(key, _LSST_CAMERAS[camera])
    if camera == _IMSIM_CAMERA:
        match = _match(_IMSIM, key, RawForm.IMSIM)
        return RawKey(
            key=key,
            form=RawForm.IMSIM,
            instrument=camera,
            exposure_id=int(match["exposure"]),
            detector=int(match["detector"]),
            detector_name=match["detector_name"],
            group=None,
            snap=None,
            physical_filter=match["filter"],
            day_obs=int(match["day_obs"]),
        )
    match = _match(_GENERIC, key, RawForm.GENERIC)
    return RawKey(
        key=key,
        form=RawForm.GENERIC,
        instrument=match["instrument"],
        exposure_id=int(match["exposure"]),
        detector=int(match["detector"]),
        detector_name=None,
        group=match["group"],
        snap=int(match["snap"]),
        physical_filter=match["filter"],
        day_obs=None,
    )


def generic_prefix(instrument: str, detector: int, group: str, snap: int) -> str:
    """Return what the keys of one snap begin with, in the generic form."""
    return f"{instrument}/{detector}/{group}/{snap}/"


def has_group_prefix(instrument: str) -> bool:
    """Say whether the keys of an instrument's raws begin with `generic_prefix`."""
    return instrument not in _LSST_CAMERAS and instrument != _IMSIM_CAMERA


def _parse_lsst(key: str, instrument: str) -> RawKey:
    match = _match(_LSST, key, RawForm.LSST)
    return RawKey(
        key=key,
        form=RawForm.LSST,
        instrument=instrument,
        exposure_id=int(match["day_obs"]) * _EXPOSURES_A_DAY + int(match["seq"]),
        detector=_lsst_detector(instrument, match["detector_name"]),
        detector_name=match["detector_name"],
        group=None,
        snap=None,
        physical_filter=None,
        day_obs=int(match["day_obs"]),
    )


def _lsst_detector(instrument: str, name: str) -> int | None:
    """Number a detector whose file name does not equal its full name."""
    if instrument == "LATISS" and name == "R00_S00":
        return 0
    if instrument == "LSST-TS8" and (match := re.fullmatch(r"R22_S([0-2])([0-2])", name)):
        return 3 * int(match[1]) + int(match[2])
    return None


def _match(pattern: re.Pattern[str], key: str, form: RawForm) -> re.Match[str]:
    match = pattern.fullmatch(key)
    if match is None:
        raise InvalidMessage(f"{key!r} is not the key of a raw image; expected {_EXPECTED[form]}")
    return match


_EXPECTED = {
    RawForm.LSST: "<camera>/<dayobs>/<obsid>/<obsid>_Rnn_Sxn.<ext>, the extension beginning with f",
    RawForm.IMSIM: "<instrument>/<dayobs>/<expid>/<expid>_<filter>_<detector>_Rnn_Sxn.<ext>, "
    "the extension beginning with f",
    RawForm.GENERIC: "<instrument>/<detector>/<group>/<snap>/<expid>/<filter>/<name>.<ext>, "
    "the extension beginning with f",
}
