"""The schedule of a simulated night."""

from __future__ import annotations

__all__ = ["DEFAULT_TRANSIENTS", "plan_simulated"]

import functools
from collections.abc import Sequence

import numpy as np
from astropy.time import Time

from config.instruments import Detector, InstrumentConfig, find_instrument_file, load_instrument
from models.geometry import pixel_to_sky, sky_to_pixel
from models.times import tai_from_unix
from models.visits import CoordinateSystem, Dome, RotationSystem, SummitVisit
from simulator.camera import EXPOSURE_TIME, Conditions, flux_error
from simulator.night import Field, Night, SimulatedFrame
from simulator.plan import Plan, PlannedVisit
from simulator.pointing import choose_field, draw_conditions, field_half_width
from simulator.seed import SimulatedSeed
from simulator.sky import BANDS, Sky, make_sky
from simulator.transients import Transients, merge_transients, place_transients

#: Transients placed on each detector's part of the sky unless told otherwise.
DEFAULT_TRANSIENTS = 20
#: Seconds from one exposure to the next, nominally.
_NOMINAL_CADENCE = 37.0
#: Seconds from the announcement to the opening of the shutter, nominally.
_NOMINAL_LEAD = 20.0
#: Transients stay this far from the edges of every frame, pixels, on either
#: side, so that none is half on it.
_EDGE = 16.0


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
        sense, for a detector or filter that the instrument does not have, or
        for an instrument that cannot be simulated.
    """
    instrument = instrument or load_instrument(find_instrument_file("DemoCam"))
    if visits < 1 or snaps < 1 or transients < 0:
        raise ValueError(f"cannot plan {visits} visits with {snaps} snaps and {transients} transients")
    if instrument.raw_form != "overscan":
        raise ValueError(
            f"{instrument.name} has raw_form {instrument.raw_form}; only raw frames can be simulated"
        )
    active = _choose_detectors(instrument, detectors)
    used = _choose_filters(instrument, filters)
    used = tuple(used[n % len(used)] for n in range(visits))
    target = target or choose_field(seed)
    commanded, conditions = draw_conditions(seed, target, visits)
    sky = make_sky(seed, ra=target.ra, dec=target.dec, half_width=field_half_width(instrument))
    night = Night(
        instrument=instrument,
        seed=seed,
        target=target,
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
            start=tai_from_unix(start) + _NOMINAL_CADENCE * snaps * number,
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
    dark = sorted({band for band in instrument.bands.values() if band not in BANDS})
    if dark:
        raise ValueError(f"the simulated sky shines in {', '.join(BANDS)}, not in bands {', '.join(dark)}")
    red = [f.name for f in instrument.filters if f.band == "r"]
    return tuple(filters) or tuple(red[:1]) or (instrument.filters[0].name,)


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
    begin = start + _NOMINAL_LEAD
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
