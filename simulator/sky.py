"""A plain sky: stars, galaxies, a few variable stars.

Fluxes are in nJy (AB), positions ICRS degrees. The densities are those of a
field at moderate galactic latitude: about 500 stars and 700 galaxies on a
sensor of 0.013 square degrees.
"""

from __future__ import annotations

__all__ = ["BANDS", "Galaxies", "Grid", "Sky", "Stars", "ab_to_njy", "draw_sky", "make_sky", "scatter"]

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.geometry import plane_to_sky, sky_to_plane
from simulator.profiles import Float32Array, FloatArray, draw_sources

#: Bands in which the sky shines.
BANDS = ("u", "g", "r", "i", "z", "y")

#: Stars and galaxies a square degree down to the magnitudes below.
_STAR_DENSITY = 38_000.0
_GALAXY_DENSITY = 54_000.0
#: r magnitude range and slope d(log10 N)/dm of the number counts; stars as in
#: the Besancon model at |b| = 30 degrees, galaxies as in Yasuda et al. 2001.
_STAR_COUNTS = (12.5, 23.5, 0.22)
_GALAXY_COUNTS = (16.5, 24.0, 0.40)
#: Colours g - r, and the others in units of it.
_COLOUR_TERMS: Mapping[str, float] = {"u": 2.3, "g": 1.0, "r": 0.0, "i": -0.4, "z": -0.55, "y": -0.65}
#: Variable stars a square degree, and the magnitudes they are chosen from.
_VARIABLE_DENSITY = 300.0
_VARIABLE_MAGNITUDES = (16.5, 20.0)


@dataclass(frozen=True)
class Stars:
    """Point sources.

    Attributes
    ----------
    ra, dec : `numpy.ndarray`, (n,)
    magnitude, colour : `numpy.ndarray`, (n,)
        r and g - r, AB.
    amplitude, phase : `numpy.ndarray`, (n,)
        Relative amplitude of the variation, 0 for almost all; phase in turns.
    """

    ra: FloatArray
    dec: FloatArray
    magnitude: FloatArray
    colour: FloatArray
    amplitude: FloatArray
    phase: FloatArray

    def flux(self, band: str) -> FloatArray:
        """Return the mean fluxes in a band, nJy."""
        return ab_to_njy(self.magnitude + _COLOUR_TERMS[band] * self.colour)

    def flux_in_visit(self, band: str, visit: int) -> FloatArray:
        """Return the fluxes in the n-th visit of a night, nJy."""
        # The golden ratio spreads a few visits evenly over the light curve.
        turn = 2.0 * np.pi * (self.phase + 0.618034 * visit)
        return self.flux(band) * (1.0 + self.amplitude * np.sin(turn))


@dataclass(frozen=True)
class Galaxies:
    """Exponential discs with nuclei.

    Attributes
    ----------
    ra, dec, magnitude, colour : `numpy.ndarray`, (n,)
    half_light : `numpy.ndarray`, (n,)
        Half-light radius along the major axis, arcseconds.
    axis_ratio, position_angle : `numpy.ndarray`, (n,)
        Minor over major axis; major axis east of north, radians.
    bulge : `numpy.ndarray`, (n,)
        Part of the flux in an unresolved nucleus.
    """

    ra: FloatArray
    dec: FloatArray
    magnitude: FloatArray
    colour: FloatArray
    half_light: FloatArray
    axis_ratio: FloatArray
    position_angle: FloatArray
    bulge: FloatArray

    def flux(self, band: str) -> FloatArray:
        """Return the fluxes in a band, nJy."""
        return ab_to_njy(self.magnitude + _COLOUR_TERMS[band] * self.colour)

    def shape(self) -> FloatArray:
        """Return the discs' shapes, (n, 2, 2), in (east, north) arcsec^2."""
        sin, cos = np.sin(self.position_angle), np.cos(self.position_angle)
        major, minor = self.half_light**2, (self.half_light * self.axis_ratio) ** 2
        cross = (major - minor) * sin * cos
        return np.moveaxis(
            np.array([[major * sin**2 + minor * cos**2, cross], [cross, major * cos**2 + minor * sin**2]]),
            -1,
            0,
        )


@dataclass(frozen=True)
class Sky:
    """All that shines steadily, around a position.

    Attributes
    ----------
    ra, dec : `float`
        Middle of the field, degrees.
    half_width : `float`
        Half the side of the square that is filled, degrees.
    """

    ra: float
    dec: float
    half_width: float
    stars: Stars
    galaxies: Galaxies


@dataclass(frozen=True)
class Grid:
    """A TAN pixel grid on the sky.

    Attributes
    ----------
    ra, dec : `float`
        Tangent point, degrees.
    origin : `numpy.ndarray`, (2,)
        Its zero-based pixel.
    cd : `numpy.ndarray`, (2, 2)
        Degrees (east, north) per pixel (x, y).
    """

    ra: float
    dec: float
    origin: FloatArray
    cd: FloatArray

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> Grid:
        """Read the FITS keywords that `models.geometry.wcs_header` makes."""
        return cls(
            ra=header["CRVAL1"],
            dec=header["CRVAL2"],
            origin=np.array([header["CRPIX1"] - 1.0, header["CRPIX2"] - 1.0]),
            cd=np.array([[header["CD1_1"], header["CD1_2"]], [header["CD2_1"], header["CD2_2"]]]),
        )

    def to_pixel(self, ra: npt.ArrayLike, dec: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return zero-based pixels of sky positions."""
        plane = np.array(sky_to_plane(self.ra, self.dec, ra, dec))
        offset = np.linalg.inv(self.cd) @ plane
        return offset[0] + self.origin[0], offset[1] + self.origin[1]

    @property
    def pixels_per_arcsec(self) -> FloatArray:
        """Matrix from (east, north) arcseconds to (x, y) pixels."""
        return np.asarray(np.linalg.inv(self.cd * 3600.0), dtype=float)


def ab_to_njy(magnitude: npt.ArrayLike) -> FloatArray:
    """Convert AB magnitudes to nJy (AB zero point 31.4; Oke & Gunn 1983)."""
    return np.asarray(10.0 ** (-0.4 * (np.asarray(magnitude, dtype=float) - 31.4)), dtype=float)


def scatter(
    rng: np.random.Generator, ra: float, dec: float, half_width: float, number: int
) -> tuple[FloatArray, FloatArray]:
    """Draw positions uniformly from a square of the tangent plane.

    Returns
    -------
    ra, dec : `numpy.ndarray`, (number,)
        Degrees.
    """
    xi, eta = rng.uniform(-half_width, half_width, (2, number))
    found_ra, found_dec = plane_to_sky(ra, dec, xi, eta)
    return found_ra, found_dec


def make_sky(seed: int, *, ra: float, dec: float, half_width: float, density: float = 1.0) -> Sky:
    """Make the sky around a position.

    Parameters
    ----------
    seed : `int`
        The same seed gives the same sky.
    ra, dec : `float`
        Middle of the field, degrees.
    half_width : `float`
        Half the side of the square to fill, degrees.
    density : `float`, optional
        Factor on the number of stars and galaxies.
    """
    rng = np.random.default_rng([seed, 1])
    area = (2.0 * half_width) ** 2
    n_star = round(_STAR_DENSITY * density * area)
    star_ra, star_dec = scatter(rng, ra, dec, half_width, n_star)
    magnitude = _draw_magnitudes(rng, _STAR_COUNTS, n_star)
    amplitude = np.zeros(n_star)
    eligible = np.flatnonzero((magnitude > _VARIABLE_MAGNITUDES[0]) & (magnitude < _VARIABLE_MAGNITUDES[1]))
    variable = rng.permutation(eligible)[: round(_VARIABLE_DENSITY * area)]
    amplitude[variable] = rng.uniform(0.1, 0.6, len(variable))
    stars = Stars(
        ra=star_ra,
        dec=star_dec,
        magnitude=magnitude,
        colour=rng.normal(0.7, 0.3, n_star),
        amplitude=amplitude,
        phase=rng.random(n_star),
    )
    n_galaxy = round(_GALAXY_DENSITY * density * area)
    galaxy_ra, galaxy_dec = scatter(rng, ra, dec, half_width, n_galaxy)
    magnitude = _draw_magnitudes(rng, _GALAXY_COUNTS, n_galaxy)
    galaxies = Galaxies(
        ra=galaxy_ra,
        dec=galaxy_dec,
        magnitude=magnitude,
        colour=rng.normal(0.6, 0.25, n_galaxy),
        # Sizes shrink towards faint magnitudes (Shen et al. 2003, roughly).
        half_light=np.clip(
            10.0 ** (0.35 - 0.12 * (magnitude - 18.0) + rng.normal(0, 0.15, n_galaxy)), 0.15, 4.0
        ),
        axis_ratio=rng.uniform(0.3, 1.0, n_galaxy),
        position_angle=rng.uniform(0, np.pi, n_galaxy),
        bulge=rng.beta(1.0, 4.0, n_galaxy),
    )
    return Sky(ra=ra, dec=dec, half_width=half_width, stars=stars, galaxies=galaxies)


def draw_sky(
    image: Float32Array,
    sky: Sky,
    grid: Grid,
    *,
    star_flux: FloatArray,
    galaxy_flux: FloatArray,
    psf_shape: Callable[[FloatArray, FloatArray], FloatArray],
    floor: float,
) -> None:
    """Add the steady sky to an image.

    Parameters
    ----------
    image : `numpy.ndarray`, (ny, nx), float32
        Changed in place.
    grid : `Grid`
        Where the image lies.
    star_flux, galaxy_flux : `numpy.ndarray`
        Fluxes in the image's unit.
    psf_shape : callable
        Shapes of the point-spread function at pixels (x, y).
    floor : `float`
        Surface brightness that may be neglected, unit per pixel.
    """
    matrix = grid.pixels_per_arcsec
    for table, flux, galaxy_shape, bulge in (
        (sky.stars, star_flux, None, None),
        (sky.galaxies, galaxy_flux, matrix @ sky.galaxies.shape() @ matrix.T, sky.galaxies.bulge),
    ):
        x, y = grid.to_pixel(table.ra, table.dec)
        # Far more sources than one sensor sees: leave out the others at once.
        near = (x > -80) & (x < image.shape[1] + 80) & (y > -80) & (y < image.shape[0] + 80)
        draw_sources(
            image,
            x=x[near],
            y=y[near],
            flux=flux[near],
            psf_shape=psf_shape(x[near], y[near]),
            galaxy_shape=None if galaxy_shape is None else galaxy_shape[near],
            bulge=None if bulge is None else bulge[near],
            floor=floor,
        )


def _draw_magnitudes(rng: np.random.Generator, counts: tuple[float, float, float], number: int) -> FloatArray:
    bright, faint, slope = counts
    low, high = 10.0 ** (slope * bright), 10.0 ** (slope * faint)
    return np.log10(rng.uniform(low, high, number)) / slope
