"""Which peaks of a score image are sources.

The rejections follow what raises false detections in practice: rings around
bright stars, misaligned stars (dipoles), cosmic rays that the single image did
not show as such, borders of masked regions.
"""

from __future__ import annotations

__all__ = ["Candidates", "Limits", "select_candidates"]

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from models.images import SpatialKernel
from pipelines.algorithms.filters import grow
from pipelines.algorithms.photometry import PsfPhotometry, psf_photometry
from pipelines.algorithms.score import Peaks, find_peaks

Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Limits:
    """What a peak must satisfy.

    Attributes
    ----------
    threshold : `float`
        Least significance.
    star_ratio, star_radius : `float`
        Least flux relative to a star within so many pixels.
    wings : `tuple` [`tuple` [`float`, `float`], ...]
        The same (ratio, radius) for the wings of stars, further out. Only
        those of the brightest rise above the noise.
    dipole_ratio : `float`
        Opposite peak over this one from which on it is called a dipole.
    dipole_significance : `float`
        Least significance of that opposite peak.
    dipole_radius : `float`
        Pixels.
    shape : `float`
        Most chi squared a pixel of a faint source's residuals.
    shape_error : `float`
        Error of the PSF model, as a part of the flux, that bright sources'
        residuals may have besides.
    coverage : `float`
        Least part of the PSF's weight on usable pixels.
    """

    threshold: float = 5.5
    star_ratio: float = 0.02
    star_radius: float = 6.0
    wings: tuple[tuple[float, float], ...] = ((0.004, 10.0), (0.0016, 18.0))
    dipole_ratio: float = 0.45
    dipole_significance: float = 3.5
    dipole_radius: float = 6.0
    shape: float = 2.5
    shape_error: float = 0.06
    coverage: float = 0.7


@dataclass
class Candidates:
    """Peaks that passed, and what was measured of them.

    Attributes
    ----------
    peaks : `pipelines.algorithms.score.Peaks`
    photometry : `pipelines.algorithms.photometry.PsfPhotometry`
        On the difference image.
    dipole : `numpy.ndarray`
        Whether an opposite peak lies next to it.
    rejected : `dict` [`str`, `int`]
        How many peaks each test rejected.
    """

    peaks: Peaks
    photometry: PsfPhotometry
    dipole: BoolArray
    rejected: dict[str, int]


def select_candidates(
    score: Float32Array,
    difference: Float32Array,
    variance: Float32Array,
    bad: BoolArray,
    psf: SpatialKernel,
    stars: tuple[FloatArray, FloatArray, FloatArray],
    limits: Limits,
) -> Candidates:
    """Find sources in a difference image.

    Parameters
    ----------
    score : `numpy.ndarray`
        From `pipelines.algorithms.score.score_image`.
    difference, variance : `numpy.ndarray`
    bad : `numpy.ndarray`
        Pixels without measurement.
    psf : `models.images.SpatialKernel`
    stars : `tuple` [`numpy.ndarray`, `numpy.ndarray`, `numpy.ndarray`]
        x, y and flux of the sources of the template.
    limits : `Limits`
    """
    # A peak next to a hole in the image is the hole's.
    usable = ~grow(bad)
    peaks = find_peaks(score, usable, limits.threshold)
    photometry = psf_photometry(difference, variance, bad, psf, peaks.x, peaks.y)
    tests = {
        "masked": ~(photometry.coverage >= limits.coverage),
        "star": _is_residual(peaks, photometry.flux, stars, limits),
        "shape": _is_misshapen(photometry, limits),
    }
    rejected: dict[str, int] = {}
    keep = np.ones(len(peaks), bool)
    for name, failed in tests.items():
        rejected[name] = int((failed & keep).sum())
        keep &= ~failed
    dipole = _is_dipole(score, peaks, bad, limits)
    kept = np.flatnonzero(keep)
    return Candidates(
        peaks=peaks[kept],
        photometry=PsfPhotometry(
            *(getattr(photometry, n)[kept] for n in ("flux", "error", "chi2", "pixels", "coverage"))
        ),
        dipole=dipole[kept],
        rejected=rejected,
    )


def _is_residual(
    peaks: Peaks, flux: FloatArray, stars: tuple[FloatArray, FloatArray, FloatArray], limits: Limits
) -> BoolArray:
    """Whether a peak is what a kernel leaves of a bright star."""
    result = np.zeros(len(peaks), bool)
    x, y, star_flux = stars
    known = np.isfinite(star_flux) & (star_flux > 0)
    if not len(peaks) or not known.any():
        return result
    tree = KDTree(np.column_stack([x[known], y[known]]))
    brightness = star_flux[known]
    places = np.column_stack([peaks.x, peaks.y])
    for ratio, radius in ((limits.star_ratio, limits.star_radius), *limits.wings):
        for k, near in enumerate(tree.query_ball_point(places, radius)):
            if near:
                result[k] |= bool(abs(flux[k]) < ratio * float(brightness[near].max()))
    return result


def _is_misshapen(photometry: PsfPhotometry, limits: Limits) -> BoolArray:
    """Whether residuals about the PSF are too large: a cosmic ray, an edge."""
    pixels = np.maximum(photometry.pixels, 1)
    reduced = photometry.chi2 / pixels
    # A model that is wrong by a part of the flux leaves residuals that grow
    # with the square of the significance.
    significance = np.abs(photometry.flux) / photometry.error
    allowed = limits.shape + (limits.shape_error * significance) ** 2
    return ~(reduced <= allowed)


def _is_dipole(score: Float32Array, peaks: Peaks, bad: BoolArray, limits: Limits) -> BoolArray:
    """Whether a peak of the opposite sign lies next to each peak."""
    reach = int(np.ceil(limits.dipole_radius))
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    near = np.hypot(rows, columns) <= limits.dipole_radius
    ny, nx = score.shape
    result = np.zeros(len(peaks), bool)
    for k in range(len(peaks)):
        y = np.clip(peaks.iy[k] + rows[near], 0, ny - 1)
        x = np.clip(peaks.ix[k] + columns[near], 0, nx - 1)
        sign = np.sign(peaks.score[k])
        opposite = float(np.max(np.where(bad[y, x], 0.0, -sign * score[y, x])))
        result[k] = opposite > max(limits.dipole_ratio * abs(peaks.score[k]), limits.dipole_significance)
    return result
