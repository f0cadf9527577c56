"""PSF photometry at given positions, and the photometric zero point."""

from __future__ import annotations

__all__ = ["PsfPhotometry", "ZeroPoint", "fit_zero_point", "psf_photometry"]

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.images import SpatialKernel
from pipelines.algorithms.psf import shift_matrix

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

#: Squares of the detector, a side, over which one PSF serves.
_PSF_CELLS = 8


@dataclass
class PsfPhotometry:
    """Fluxes of point sources.

    Attributes
    ----------
    flux, error : `numpy.ndarray`
        Unit of the image; NaN where nothing could be measured.
    chi2 : `numpy.ndarray`
        Chi squared of the residuals within `core` pixels.
    pixels : `numpy.ndarray`
        Number of pixels of chi2.
    coverage : `numpy.ndarray`
        Part of the PSF's weight that fell on usable pixels.
    """

    flux: FloatArray
    error: FloatArray
    chi2: FloatArray
    pixels: npt.NDArray[np.int64]
    coverage: FloatArray


def psf_photometry(
    image: Float32Array,
    variance: Float32Array,
    bad: npt.NDArray[np.bool_],
    psf: SpatialKernel,
    x: FloatArray,
    y: FloatArray,
    *,
    core: float = 3.5,
) -> PsfPhotometry:
    """Fit the flux of a point source at fixed positions.

    Unweighted by noise (a filter matched to white noise), so that fluxes of
    bright and faint sources have the same scale.

    Parameters
    ----------
    image, variance : `numpy.ndarray`
        Sky-subtracted pixels and their variance.
    bad : `numpy.ndarray`
        Pixels to leave out.
    psf : `models.images.SpatialKernel`
    x, y : `numpy.ndarray`
        Positions, pixels; they may lie off the image.
    core : `float`, optional
        Radius for `PsfPhotometry.chi2`, pixels.
    """
    ny, nx = image.shape
    half = psf.coefficients.shape[1] // 2
    count = len(x)
    result = PsfPhotometry(
        flux=np.full(count, np.nan),
        error=np.full(count, np.nan),
        chi2=np.full(count, np.nan),
        pixels=np.zeros(count, np.int64),
        coverage=np.zeros(count),
    )
    if not count:
        return result
    radius = np.hypot(*np.mgrid[-half : half + 1, -half : half + 1])
    in_core = radius <= core
    models = _models(psf, x, y)
    for k in range(count):
        i, j = round(float(x[k])), round(float(y[k]))
        x0, x1, y0, y1 = max(0, i - half), min(nx, i + half + 1), max(0, j - half), min(ny, j + half + 1)
        if x0 >= x1 or y0 >= y1:
            continue
        window = slice(y0 - j + half, y1 - j + half), slice(x0 - i + half, x1 - i + half)
        there = np.s_[y0:y1, x0:x1]
        usable = ~bad[there]
        model = models[k][window]
        weight = np.where(usable, model, 0.0)
        norm = float((weight * model).sum())
        result.coverage[k] = norm / float((models[k] ** 2).sum())
        if result.coverage[k] < 0.3:
            continue
        flux = float((weight * image[there]).sum()) / norm
        result.flux[k] = flux
        result.error[k] = np.sqrt(float((weight**2 * variance[there]).sum())) / norm
        fit = usable & in_core[window]
        residual = (image[there] - flux * model)[fit]
        result.chi2[k] = float((residual**2 / variance[there][fit]).sum())
        result.pixels[k] = int(fit.sum())
    return result


def _models(psf: SpatialKernel, x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the PSF at each position, on its pixels, (n, side, side)."""
    side = psf.coefficients.shape[1]
    cell = psf.size / _PSF_CELLS
    cells = np.column_stack([np.floor(x / cell), np.floor(y / cell)]).astype(int)
    images: dict[tuple[int, int], Float32Array] = {}
    stack = np.empty((len(x), side, side))
    for k, (i, j) in enumerate(map(tuple, cells.tolist())):
        if (i, j) not in images:
            centre = np.clip([(i + 0.5) * cell, (j + 0.5) * cell], 0, psf.size)
            images[i, j] = psf.normalised_at(*centre)
        stack[k] = images[i, j]
    # Shifting the model by +d is sampling it at -d.
    return shift_matrix(side, np.rint(y) - y) @ stack @ shift_matrix(side, np.rint(x) - x).transpose(0, 2, 1)


@dataclass
class ZeroPoint:
    """Photometric calibration.

    Attributes
    ----------
    scale : `float`
        Nanojansky per unit of the image.
    scatter : `float`
        Relative scatter of the stars about it.
    stars : `int`
        How many were used.
    """

    scale: float
    scatter: float
    stars: int


def fit_zero_point(
    measured: FloatArray, error: FloatArray, reference: FloatArray, *, min_snr: float = 20.0
) -> ZeroPoint | None:
    """Fit the scale between measured and reference fluxes.

    A clipped median of the ratios of stars that are bright enough.

    Parameters
    ----------
    measured, error : `numpy.ndarray`
        Fluxes in the unit of the image.
    reference : `numpy.ndarray`
        Fluxes of the same stars, nJy.
    min_snr : `float`, optional
        Fainter stars are used only if there are fewer than five others.

    Returns
    -------
    zero_point : `ZeroPoint` or `None`
        None without a usable star.
    """
    usable = np.isfinite(measured) & np.isfinite(reference) & (measured > 0) & (reference > 0) & (error > 0)
    bright = usable & (measured > min_snr * np.where(error > 0, error, np.inf))
    if bright.sum() >= 5:
        usable = bright
    if not usable.any():
        return None
    ratios = reference[usable] / measured[usable]
    for _ in range(5):
        middle = float(np.median(ratios))
        spread = 1.4826 * float(np.median(np.abs(ratios - middle)))
        kept = ratios[np.abs(ratios - middle) <= max(3.0 * spread, 0.005 * middle)]
        if len(kept) == len(ratios):
            break
        ratios = kept
    middle = float(np.median(ratios))
    spread = 1.4826 * float(np.median(np.abs(ratios - middle)))
    return ZeroPoint(scale=middle, scatter=spread / middle, stars=len(ratios))
