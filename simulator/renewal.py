"""Recorded visits under new names, and of today.

A service answers a visit that it has processed before without running it
again, and an APDB holds one version of an object at a time. So a night that
is observed once more gets new groups, exposure ids and dates, in the keys of
its raws and in their headers. The pixels stay what they were.
"""

from __future__ import annotations

__all__ = ["RenewedFrame", "renew_ids"]

import gzip
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from astropy.io import fits
from astropy.time import Time

from config.instruments import HeaderField, InstrumentConfig
from models.raws import has_group_prefix
from models.times import day_obs
from simulator.camera import Injected
from simulator.plan import Frame, Plan, PlannedVisit, raw_key

#: Observation metadata that is renewed. The last wins where one card holds
#: several. Observation ids are unique in a repo, as exposure ids are.
_RENEWED = (
    "observation_counter",
    "observing_day",
    "exposure_group",
    "observation_id",
    "visit_id",
    "exposure_id",
)
_DATES = ("datetime_begin", "datetime_end")
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class RenewedFrame:
    """A frame with another exposure id and date.

    Attributes
    ----------
    original : `simulator.plan.Frame`
    exposure_id : `int`
    key : `str`
        Where the frame belongs, relative to the image directory or bucket.
    cards : mapping
        New values by FITS keyword, for the headers that have it.
    dates : sequence of `config.instruments.HeaderField`
        Where the header has begin and end of the exposure.
    begin : `float`
        The new begin, TAI.
    """

    original: Frame
    exposure_id: int
    key: str
    cards: Mapping[str, Any]
    dates: Sequence[HeaderField]
    begin: float

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
        return self._renew(self.original.read())

    def _renew(self, content: bytes) -> bytes:
        if content.startswith(_GZIP_MAGIC):
            return gzip.compress(self._renew(gzip.decompress(content)), compresslevel=1)
        written = io.BytesIO()
        # Pixels are passed on as they are stored, compressed ones as well.
        with fits.open(
            io.BytesIO(content), memmap=False, disable_image_compression=True, do_not_scale_image_data=True
        ) as hdus:
            for hdu in hdus:
                cards = {**_shifted(hdu.header, self.dates, self.begin), **self.cards}
                for keyword in cards.keys() & hdu.header.keys():
                    as_number = isinstance(hdu.header[keyword], int)
                    hdu.header[keyword] = int(cards[keyword]) if as_number else cards[keyword]
                    hdu.header.remove("CHECKSUM", ignore_missing=True)
            hdus.writeto(written, output_verify="ignore")
        return written.getvalue()


def renew_ids(plan: Plan, start: float) -> Plan:
    """Give visits new groups and dates, and exposures new ids.

    Parameters
    ----------
    plan : `simulator.plan.Plan`
        With keys in the generic form.
    start : `float`
        Begin of the first exposure, TAI; the visits follow one another at
        the nominal pace. An exposure's id has the day of observation and the
        second of it.

    Returns
    -------
    renewed : `simulator.plan.Plan`

    Raises
    ------
    ValueError
        Raised if ids or dates of this camera's raws are in places that cannot
        be changed; says which.
    """
    _check(plan)
    moment = start
    visits = []
    for planned in plan.visits:
        visits.append(_renew(plan.instrument, planned, moment))
        # A second apart at least, because the ids are.
        moment += max(planned.visit.duration, len(planned.snaps))
    return replace(plan, visits=tuple(visits))


def _renew(camera: InstrumentConfig, planned: PlannedVisit, moment: float) -> PlannedVisit:
    visit = planned.visit
    group = str(Time(moment, format="unix_tai", scale="tai").isot)
    pace = max(visit.duration / max(len(planned.snaps), 1), 1.0)
    begins = {snap: moment + number * pace for number, snap in enumerate(planned.snaps)}
    dates = [camera.metadata[name] for name in _DATES if name in camera.metadata]
    frames = []
    for frame in planned.frames:
        begin = begins[frame.snap]
        # Observing days begin at noon, TAI.
        day, counter = day_obs(begin), int((begin - 43_200.0) % 86_400.0)
        exposure = day * 100_000 + counter
        values = {
            "exposure_id": exposure,
            "visit_id": exposure,
            "exposure_group": group,
            "observation_id": f"{visit.instrument}_{exposure}",
            "observing_day": day,
            "observation_counter": counter,
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
        frames.append(
            RenewedFrame(
                original=frame,
                exposure_id=exposure,
                key=key,
                cards={keyword: values[name] for name, keyword in _keywords(camera, _RENEWED).items()},
                dates=dates,
                begin=begin,
            )
        )
    return replace(planned, visit=visit.model_copy(update={"groupId": group}), frames=tuple(frames))


def _check(plan: Plan) -> None:
    camera = plan.instrument
    if not has_group_prefix(camera.name):
        raise ValueError(f"the keys of {camera.name}'s raws are made of their exposure ids")
    names = (*_RENEWED, *_DATES)
    constant = {n for n in names if n in camera.metadata and camera.metadata[n].key is None}
    by_file = [set(camera.overrides_for(_file_name(frame))) for frame in plan.frames]
    if fixed := constant.union(*by_file).intersection(names):
        raise ValueError(f"the file of camera {camera.name} fixes their {', '.join(sorted(fixed))}")
    changed = set(_keywords(camera, names).values())
    shared = [n for n, field in camera.metadata.items() if n not in names and field.key in changed]
    if shared:
        raise ValueError(f"the cards that hold ids and dates hold {', '.join(shared)} too")


def _keywords(camera: InstrumentConfig, names: Sequence[str]) -> dict[str, str]:
    """Return FITS keywords, by what they say of the observation."""
    fields = {name: camera.metadata[name].key for name in names if name in camera.metadata}
    return {name: keyword for name, keyword in fields.items() if keyword is not None}


def _shifted(header: fits.Header, dates: Sequence[HeaderField], begin: float) -> dict[str, Any]:
    """Return the dates that a header has, the first of them at a new time."""
    known = {
        date.key: (date, Time(header[date.key], format=date.format, scale=date.scale))
        for date in dates
        if date.key in header
    }
    times = [time for _, time in known.values()]
    return {
        str(keyword): getattr(
            getattr(Time(begin, format="unix_tai", scale="tai") + (time - times[0]), date.scale), date.format
        )
        for keyword, (date, time) in known.items()
    }


def _file_name(frame: Frame) -> str:
    return frame.key.rpartition("/")[2]
