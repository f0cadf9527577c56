"""Recorded visits under new names.

A service answers a visit that it has processed before without running it
again, and an APDB that holds a visit refuses it. So a night that is observed
once more gets new groups and new exposure ids, in the keys of its raws and in
their headers. Dates and pixels stay what they were.
"""

from __future__ import annotations

__all__ = ["RenewedFrame", "renew_ids"]

import gzip
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from astropy.io import fits
from astropy.time import Time

from config.instruments import InstrumentConfig
from models.raws import has_group_prefix
from models.times import day_obs
from simulator.camera import Injected
from simulator.plan import Frame, Plan, PlannedVisit, raw_key

#: Observation metadata that is renewed. Observation ids are unique in a repo,
#: as exposure ids are.
_RENEWED = ("exposure_id", "visit_id", "exposure_group", "observation_id")
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class RenewedFrame:
    """A frame with another exposure id.

    Attributes
    ----------
    original : `simulator.plan.Frame`
    exposure_id : `int`
    key : `str`
        Where the frame belongs, relative to the image directory or bucket.
    cards : mapping
        New values by FITS keyword, for the headers that have it.
    """

    original: Frame
    exposure_id: int
    key: str
    cards: Mapping[str, Any]

    @property
    def detector(self) -> int:
        """Detector id."""
        return self.original.detector

    @property
    def snap(self) -> int:
        """Number of the exposure within its visit, from 0."""
        return self.original.snap

    @property
    def injected(self) -> Injected | None:
        """The transients on the frame; None if the truth is not known."""
        return self.original.injected

    def read(self) -> bytes:
        """Return the bytes of the FITS file."""
        return _with_cards(self.original.read(), self.cards)


def renew_ids(plan: Plan, start: float) -> Plan:
    """Give visits new groups and exposures new ids.

    Parameters
    ----------
    plan : `simulator.plan.Plan`
        With keys in the generic form.
    start : `float`
        Time from which the ids count, TAI: an exposure's has the day of
        observation and the second of it, one second more for each exposure.

    Returns
    -------
    renewed : `simulator.plan.Plan`

    Raises
    ------
    ValueError
        Raised if ids of this camera's raws are in places that cannot be
        changed; says which.
    """
    keywords = _keywords(plan)
    moment = start
    visits = []
    for planned in plan.visits:
        visits.append(_renew(planned, moment, keywords))
        moment += len(planned.snaps)
    return replace(plan, visits=tuple(visits))


def _renew(planned: PlannedVisit, moment: float, keywords: Mapping[str, str]) -> PlannedVisit:
    visit = planned.visit
    group = str(Time(moment, format="unix_tai", scale="tai").isot)
    ids = {snap: _exposure_id(moment + number) for number, snap in enumerate(planned.snaps)}
    frames = []
    for frame in planned.frames:
        exposure = ids[frame.snap]
        values = {
            "exposure_id": exposure,
            "visit_id": exposure,
            "exposure_group": group,
            "observation_id": f"{visit.instrument}_{exposure}",
        }
        key = raw_key(
            visit.instrument,
            detector=frame.detector,
            group=group,
            snap=frame.snap,
            exposure_id=exposure,
            physical_filter=visit.filters,
            file_name=_file_name(frame),
        )
        cards = {keyword: values[name] for name, keyword in keywords.items()}
        frames.append(RenewedFrame(original=frame, exposure_id=exposure, key=key, cards=cards))
    return replace(planned, visit=visit.model_copy(update={"groupId": group}), frames=tuple(frames))


def _exposure_id(moment: float) -> int:
    # Observing days begin at noon, TAI.
    return day_obs(moment) * 100_000 + int((moment - 43_200.0) % 86_400.0)


def _keywords(plan: Plan) -> dict[str, str]:
    """Return the keywords to change, by what they say of the observation."""
    camera = plan.instrument
    if not has_group_prefix(camera.name):
        raise ValueError(f"the keys of {camera.name}'s raws are made of their exposure ids")
    fields = {name: camera.metadata[name] for name in _RENEWED if name in camera.metadata}
    constant = [name for name, field in fields.items() if field.key is None]
    fixed = sorted({name for frame in plan.frames for name in _fixed_by_name(camera, _file_name(frame))})
    if constant or fixed:
        raise ValueError(f"the file of camera {camera.name} fixes their {', '.join(constant or fixed)}")
    keywords = {name: field.key for name, field in fields.items() if field.key is not None}
    shared = [n for n, f in camera.metadata.items() if n not in fields and f.key in keywords.values()]
    if shared:
        raise ValueError(f"the cards that hold their ids hold {', '.join(shared)} too")
    return keywords


def _fixed_by_name(camera: InstrumentConfig, file_name: str) -> set[str]:
    return set(camera.overrides_for(file_name)).intersection(_RENEWED)


def _file_name(frame: Frame) -> str:
    return frame.key.rpartition("/")[2]


def _with_cards(content: bytes, cards: Mapping[str, Any]) -> bytes:
    """Change a FITS file's cards; one that a header does not have is not added."""
    if content.startswith(_GZIP_MAGIC):
        return gzip.compress(_with_cards(gzip.decompress(content), cards), compresslevel=1)
    written = io.BytesIO()
    # Pixels are passed on as they are stored, compressed ones as well.
    with fits.open(
        io.BytesIO(content), memmap=False, disable_image_compression=True, do_not_scale_image_data=True
    ) as hdus:
        for hdu in hdus:
            for keyword, value in cards.items():
                if keyword in hdu.header:
                    as_number = isinstance(hdu.header[keyword], int)
                    hdu.header[keyword] = int(value) if as_number else str(value)
                    hdu.header.remove("CHECKSUM", ignore_missing=True)
        hdus.writeto(written, output_verify="ignore")
    return written.getvalue()
