"""Point-spread function from stars, varying over the detector."""

from __future__ import annotations

__all__ = ["PsfFit", "fit_psf", "fwhm_of", "shift_matrix"]

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.images import SpatialKernel, field_terms

FloatArray = npt.NDArray[np.float64]

#: Half side of the model, pixels.
_HALF = 10
#: Rows around it that interpolation and the local sky need.
_FRAME = 6
#: Radius, in pixels, beyond which the model is faded out to 0. Its wings are
#: mostly noise, and around bright transients they raise false detections.
_TRUNCATION = 9.0
#: Largest weight of a star relative to the median one, so that the few
#: brightest do not decide alone.
_MAX_WEIGHT = 3.0


@dataclass
class PsfFit:
    """A model of the point-spread function.

    Attributes
    ----------
    model : `models.images.SpatialKernel`
    stars : `numpy.ndarray`
        Indices of the stars that were used.
    fwhm : `float`
        Full width at half maximum in the middle of the detector, pixels.
    """

    model: SpatialKernel
    stars: npt.NDArray[np.int64]
    fwhm: float


def shift_matrix(length: int, shift: npt.ArrayLike) -> FloatArray:
    """Return matrices that shift rows of an image by part of a pixel.

    Lanczos interpolation of order 4, as a matrix, so that a stamp is shifted
    by two products.

    Parameters
    ----------
    length : `int`
        Side of the stamp, pixels.
    shift : array-like, (n,)
        Where the new origin lies, pixels.

    Returns
    -------
    matrices : `numpy.ndarray`, (n, length, length)
    """
    positions = np.arange(length)
    distance = (
        positions[None, :, None] + np.asarray(shift, float).reshape(-1, 1, 1) - positions[None, None, :]
    )
    weights = np.sinc(distance) * np.sinc(distance / 4)
    weights[np.abs(distance) >= 4] = 0
    return weights / weights.sum(axis=2, keepdims=True)


def fwhm_of(image: npt.NDArray[np.floating]) -> float:
    """Return the full width at half maximum of a centred profile, pixels.

    Twice the radius of the circle whose area is that above half of the
    maximum, with the profile interpolated between pixels along the radius.
    """
    half = image.shape[0] // 2
    radius = np.hypot(*np.mgrid[-half : half + 1, -half : half + 1])
    order = np.argsort(radius, axis=None)
    r, profile = radius.ravel()[order], np.asarray(image, float).ravel()[order]
    # A radial profile, averaged in rings of half a pixel.
    ring = np.rint(r * 2).astype(int)
    count = np.bincount(ring)
    keep = count > 0
    means = np.bincount(ring, profile)[keep] / count[keep]
    radii = np.bincount(ring, r)[keep] / count[keep]
    below = np.flatnonzero(means < means[0] / 2)
    if not len(below):
        return float(2 * half)
    i = int(below[0])
    fraction = (means[i - 1] - means[0] / 2) / (means[i - 1] - means[i])
    return float(2 * (radii[i - 1] + fraction * (radii[i] - radii[i - 1])))


def fit_psf(
    image: npt.NDArray[np.float32],
    bad: npt.NDArray[np.bool_],
    x: FloatArray,
    y: FloatArray,
    *,
    degree: int = 2,
    max_stars: int = 80,
) -> PsfFit | None:
    """Fit the point-spread function.

    Each pixel of the model is a polynomial over the detector, fitted to
    stars that were shifted to the middle of a pixel and scaled to flux 1.

    Parameters
    ----------
    image : `numpy.ndarray`
        Sky-subtracted pixels.
    bad : `numpy.ndarray`
        Stars with such a pixel near their centre are left out.
    x, y : `numpy.ndarray`
        Positions of isolated stars that are not saturated, best first.
    degree : `int`, optional
        Of the polynomial; fewer stars lower it.
    max_stars : `int`, optional
        Use no more than this.

    Returns
    -------
    fit : `PsfFit` or `None`
        None without a usable star.
    """
    ny, nx = image.shape
    margin = _HALF + _FRAME
    ix, iy = np.rint(x).astype(int), np.rint(y).astype(int)
    inside = (ix >= margin) & (ix < nx - margin) & (iy >= margin) & (iy < ny - margin)
    use = np.flatnonzero(inside)
    use = use[[not bad[iy[i] - 6 : iy[i] + 7, ix[i] - 6 : ix[i] + 7].any() for i in use]][:max_stars]
    if not len(use):
        return None
    stamps, flux = _stamps(image, x[use], y[use])
    positive = flux > 0
    use, stamps, flux = use[positive], stamps[positive], flux[positive]
    if not len(use):
        return None
    while degree > 0 and len(use) < 4 * (degree + 1) * (degree + 2) // 2:
        degree -= 1
    size = float(max(ny, nx))
    design = np.column_stack(field_terms(x[use], y[use], size, degree))
    pixels = stamps.reshape(len(use), -1)
    radius = np.hypot(*np.mgrid[-_HALF : _HALF + 1, -_HALF : _HALF + 1])
    core = radius.ravel() < 6
    weight = np.minimum(np.sqrt(flux / np.median(flux)), _MAX_WEIGHT)
    good = np.ones(len(use), bool)
    coefficients: npt.NDArray[Any] = np.zeros((design.shape[1], pixels.shape[1]))
    for _ in range(4):
        w = weight[good][:, None]
        coefficients = np.linalg.lstsq(design[good] * w, pixels[good] * w, rcond=None)[0]
        misfit = np.sqrt(((pixels - design @ coefficients)[:, core] ** 2).sum(axis=1)) * weight
        kept = misfit < 3.0 * np.median(misfit[good])
        if (kept == good).all() or kept.sum() < max(3, 2 * design.shape[1]):
            break
        good = kept
    fade = np.clip((_TRUNCATION - radius) / 2.0, 0.0, 1.0)
    images = coefficients.reshape(-1, *radius.shape) * fade
    model = SpatialKernel(images.astype(np.float32), degree, size)
    return PsfFit(model, use[good], fwhm_of(model.normalised_at(nx / 2, ny / 2)))


def _stamps(image: npt.NDArray[np.float32], x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Cut out stars, centre them, subtract the local sky, scale to flux 1."""
    reach = _HALF + _FRAME
    ix, iy = np.rint(x).astype(int), np.rint(y).astype(int)
    cut: FloatArray = np.array(
        [image[j - reach : j + reach + 1, i - reach : i + reach + 1] for i, j in zip(ix, iy, strict=True)]
    )
    side = 2 * reach + 1
    cut = shift_matrix(side, y - iy) @ cut @ shift_matrix(side, x - ix).transpose(0, 2, 1)
    radius = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1])
    ring = (radius > _HALF + 0.5) & (radius < _HALF + 3.5)
    cut -= np.median(cut[:, ring], axis=1)[:, None, None]
    cut = cut[:, _FRAME:-_FRAME, _FRAME:-_FRAME]
    flux = cut[:, radius[_FRAME:-_FRAME, _FRAME:-_FRAME] < _TRUNCATION].sum(axis=1)
    safe = np.where(flux > 0, flux, 1.0)
    return cut / safe[:, None, None], flux
