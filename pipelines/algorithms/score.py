"""Detection in a difference image: matched filter, peaks, measurements."""

from __future__ import annotations

__all__ = ["Peaks", "ScoreImage", "find_peaks", "score_image"]

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft
from scipy.signal import fftconvolve

from models.images import SpatialKernel
from pipelines.algorithms.background import robust_rms
from pipelines.algorithms.convolution import fft_shape, kernel_transform

Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

#: Blocks, a side of the detector, over which one PSF and one kernel serve.
_BLOCKS = 4


@dataclass
class ScoreImage:
    """Significance of a point source at each pixel.

    Attributes
    ----------
    score : `numpy.ndarray`, (ny, nx), float32
        Flux over its error, renormalised so that blank sky has rms 1.
    rms : `float`
        Rms before that: how well the noise was predicted.
    """

    score: Float32Array
    rms: float


def score_image(
    difference: Float32Array,
    variance: Float32Array,
    template_variance: Float32Array | None,
    bad: BoolArray,
    psf: SpatialKernel,
    kernel: SpatialKernel | None,
) -> ScoreImage:
    """Filter a difference image with its point-spread function.

    Parameters
    ----------
    difference : `numpy.ndarray`
        Science minus convolved template.
    variance, template_variance : `numpy.ndarray`
        Of the science image, and of the template before its convolution.
    bad : `numpy.ndarray`
        Pixels that count as empty.
    psf, kernel : `models.images.SpatialKernel`
        PSF of the science image; what the template was convolved with.

    Returns
    -------
    result : `ScoreImage`

    Notes
    -----
    The noise of the convolved template is correlated. Filtering it with the
    PSF is filtering the white noise before with the PSF and the kernel, so
    its part of the score's variance is the template's variance convolved with
    the square of both.
    """
    ny, nx = difference.shape
    pad = psf.coefficients.shape[1] - 1
    score = np.zeros(difference.shape, np.float32)
    filled = np.where(bad, np.float32(0), difference)
    weighted = np.where(bad, np.float32(0), variance)
    height, width = -(-ny // _BLOCKS), -(-nx // _BLOCKS)
    for y0 in range(0, ny, height):
        for x0 in range(0, nx, width):
            y1, x1 = min(ny, y0 + height), min(nx, x0 + width)
            ya, yb, xa, xb = max(0, y0 - pad), min(ny, y1 + pad), max(0, x0 - pad), min(nx, x1 + pad)
            middle = (x0 + x1) / 2, (y0 + y1) / 2
            profile = psf.normalised_at(*middle)
            shape = fft_shape((yb - ya, xb - xa), pad)
            there = np.s_[ya:yb, xa:xb]
            matched = np.conj(kernel_transform(profile, shape))
            flux = fft.irfft2(fft.rfft2(filled[there], shape, workers=1) * matched, shape, workers=1)
            noise = fft.rfft2(weighted[there], shape, workers=1)
            noise *= np.conj(kernel_transform(profile * profile, shape))
            if template_variance is not None and kernel is not None:
                # The kernel correlated with the profile, on its own few pixels.
                both = fftconvolve(kernel.at(*middle), profile[::-1, ::-1])
                noise += fft.rfft2(template_variance[there], shape, workers=1) * np.conj(
                    kernel_transform((both * both)[::-1, ::-1], shape)
                )
            sigma = fft.irfft2(noise, shape, workers=1)
            inner = np.s_[y0 - ya : y1 - ya, x0 - xa : x1 - xa]
            floor = np.float32(1e-6 * max(float(sigma[inner].mean()), 1e-30))
            score[y0:y1, x0:x1] = flux[inner] / np.sqrt(np.maximum(sigma[inner], floor))
    # Quartiles of every fourth pixel: a hundred thousand numbers are plenty.
    sample = score[::2, ::2][~bad[::2, ::2]]
    rms = robust_rms(sample) if sample.size else 1.0
    if not np.isfinite(rms) or rms <= 0:
        rms = 1.0
    score /= np.float32(rms)
    return ScoreImage(score, rms)


@dataclass
class Peaks:
    """Local maxima of a score image, in the order of rows and columns.

    Attributes
    ----------
    x, y : `numpy.ndarray`
        Position, interpolated between pixels.
    ix, iy : `numpy.ndarray`
        The highest pixel.
    score : `numpy.ndarray`
        Its value, of the sign of the source.
    """

    x: FloatArray
    y: FloatArray
    ix: npt.NDArray[np.int64]
    iy: npt.NDArray[np.int64]
    score: FloatArray

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: npt.NDArray[np.generic]) -> Peaks:
        return Peaks(self.x[index], self.y[index], self.ix[index], self.iy[index], self.score[index])


def find_peaks(score: Float32Array, usable: BoolArray, threshold: float, *, reach: int = 3) -> Peaks:
    """Find local extrema of both signs.

    Parameters
    ----------
    score : `numpy.ndarray`
        Significance.
    usable : `numpy.ndarray`
        Where a peak may lie.
    threshold : `float`
        Least absolute value of a peak.
    reach : `int`, optional
        A peak is the highest of the square of this half side.
    """
    ny, nx = score.shape
    rows, columns = np.nonzero((np.abs(score) > threshold) & usable)
    inside = (rows >= reach) & (rows < ny - reach) & (columns >= reach) & (columns < nx - reach)
    found: list[tuple[float, float, int, int, float]] = []
    for row, column in zip(rows[inside].tolist(), columns[inside].tolist(), strict=True):
        value = float(score[row, column])
        sign = 1.0 if value > 0 else -1.0
        window = score[row - reach : row + reach + 1, column - reach : column + reach + 1]
        if sign * value < float((sign * window).max()):
            continue
        dx, dy = _vertex(sign * score[row - 1 : row + 2, column - 1 : column + 2].astype(float))
        found.append((column + dx, row + dy, column, row, value))
    table = np.array(found, dtype=float).reshape(-1, 5)
    return Peaks(table[:, 0], table[:, 1], table[:, 2].astype(int), table[:, 3].astype(int), table[:, 4])


def _vertex(cells: FloatArray) -> tuple[float, float]:
    """Return where the paraboloid through 3 x 3 pixels has its maximum."""
    gx, gy = (cells[1, 2] - cells[1, 0]) / 2, (cells[2, 1] - cells[0, 1]) / 2
    hxx = cells[1, 2] + cells[1, 0] - 2 * cells[1, 1]
    hyy = cells[2, 1] + cells[0, 1] - 2 * cells[1, 1]
    hxy = (cells[2, 2] + cells[0, 0] - cells[0, 2] - cells[2, 0]) / 4
    determinant = hxx * hyy - hxy * hxy
    if determinant <= 0 or hxx >= 0:
        return 0.0, 0.0
    dx = -(hyy * gx - hxy * gy) / determinant
    dy = -(hxx * gy - hxy * gx) / determinant
    return float(np.clip(dx, -0.7, 0.7)), float(np.clip(dy, -0.7, 0.7))
