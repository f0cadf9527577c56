"""Noise of blank sky, correlated as resampling and stacking leave it."""

from __future__ import annotations

__all__ = ["autocovariance", "blank_sky", "blank_sky_rms", "predict_difference_rms"]

import numpy as np
import numpy.typing as npt
from scipy import fft
from scipy.signal import fftconvolve

from pipelines.algorithms.background import robust_rms
from pipelines.algorithms.filters import box_mean, grow

Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

#: Lag, pixels, beyond which noise is taken as independent: two resamplings
#: with Lanczos-3 reach no further.
_REACH = 7


def blank_sky(image: Float32Array, bad: BoolArray, *, sources: Float32Array | None = None) -> BoolArray:
    """Return where an image shows nothing but sky.

    Parameters
    ----------
    image : `numpy.ndarray`
        Sky-subtracted pixels in which sources are looked for.
    bad : `numpy.ndarray`
        Pixels without measurement.
    sources : `numpy.ndarray`, optional
        Another image whose sources count too.
    """
    sky = ~bad
    for pixels in (image, sources):
        if pixels is None:
            continue
        smooth = box_mean(np.where(bad, np.float32(0), pixels), 2)
        sample = smooth[sky]
        if sample.size == 0:
            return sky
        centre = float(np.median(sample))
        bright = np.abs(smooth - np.float32(centre)) > 2.5 * robust_rms(sample)
        # Wings of stars reach beyond what is seen.
        sky &= ~grow(bright, 7)
    return sky


def blank_sky_rms(image: Float32Array, sky: BoolArray) -> float:
    """Return the rms of pixels of blank sky about their mean."""
    values = image[sky]
    if values.size < 2:
        return float("nan")
    return float(np.std(values, dtype=np.float64))


def autocovariance(image: Float32Array, sky: BoolArray) -> npt.NDArray[np.float64]:
    """Return the autocovariance of blank sky.

    Returns
    -------
    covariance : `numpy.ndarray`, (2 * 7 + 1, 2 * 7 + 1)
        By lag in y and x, lag 0 in the middle; image unit squared.
    """
    reach = _REACH
    count = int(sky.sum())
    if count < 2:
        return np.full((2 * reach + 1, 2 * reach + 1), np.nan)
    mean = np.float32(image[sky].mean(dtype=np.float64))
    shape = tuple(int(fft.next_fast_len(n + reach, real=True)) for n in image.shape)
    values = np.where(sky, image - mean, np.float32(0))
    total = fft.irfft2(np.abs(fft.rfft2(values, shape, workers=1)) ** 2, shape, workers=1)
    pairs = fft.irfft2(np.abs(fft.rfft2(sky.astype(np.float32), shape, workers=1)) ** 2, shape, workers=1)
    lags = np.arange(-reach, reach + 1)
    index = np.ix_(lags, lags)
    return total[index].astype(float) / np.maximum(pairs[index].astype(float), 1.0)


def predict_difference_rms(
    science_rms: float, template_covariance: npt.NDArray[np.float64], kernel: Float32Array
) -> float:
    """Predict the rms of blank sky in a difference image.

    Parameters
    ----------
    science_rms : `float`
        Of blank sky in the science image.
    template_covariance : `numpy.ndarray`
        `autocovariance` of the template before convolution.
    kernel : `numpy.ndarray`, (n, n)
        What the template is convolved with.

    Returns
    -------
    rms : `float`
        sqrt(science^2 + sum over lags of the template's autocovariance times
        that of the kernel).
    """
    kernel = kernel.astype(float)
    correlation = fftconvolve(kernel, kernel[::-1, ::-1], mode="full")
    centre = kernel.shape[0] - 1
    reach = min(template_covariance.shape[0] // 2, centre)
    middle = template_covariance.shape[0] // 2
    ours = correlation[centre - reach : centre + reach + 1, centre - reach : centre + reach + 1]
    theirs = template_covariance[middle - reach : middle + reach + 1, middle - reach : middle + reach + 1]
    return float(np.sqrt(max(0.0, science_rms**2 + float((ours * theirs).sum()))))
