"""A simulated night: where the telescope points, what it sees, and when."""

from __future__ import annotations

__all__ = ["DEFAULT_TRANSIENTS", "Field", "Night", "plan_simulated"]

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from astropy.time import Time

from config.instruments import Detector, InstrumentConfig, find_instrument_file, load_instrument
from models.geometry import pixel_to_sky, sky_to_pixel
from models.times import day_obs, tai_from_unix
from models.visits import CoordinateSystem, Dome, RotationSystem, SummitVisit
from simulator.camera import EXPOSURE_TIME, Conditions, Injected, expose, flux_error
from simulator.plan import Plan, PlannedVisit, raw_key
from simulator.profiles import FloatArray, PsfModel
from simulator.raw_files import raw_file
from simulator.signature import Signature, make_signature
from simulator.sky import Sky, make_sky
from simulator.transients import Transients, merge_transients, place_transients

#: Transients placed on each detector's part of the sky unless told otherwise.
DEFAULT_TRANSIENTS = 20
#: Seconds from one visit to the next, nominally.
NOMINAL_CADENCE = 37.0
#: Seconds from the announcement to the opening of the shutter, nominally.
NOMINAL_LEAD = 20.0
#: Largest offset of a visit from the middle of the field, arcseconds.
DITHER = 12.0
#: Largest departure of the camera angle from that of the field, degrees.
ROTATION_DITHER = 3.0
#: Scatter of the real pointing about the commanded one, arcseconds a
#: coordinate, and of the real camera angle, degrees.
_POINTING_ERROR = 1.0
_ROTATION_ERROR = 0.02
#: Seeing in the science frames, pixels.
_FWHM_RANGE = (2.8, 3.4)
#: Transients stay this far from the edges of every frame, pixels, on either
#: side, so that none is half on it.
_EDGE = 16.0


@dataclass(frozen=True)
class Field:
    """The part of the sky that a night is spent on.

    Attributes
    ----------
    ra, dec : `float`
        Middle, degrees ICRS.
    angle : `float`
        Camera angle around which the visits' angles scatter, degrees.
    """

    ra: float = 62.0
    dec: float = -37.0
    angle: float = 0.0


@dataclass(frozen=True)
class Night:
    """Everything that determines the pixels of a night.

    Attributes
    ----------
    instrument : `config.instruments.InstrumentConfig`
    seed : `int`
        The same seed gives the same night, but for the date.
    field : `Field`
    sky : `simulator.sky.Sky`
    transients : `simulator.transients.Transients`
    conditions : `tuple` [`simulator.camera.Conditions`, ...]
        One a visit.
    filters : `tuple` [`str`, ...]
        Physical filter of each visit.
    """

    instrument: InstrumentConfig
    seed: int
    field: Field
    sky: Sky
    transients: Transients
    conditions: tuple[Conditions, ...]
    filters: tuple[str, ...]
    _signatures: dict[tuple[int, str], Signature] = field(default_factory=dict, repr=False)

    def signature(self, detector: Detector, physical_filter: str) -> Signature:
        """Return a sensor's signature, made once."""
        key = (detector.id, physical_filter)
        if key not in self._signatures:
            self._signatures[key] = make_signature(
                self.instrument, detector, physical_filter=physical_filter, seed=self.seed
            )
        return self._signatures[key]


class SimulatedFrame:
    """A frame that is rendered when it is read.

    Parameters
    ----------
    night : `Night`
    planned : `models.visits.SummitVisit`
        The visit that it belongs to.
    number : `int`
        Number of that visit in the night.
    detector, snap : `int`
    begin : `float`
        Nominal start of the exposure, TAI.
    """

    def __init__(
        self, *, night: Night, planned: SummitVisit, number: int, detector: int, snap: int, begin: float
    ) -> None:
        self.detector = detector
        self.snap = snap
        self._night = night
        self._visit = planned
        self._number = number
        self._begin = begin
        self._injected: Injected | None = None

    @property
    def exposure_id(self) -> int:
        """Day of observation and the second of it at which the exposure began."""
        return day_obs(self._begin) * 100_000 + self._counter

    @property
    def _counter(self) -> int:
        # Observing days begin at noon, TAI.
        return int((self._begin - 43_200.0) % 86_400.0)

    @property
    def key(self) -> str:
        """Where the frame belongs, relative to the image directory or bucket."""
        return raw_key(
            self._visit.instrument,
            detector=self.detector,
            group=self._visit.groupId,
            snap=self.snap,
            exposure_id=self.exposure_id,
            physical_filter=self._visit.filters,
            file_name=f"{self._observation_id}_{self._night.instrument.by_id[self.detector].name}.fits",
        )

    @property
    def _observation_id(self) -> str:
        return f"{self._visit.instrument}_{day_obs(self._begin)}_{self._counter:06d}"

    @property
    def injected(self) -> Injected:
        """The transients on the frame; renders it if it was not read before."""
        if self._injected is None:
            self.read()
        assert self._injected is not None
        return self._injected

    def read(self) -> bytes:
        """Render the frame and return the bytes of its FITS file."""
        night, visit = self._night, self._visit
        instrument = night.instrument
        detector = instrument.by_id[self.detector]
        readout = expose(
            instrument,
            detector,
            sky=night.sky,
            transients=night.transients,
            signature=night.signature(detector, visit.filters),
            conditions=night.conditions[self._number],
            band=instrument.bands[visit.filters],
            visit=self._number,
            exposure_time=EXPOSURE_TIME,
            rng=np.random.default_rng([night.seed, 6, self._number, self.detector, self.snap]),
        )
        self._injected = readout.injected
        return raw_file(instrument, self._metadata(detector), readout.raw)

    def _metadata(self, detector: Detector) -> dict[str, object]:
        visit = self._visit
        begin, end = (
            Time(t, format="unix_tai", scale="tai") for t in (self._begin, self._begin + EXPOSURE_TIME)
        )
        return {
            "exposure_id": self.exposure_id,
            "visit_id": self.exposure_id,
            "exposure_group": visit.groupId,
            "observation_id": self._observation_id,
            "physical_filter": visit.filters,
            "detector_num": detector.id,
            "detector_name": detector.name,
            "datetime_begin": begin,
            "datetime_end": end,
            "exposure_time": EXPOSURE_TIME,
            "dark_time": EXPOSURE_TIME,
            "observation_type": "science",
            "observation_reason": "science",
            "science_program": visit.survey,
            "object": f"{visit.survey} field",
            "observing_day": day_obs(self._begin),
            "observation_counter": self._counter,
            "tracking_ra": visit.position[0],
            "tracking_dec": visit.position[1],
            "boresight_rotation_angle": visit.cameraAngle,
        }


def plan_simulated(
    *,
    seed: int,
    visits: int,
    detectors: int | Sequence[int] | None = None,
    transients: int = DEFAULT_TRANSIENTS,
    instrument: InstrumentConfig | None = None,
    filters: Sequence[str] = (),
    start: float,
    survey: str = "demo",
    snaps: int = 1,
    announce_snaps: bool = True,
    target: Field | None = None,
) -> Plan:
    """Plan a simulated night.

    Parameters
    ----------
    seed : `int`
        The same seed gives the same pixels; only dates and ids follow `start`.
    visits : `int`
        How many.
    detectors : `int` or sequence of `int`, optional
        The first so many, or which; all if left out.
    transients : `int`, optional
        Transients placed on each detector's part of the sky; each shines in
        every visit, so a frame has about this many. May be 0.
    instrument : `config.instruments.InstrumentConfig`, optional
        DemoCam unless given.
    filters : sequence of `str`, optional
        Physical filters, used in turn; the instrument's r filter (or its
        first) if left out.
    start : `float`
        UTC unix time of the first announcement; nominal times count from it.
    survey : `str`, optional
    snaps : `int`, optional
        Exposures a visit, 1 or 2.
    announce_snaps : `bool`, optional
        Whether to announce their number, or 0 for unknown.
    target : `Field`, optional
        Where to point; chosen by the seed if left out.

    Returns
    -------
    plan : `simulator.plan.Plan`

    Raises
    ------
    ValueError
        Raised for a number of visits, snaps or transients that makes no
        sense, or for a detector or filter that the instrument does not have.
    """
    from simulator.seed import SimulatedSeed

    instrument = instrument or load_instrument(find_instrument_file("DemoCam"))
    if visits < 1 or snaps < 1 or transients < 0:
        raise ValueError(f"cannot plan {visits} visits with {snaps} snaps and {transients} transients")
    active = _choose_detectors(instrument, detectors)
    used = _choose_filters(instrument, filters)
    used = tuple(used[n % len(used)] for n in range(visits))
    target = target or _choose_field(seed)
    commanded, conditions = _draw_conditions(seed, target, visits)
    sky = make_sky(seed, ra=target.ra, dec=target.dec, half_width=field_half_width(instrument))
    night = Night(
        instrument=instrument,
        seed=seed,
        field=target,
        sky=sky,
        transients=_populate(instrument, active, sky, conditions, used[0], transients, seed),
        conditions=conditions,
        filters=used,
    )
    planned = tuple(
        _plan_visit(
            night,
            number,
            commanded=commanded[number],
            detectors=active,
            start=tai_from_unix(start) + NOMINAL_CADENCE * snaps * number,
            survey=survey,
            snaps=snaps,
            announce_snaps=announce_snaps,
        )
        for number in range(visits)
    )
    variable = sky.stars.amplitude > 0
    return Plan(
        instrument=instrument,
        visits=planned,
        seed_writer=SimulatedSeed(night=night, detectors=active),
        variables=(sky.stars.ra[variable], sky.stars.dec[variable]),
    )


def field_half_width(instrument: InstrumentConfig) -> float:
    """Return half the side of a square that holds every visit of a field.

    Degrees; north up, whatever the camera angle.
    """
    reach = max(
        np.hypot(*d.center) * instrument.plate_scale + np.hypot(*d.size) / 2 * instrument.pixel_scale
        for d in instrument.detectors
    )
    return float(reach + DITHER + 60.0) / 3600.0


def _choose_detectors(instrument: InstrumentConfig, detectors: int | Sequence[int] | None) -> tuple[int, ...]:
    known = [d.id for d in instrument.detectors]
    if detectors is None:
        return tuple(known)
    if isinstance(detectors, int):
        if not 1 <= detectors <= len(known):
            raise ValueError(f"{instrument.name} has {len(known)} detectors, not {detectors}")
        return tuple(known[:detectors])
    unknown = sorted(set(detectors) - set(known))
    if unknown or not detectors:
        raise ValueError(f"{instrument.name} has detectors {known}, not {unknown or 'none'}")
    return tuple(detectors)


def _choose_filters(instrument: InstrumentConfig, filters: Sequence[str]) -> tuple[str, ...]:
    unknown = [name for name in filters if name not in instrument.bands]
    if unknown:
        raise ValueError(f"{instrument.name} has filters {sorted(instrument.bands)}, not {unknown}")
    red = [f.name for f in instrument.filters if f.band == "r"]
    return tuple(filters) or tuple(red[:1]) or (instrument.filters[0].name,)


def _choose_field(seed: int) -> Field:
    rng = np.random.default_rng([seed, 4])
    return Field(
        ra=float(rng.uniform(0.0, 360.0)),
        dec=float(rng.uniform(-60.0, 10.0)),
        # Near a right angle: the patches of templates lie north up, and fewer
        # of them are needed then.
        angle=float(90.0 * rng.integers(0, 4) + rng.uniform(-4.0, 4.0)),
    )


def _draw_conditions(
    seed: int, target: Field, visits: int
) -> tuple[list[tuple[float, float, float]], tuple[Conditions, ...]]:
    """Draw where each visit is commanded to point, and how it really is taken."""
    commanded, conditions = [], []
    for number in range(visits):
        rng = np.random.default_rng([seed, 5, number])
        east, north = rng.uniform(-DITHER, DITHER, 2)
        cos_dec = np.cos(np.radians(target.dec))
        ra, dec = (target.ra + east / 3600.0 / cos_dec) % 360.0, target.dec + north / 3600.0
        angle = (target.angle + rng.uniform(-ROTATION_DITHER, ROTATION_DITHER)) % 360.0
        commanded.append((float(ra), float(dec), float(angle)))
        off_east, off_north = rng.normal(0.0, _POINTING_ERROR, 2) / 3600.0
        psf = PsfModel(
            fwhm=float(rng.uniform(*_FWHM_RANGE)),
            growth=(float(rng.normal(0, 0.015)), float(rng.normal(0, 0.015)), float(rng.uniform(0.0, 0.06))),
            ellipticity=(float(rng.normal(0, 0.025)), float(rng.normal(0, 0.025))),
            shear=(float(rng.normal(0, 0.015)), float(rng.normal(0, 0.015))),
            radius=0.15,
        )
        conditions.append(
            Conditions(
                ra=float(ra + off_east / cos_dec),
                dec=float(dec + off_north),
                angle=float(angle + rng.normal(0.0, _ROTATION_ERROR)),
                psf=psf,
                transparency=float(rng.uniform(0.85, 1.0)),
                sky_factor=float(rng.uniform(0.9, 1.4)),
                sky_gradient=(float(rng.normal(0, 0.2)), float(rng.normal(0, 0.2))),
            )
        )
    return commanded, tuple(conditions)


def _populate(
    instrument: InstrumentConfig,
    detectors: Sequence[int],
    sky: Sky,
    conditions: Sequence[Conditions],
    physical_filter: str,
    number: int,
    seed: int,
) -> Transients:
    """Place transients on every detector's part of the sky."""

    def inside(ra: float, dec: float) -> bool:
        for taken in conditions:
            for one in detectors:
                detector = instrument.by_id[one]
                x, y = sky_to_pixel(instrument, detector, taken.ra, taken.dec, taken.angle, ra, dec)
                depth = min(x + 0.5, y + 0.5, detector.size[0] - 0.5 - x, detector.size[1] - 0.5 - y)
                if abs(depth) < _EDGE:
                    return False
        return True

    def position(detector: Detector, rng: np.random.Generator) -> tuple[float, float]:
        first = conditions[0]
        x, y = rng.uniform(_EDGE, np.array(detector.size) - 1 - _EDGE)
        ra, dec = pixel_to_sky(instrument, detector, first.ra, first.dec, first.angle, x, y)
        return float(ra), float(dec)

    placed = merge_transients([])
    for one in detectors:
        detector = instrument.by_id[one]
        new = place_transients(
            np.random.default_rng([seed, 7, one]),
            sky,
            number=number,
            draw_position=functools.partial(position, detector),
            is_allowed=inside,
            flux_error=flux_error(
                instrument, detector, instrument.bands[physical_filter], conditions[0], EXPOSURE_TIME
            ),
            others=placed,
        )
        placed = merge_transients([placed, new])
    return placed


def _plan_visit(
    night: Night,
    number: int,
    *,
    commanded: tuple[float, float, float],
    detectors: tuple[int, ...],
    start: float,
    survey: str,
    snaps: int,
    announce_snaps: bool,
) -> PlannedVisit:
    begin = start + NOMINAL_LEAD
    visit = SummitVisit(
        salIndex=1,
        scriptSalIndex=100_000 + number,
        groupId=Time(begin, format="unix_tai", scale="tai").isot,
        coordinateSystem=CoordinateSystem.ICRS,
        position=commanded[:2],
        startTime=begin,
        rotationSystem=RotationSystem.SKY,
        cameraAngle=commanded[2],
        filters=night.filters[number],
        dome=Dome.OPEN,
        duration=EXPOSURE_TIME * snaps + 5.0,
        nimages=snaps if announce_snaps else 0,
        instrument=night.instrument.name,
        survey=survey,
        totalCheckpoints=1,
        private_sndStamp=start,
        private_identity="simulator",
    )
    frames = tuple(
        SimulatedFrame(
            night=night,
            planned=visit,
            number=number,
            detector=detector,
            snap=snap,
            begin=begin + snap * (EXPOSURE_TIME + 2.0),
        )
        for detector in detectors
        for snap in range(snaps)
    )
    return PlannedVisit(visit=visit, detectors=detectors, frames=frames)
