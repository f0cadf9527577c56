"""Light profiles of point sources and galaxies, and their drawing.

Everything is a mixture of Gaussians, so that a galaxy seen through the
point-spread function is again one, exactly (Hogg & Lang 2013, PASP 125, 719):
the same galaxy drawn with two point-spread functions differs by the blur
alone, which is what image subtraction relies on.

The mixtures below were fitted for this project. The point-spread function is
the effective one, that is, with the pixel's response included; values are
those at pixel centres.
"""

from __future__ import annotations

__all__ = ["PSF_COMPONENTS", "PsfModel", "draw_sources", "gaussian_sigma"]

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

#: (weight, sigma in units of the FWHM) of a Moffat profile with beta = 3.5;
#: within 0.5 % of it out to 2 FWHM, 6 % out to 4.
PSF_COMPONENTS = ((0.17126, 0.32182), (0.50636, 0.4793), (0.28015, 0.7535), (0.04222, 1.36802))

#: (weight, sigma in units of the half-light radius) of an exponential disc.
_DISC_COMPONENTS = ((0.03615, 0.19769), (0.35211, 0.55298), (0.61174, 1.18388))

#: Half widths of the boxes that sources are drawn into, pixels.
_HALF_WIDTHS = (9, 14, 22, 36, 60)

#: Pixels drawn at once; bounds the memory of the drawing.
_CHUNK = 1_000_000


def gaussian_sigma(fwhm: float) -> float:
    """Return the standard deviation of a Gaussian of this full width."""
    return fwhm / (2.0 * np.sqrt(2.0 * np.log(2.0)))


@dataclass(frozen=True)
class PsfModel:
    """A point-spread function that varies slowly over the focal plane.

    Attributes
    ----------
    fwhm : `float`
        Full width at half maximum in the middle of the focal plane, pixels.
    growth : `tuple` [`float`, `float`, `float`]
        Relative growth of the width with X, with Y and with X^2 + Y^2.
    ellipticity : `tuple` [`float`, `float`]
        (e1, e2) in the middle of the focal plane, focal-plane axes.
    shear : `tuple` [`float`, `float`]
        Change of the ellipticity along the radius: tangential part with
        X^2 + Y^2, and e1 with X.
    radius : `float`
        Focal-plane length, degrees, in units of which X and Y are counted.
    """

    fwhm: float
    growth: tuple[float, float, float] = (0.0, 0.0, 0.0)
    ellipticity: tuple[float, float] = (0.0, 0.0)
    shear: tuple[float, float] = (0.0, 0.0)
    radius: float = 1.0

    def shape_at(self, x: npt.ArrayLike, y: npt.ArrayLike, rotation: float = 0.0) -> FloatArray:
        """Return the second-moment shape, (n, 2, 2), at focal-plane positions.

        Parameters
        ----------
        x, y : array-like, (n,)
            Focal-plane positions, degrees.
        rotation : `float`, optional
            Angle from focal +X to pixel +x, degrees.

        Returns
        -------
        shape : `numpy.ndarray`
            Symmetric matrix in pixels squared and pixel axes; a component of
            relative width s has the covariance s^2 times it.
        """
        u, v = np.atleast_1d(x) / self.radius, np.atleast_1d(y) / self.radius
        r2 = u * u + v * v
        fwhm = self.fwhm * (1.0 + self.growth[0] * u + self.growth[1] * v + self.growth[2] * r2)
        e1 = self.ellipticity[0] + self.shear[0] * (u * u - v * v) + self.shear[1] * u
        e2 = self.ellipticity[1] + self.shear[0] * 2.0 * u * v
        # An ellipticity turns by twice the angle of the axes.
        turn = 2.0 * np.radians(rotation)
        e1, e2 = e1 * np.cos(turn) + e2 * np.sin(turn), e2 * np.cos(turn) - e1 * np.sin(turn)
        norm = fwhm**2 / np.sqrt(1.0 - e1 * e1 - e2 * e2)
        return np.moveaxis(np.array([[norm * (1 + e1), norm * e2], [norm * e2, norm * (1 - e1)]]), -1, 0)


def draw_sources(
    image: Float32Array,
    *,
    x: FloatArray,
    y: FloatArray,
    flux: FloatArray,
    psf_shape: FloatArray,
    galaxy_shape: FloatArray | None = None,
    bulge: FloatArray | None = None,
    floor: float = 1.0,
) -> None:
    """Add sources to an image.

    Parameters
    ----------
    image : `numpy.ndarray`, (ny, nx), float32
        Changed in place.
    x, y : `numpy.ndarray`, (n,)
        Positions, zero-based pixels; may lie outside.
    flux : `numpy.ndarray`, (n,)
        Total fluxes, in the image's unit.
    psf_shape : `numpy.ndarray`, (n, 2, 2)
        From `PsfModel.shape_at`.
    galaxy_shape : `numpy.ndarray`, (n, 2, 2), optional
        Shapes of the discs (half-light radius squared), pixels squared; point
        sources if left out.
    bulge : `numpy.ndarray`, (n,), optional
        Part of a galaxy's flux in an unresolved nucleus.
    floor : `float`, optional
        Surface brightness that may be neglected, unit per pixel.
    """
    ny, nx = image.shape
    width = np.sqrt(np.trace(psf_shape, axis1=1, axis2=2) / 2)
    reach = _reach(flux, width, floor)
    if galaxy_shape is not None:
        disc = np.sqrt(np.linalg.eigvalsh(galaxy_shape)[:, 1])
        reach = np.maximum(np.minimum(reach, 4.0 * disc + 3.0 * width), 2.5 * disc + 2.0 * width)
    near = (x > -reach) & (x < nx + reach) & (y > -reach) & (y < ny + reach) & (flux != 0)
    half_width = np.asarray(_HALF_WIDTHS)[
        np.clip(np.searchsorted(_HALF_WIDTHS, reach), 0, len(_HALF_WIDTHS) - 1)
    ]
    total = np.zeros(image.size + 1)
    for half in np.unique(half_width[near]):
        chosen = np.flatnonzero(near & (half_width == half))
        side = 2 * int(half) + 1
        for part in np.array_split(chosen, max(1, -(-len(chosen) * side * side // _CHUNK))):
            dx, dy, index = _boxes(x[part], y[part], int(half), nx, ny)
            values = np.zeros(dx.shape, np.float32)
            for weight, shape in _components(part, psf_shape, galaxy_shape, bulge):
                _add_gaussian(values, dx, dy, weight * flux[part], shape)
            total += np.bincount(index.ravel(), values.ravel(), minlength=total.size)
    image += total[:-1].reshape(image.shape).astype(np.float32)


def _reach(flux: FloatArray, width: FloatArray, floor: float) -> FloatArray:
    """Distance at which a point source has fallen to `floor`, from its profile."""
    # The Moffat profile (1 + r^2/a^2)^-3.5 with a = 1.07 FWHM, solved for r.
    peak = np.abs(flux) * 0.70 / width**2
    ratio = np.maximum(peak / floor, 1.0) ** (1 / 3.5)
    return np.clip(1.07 * width * np.sqrt(ratio - 1.0), 2.5 * width, None)


def _boxes(
    x: FloatArray, y: FloatArray, half: int, nx: int, ny: int
) -> tuple[Float32Array, Float32Array, npt.NDArray[np.int64]]:
    """Offsets from the source of the pixels around it, and their flat index;
    pixels outside the image get the index nx * ny.
    """
    steps = np.arange(-half, half + 1)
    column = np.rint(x).astype(int)[:, None] + steps
    row = np.rint(y).astype(int)[:, None] + steps
    dx = np.broadcast_to((column - x[:, None])[:, None, :], (len(x), len(steps), len(steps)))
    dy = np.broadcast_to((row - y[:, None])[:, :, None], dx.shape)
    inside = ((column >= 0) & (column < nx))[:, None, :] & ((row >= 0) & (row < ny))[:, :, None]
    index = np.where(inside, row[:, :, None] * nx + column[:, None, :], nx * ny)
    return dx.astype(np.float32), dy.astype(np.float32), index


def _components(
    part: npt.NDArray[np.intp],
    psf_shape: FloatArray,
    galaxy_shape: FloatArray | None,
    bulge: FloatArray | None,
) -> Iterator[tuple[float | FloatArray, FloatArray]]:
    """Yield (weight, covariance) of the Gaussians that make up the sources."""
    psf = psf_shape[part]
    if galaxy_shape is None:
        for weight, sigma in PSF_COMPONENTS:
            yield weight, sigma**2 * psf
        return
    galaxy = galaxy_shape[part]
    nucleus = np.zeros(len(part)) if bulge is None else bulge[part]
    for weight, sigma in PSF_COMPONENTS:
        yield weight * nucleus, sigma**2 * psf
        for disc_weight, disc_sigma in _DISC_COMPONENTS:
            yield weight * disc_weight * (1.0 - nucleus), sigma**2 * psf + disc_sigma**2 * galaxy


def _add_gaussian(
    values: Float32Array, dx: Float32Array, dy: Float32Array, flux: npt.ArrayLike, covariance: FloatArray
) -> None:
    determinant = covariance[:, 0, 0] * covariance[:, 1, 1] - covariance[:, 0, 1] ** 2
    a = (-0.5 * covariance[:, 1, 1] / determinant).astype(np.float32)[:, None, None]
    b = (covariance[:, 0, 1] / determinant).astype(np.float32)[:, None, None]
    c = (-0.5 * covariance[:, 0, 0] / determinant).astype(np.float32)[:, None, None]
    exponent = (a * dx + b * dy) * dx
    exponent += c * dy * dy
    np.exp(exponent, out=exponent)
    exponent *= (np.asarray(flux) / (2 * np.pi * np.sqrt(determinant))).astype(np.float32)[:, None, None]
    values += exponent
