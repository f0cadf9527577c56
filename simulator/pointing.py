"""Where a night's visits point, and how they are really taken."""

from __future__ import annotations

__all__ = ["DITHER", "ROTATION_DITHER", "choose_field", "draw_conditions", "field_half_width"]

import numpy as np

from config.instruments import InstrumentConfig
from simulator.camera import Conditions
from simulator.night import Field
from simulator.profiles import PsfModel

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


def field_half_width(instrument: InstrumentConfig) -> float:
    """Return half the side of a square that holds every visit of a field.

    Degrees; north up, whatever the camera angle.
    """
    reach = max(
        np.hypot(*d.center) * instrument.plate_scale + np.hypot(*d.size) / 2 * instrument.pixel_scale
        for d in instrument.detectors
    )
    return float(reach + DITHER + 60.0) / 3600.0


def choose_field(seed: int) -> Field:
    """Choose where a night points; the same seed gives the same field."""
    rng = np.random.default_rng([seed, 4])
    return Field(
        ra=float(rng.uniform(0.0, 360.0)),
        dec=float(rng.uniform(-60.0, 10.0)),
        # Near a right angle: the patches of templates lie north up, and fewer
        # of them are needed then.
        angle=float(90.0 * rng.integers(0, 4) + rng.uniform(-4.0, 4.0)),
    )


def draw_conditions(
    seed: int, target: Field, visits: int
) -> tuple[list[tuple[float, float, float]], tuple[Conditions, ...]]:
    """Draw where each visit is commanded to point, and how it really is taken.

    Returns
    -------
    commanded : `list` [`tuple` [`float`, `float`, `float`]]
        (ra, dec, camera angle) in degrees.
    conditions : `tuple` [`simulator.camera.Conditions`, ...]
    """
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
