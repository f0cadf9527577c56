"""A simulated night: what determines its pixels, and its frames."""

from __future__ import annotations

__all__ = ["Field", "Night", "SimulatedFrame"]

from dataclasses import dataclass, field

import numpy as np
from astropy.time import Time

from config.instruments import Detector, InstrumentConfig
from models.times import day_obs
from models.visits import SummitVisit
from simulator.camera import EXPOSURE_TIME, Conditions, Injected, expose
from simulator.plan import raw_key
from simulator.raw_files import raw_file
from simulator.signature import Signature, make_signature
from simulator.sky import Sky
from simulator.transients import Transients


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
    target : `Field`
    sky : `simulator.sky.Sky`
    transients : `simulator.transients.Transients`
    conditions : `tuple` [`simulator.camera.Conditions`, ...]
        One a visit.
    filters : `tuple` [`str`, ...]
        Physical filter of each visit.
    """

    instrument: InstrumentConfig
    seed: int
    target: Field
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
            "instrument": visit.instrument,
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
