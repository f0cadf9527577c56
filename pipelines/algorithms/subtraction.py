"""Science minus matched template, and the noise that is left."""

from __future__ import annotations

__all__ = ["SkyNoise", "sky_noise", "subtract"]

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.images import MaskPlane, PromptImage, SpatialKernel, field_terms
from pipelines.algorithms.convolution import convolve_varying
from pipelines.algorithms.kernel import KernelFit
from pipelines.algorithms.noise import autocovariance, blank_sky, blank_sky_rms, predict_difference_rms

Float32Array = npt.NDArray[np.float32]


def subtract(
    science: Float32Array,
    variance: Float32Array,
    template: Float32Array,
    template_variance: Float32Array,
    fit: KernelFit,
) -> tuple[Float32Array, Float32Array]:
    """Subtract the matched template.

    Parameters
    ----------
    science, variance : `numpy.ndarray`
        Image and its variance.
    template, template_variance : `numpy.ndarray`
        The same on the same pixels, not yet matched.
    fit : `pipelines.algorithms.kernel.KernelFit`

    Returns
    -------
    difference, variance : `numpy.ndarray`
    """
    difference = science - convolve_varying(template, fit.kernel)
    ny, nx = science.shape
    y, x = np.ogrid[0:ny, 0:nx]
    terms = field_terms(x, y, fit.kernel.size, fit.background_degree)
    for term, coefficient in zip(terms, fit.background, strict=True):
        difference -= np.asarray(coefficient * term, np.float32)
    middle = fit.kernel.at(nx / 2, ny / 2)
    # As if the template's variance did not change over the kernel. Where it
    # matters to the last digit, in the score image, it is convolved.
    return difference, variance + template_variance * np.float32((middle.astype(float) ** 2).sum())


#: Side of the part in the middle in which noise is measured, pixels: enough
#: blank sky for a rms to a percent.
_NOISE_SIDE = 640


@dataclass
class SkyNoise:
    """Rms of blank sky.

    Attributes
    ----------
    measured, predicted : `float`
        In the difference, and as science and template let expect.
    science, template : `float`
        In the images before.
    """

    measured: float
    predicted: float
    science: float
    template: float


def sky_noise(
    science: PromptImage,
    template: PromptImage,
    difference: Float32Array,
    mask: npt.NDArray[np.int32],
    kernel: SpatialKernel,
) -> SkyNoise:
    """Compare the noise of a difference with its prediction.

    Parameters
    ----------
    science, template : `models.images.PromptImage`
        Without sky, on the same pixels; the template not yet matched.
    difference : `numpy.ndarray`
    mask : `numpy.ndarray`
        Of the difference.
    kernel : `models.images.SpatialKernel`
    """
    ny, nx = science.shape
    part = _middle(ny), _middle(nx)
    bad = mask[part] & int(MaskPlane.unusable()) != 0
    sky = blank_sky(science.image[part], bad, sources=template.image[part])
    covariance = autocovariance(template.image[part], sky)
    rms = blank_sky_rms(science.image[part], sky)
    return SkyNoise(
        measured=blank_sky_rms(difference[part], sky),
        predicted=predict_difference_rms(rms, covariance, kernel.at(nx / 2, ny / 2)),
        science=rms,
        template=float(np.sqrt(max(covariance[covariance.shape[0] // 2, covariance.shape[1] // 2], 0.0))),
    )


def _middle(length: int) -> slice:
    margin = max(0, (length - _NOISE_SIDE) // 2)
    return slice(margin, length - margin)
