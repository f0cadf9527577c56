"""Transients: sources that the templates do not know."""

from __future__ import annotations

__all__ = ["Transients", "merge_transients", "place_transients"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from models.geometry import angular_separation, plane_to_sky
from simulator.profiles import FloatArray
from simulator.sky import Sky

#: Range of the signal-to-noise that transients are made for, in blank sky;
#: log-uniform, so that nine in ten lie above 10.
_SNR_RANGE = (8.0, 100.0)
#: Part of the transients that lies in or near a galaxy.
_HOST_FRACTION = 0.6
#: r magnitudes of the host galaxies.
_HOST_MAGNITUDES = (17.0, 22.5)
#: Least distance from each other and from variable stars, arcseconds: no two
#: may be confused with a match radius of one arcsecond.
_ISOLATION = 8.0
#: Positions tried for each transient before giving up.
_TRIALS = 200


@dataclass(frozen=True)
class Transients:
    """Transients of a night.

    Attributes
    ----------
    ra, dec : `numpy.ndarray`, (n,)
        Degrees.
    flux : `numpy.ndarray`, (n,)
        Flux in the first visit, the same in every band, nJy.
    slope : `numpy.ndarray`, (n,)
        Relative change of the flux from visit to visit.
    hosted : `numpy.ndarray`, (n,), bool
        Whether placed in or near a galaxy.
    """

    ra: FloatArray
    dec: FloatArray
    flux: FloatArray
    slope: FloatArray
    hosted: np.ndarray

    def __len__(self) -> int:
        return len(self.ra)

    def flux_in_visit(self, visit: int) -> FloatArray:
        """Return the fluxes in the n-th visit, nJy."""
        return self.flux * np.exp(self.slope * visit)


def merge_transients(parts: Sequence[Transients]) -> Transients:
    """Put several sets into one."""
    return Transients(
        *(
            np.concatenate([np.zeros(0, kind), *(getattr(part, name) for part in parts)])
            for name, kind in (
                ("ra", float),
                ("dec", float),
                ("flux", float),
                ("slope", float),
                ("hosted", bool),
            )
        )
    )


def place_transients(
    rng: np.random.Generator,
    sky: Sky,
    *,
    number: int,
    draw_position: Callable[[np.random.Generator], tuple[float, float]],
    is_allowed: Callable[[float, float], bool],
    flux_error: float,
    others: Transients,
) -> Transients:
    """Place transients on a part of the sky.

    Parameters
    ----------
    rng : `numpy.random.Generator`
    sky : `Sky`
        Galaxies to be hosts, variable stars to keep away from.
    number : `int`
        How many.
    draw_position : callable
        Draws a position, (ra, dec) in degrees, from the part of the sky.
    is_allowed : callable
        Whether a position may be used.
    flux_error : `float`
        Error of a point source's flux in blank sky, nJy; makes signal-to-noise
        into flux.
    others : `Transients`
        Those placed before, to keep away from.

    Returns
    -------
    transients : `Transients`
        Fewer than asked for if the part of the sky is too crowded.
    """
    galaxies, stars = sky.galaxies, sky.stars
    hosts = (galaxies.magnitude > _HOST_MAGNITUDES[0]) & (galaxies.magnitude < _HOST_MAGNITUDES[1])
    variable = stars.amplitude > 0
    avoid_ra, avoid_dec = (
        list(stars.ra[variable]) + list(others.ra),
        list(stars.dec[variable]) + list(others.dec),
    )
    found: list[tuple[float, float, float, float, bool]] = []
    for _ in range(number):
        wants_host = rng.random() < _HOST_FRACTION
        for _ in range(_TRIALS):
            ra, dec = draw_position(rng)
            if wants_host:
                ra, dec = _move_to_host(rng, sky, hosts, ra, dec)
            crowded = (
                len(avoid_ra) > 0
                and angular_separation(ra, dec, avoid_ra, avoid_dec).min() < _ISOLATION / 3600
            )
            if not crowded and is_allowed(ra, dec):
                snr = np.exp(rng.uniform(*np.log(_SNR_RANGE)))
                found.append((ra, dec, snr * flux_error, rng.normal(0.0, 0.03), wants_host))
                avoid_ra.append(ra)
                avoid_dec.append(dec)
                break
    table = np.array(found, dtype=float).reshape(-1, 5)
    return Transients(
        ra=table[:, 0], dec=table[:, 1], flux=table[:, 2], slope=table[:, 3], hosted=table[:, 4].astype(bool)
    )


def _move_to_host(
    rng: np.random.Generator, sky: Sky, hosts: np.ndarray, ra: float, dec: float
) -> tuple[float, float]:
    """Move a position into, or near, the nearest possible host."""
    galaxies = sky.galaxies
    index = np.flatnonzero(hosts)
    if not len(index):
        return ra, dec
    host = index[np.argmin(angular_separation(ra, dec, galaxies.ra[index], galaxies.dec[index]))]
    east, north = rng.normal(0.0, galaxies.half_light[host], 2) / 3600.0
    new_ra, new_dec = plane_to_sky(galaxies.ra[host], galaxies.dec[host], east, north)
    return float(new_ra), float(new_dec)
