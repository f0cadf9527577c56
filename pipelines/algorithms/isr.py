"""Removal of the instrument's signature: from a readout to electrons."""

from __future__ import annotations

__all__ = ["Assembled", "assemble", "mask_defects", "remove_signature"]

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from config.instruments import Detector
from models.errors import UnreadableImage
from models.images import MaskPlane
from pipelines.algorithms.filters import grow

Float32Array = npt.NDArray[np.float32]

#: Response, relative to the mean, below which a pixel is called dead. Dust and
#: vignetting stay well above; the division would amplify noise tenfold here.
_MIN_RESPONSE = 0.1


@dataclass
class Assembled:
    """A detector's amplifiers put together.

    Attributes
    ----------
    image : `numpy.ndarray`, (ny, nx), float32
        ADU above overscan.
    gain, noise : `numpy.ndarray`, (ny, nx), float32
        Electrons per ADU; read noise in electrons.
    saturated : `numpy.ndarray`, (ny, nx), bool
    """

    image: Float32Array
    gain: Float32Array
    noise: Float32Array
    saturated: npt.NDArray[np.bool_]


def assemble(raw: npt.NDArray[Any], detector: Detector) -> Assembled:
    """Subtract each amplifier's overscan and put them together.

    Parameters
    ----------
    raw : `numpy.ndarray`
        The readout, overscan included; ADU.
    detector : `config.instruments.Detector`
        Where its amplifiers lie.

    Returns
    -------
    assembled : `Assembled`

    Raises
    ------
    models.errors.UnreadableImage
        Raised if the readout has another shape than the detector.
    """
    if raw.shape != detector.raw_shape:
        raise UnreadableImage(
            f"the raw image has shape {raw.shape}, but detector {detector.id} ({detector.name}) reads out "
            f"{detector.raw_shape}: it belongs to another camera, or the instrument file is wrong"
        )
    shape = detector.shape
    result = Assembled(
        image=np.zeros(shape, np.float32),
        gain=np.ones(shape, np.float32),
        noise=np.zeros(shape, np.float32),
        saturated=np.zeros(shape, bool),
    )
    for amplifier in detector.amplifiers:
        if amplifier.raw_data is None:
            raise UnreadableImage(
                f"amplifier {amplifier.name} of detector {detector.id} has no raw_data section; "
                "frames of this camera need a pipeline that begins after ISR"
            )
        target = amplifier.data.slices
        values = raw[amplifier.raw_data.slices].astype(np.float32)
        if amplifier.raw_overscan is not None:
            # The median, not the mean: bright columns bleed into the first
            # overscan pixels, and cosmic rays hit them too.
            values -= np.float32(np.median(raw[amplifier.raw_overscan.slices]))
        result.image[target] = values
        result.gain[target] = amplifier.gain
        result.noise[target] = amplifier.read_noise
        result.saturated[target] = values >= amplifier.saturation
    return result


def remove_signature(
    assembled: Assembled,
    *,
    bias: Float32Array | None,
    dark: Float32Array | None,
    flat: Float32Array | None,
    exposure_time: float,
) -> tuple[Float32Array, Float32Array, npt.NDArray[np.int32]]:
    """Apply the calibrations.

    Parameters
    ----------
    assembled : `Assembled`
        Changed in place.
    bias : `numpy.ndarray` or `None`
        Structure left above the overscan level, ADU.
    dark : `numpy.ndarray` or `None`
        ADU per second.
    flat : `numpy.ndarray` or `None`
        Response relative to the mean.
    exposure_time : `float`
        Seconds.

    Returns
    -------
    image, variance : `numpy.ndarray`
        Electrons, electrons squared; flat-fielded.
    mask : `numpy.ndarray`
        Bits of `~models.images.MaskPlane`.
    """
    image = assembled.image
    mask = np.zeros(image.shape, np.int32)
    # Charge of a saturated pixel spills into its neighbours.
    mask[grow(assembled.saturated)] |= MaskPlane.SAT
    for name, calibration in (("bias", bias), ("dark", dark), ("flat", flat)):
        if calibration is not None and calibration.shape != image.shape:
            raise ValueError(f"the {name} has shape {calibration.shape}, the detector {image.shape}")
    if bias is not None:
        image -= bias
    if dark is not None:
        image -= dark * np.float32(exposure_time)
    image *= assembled.gain
    variance = np.maximum(image, np.float32(0))
    variance += assembled.noise**2
    if flat is not None:
        dead = ~(flat > _MIN_RESPONSE)
        response = np.where(dead, np.float32(1), flat)
        image /= response
        variance /= response * response
        mask[dead] |= MaskPlane.BAD
    broken = ~np.isfinite(image)
    if broken.any():
        image[broken] = 0
        variance[broken] = np.float32(np.median(variance[~broken])) if not broken.all() else 1
        mask[broken] |= MaskPlane.BAD
    return image, variance, mask


def mask_defects(mask: npt.NDArray[np.int32], defects: Iterable[tuple[int, int, int, int]]) -> None:
    """Mark rectangles of bad pixels.

    Parameters
    ----------
    mask : `numpy.ndarray`
        Changed in place.
    defects : iterable of (x0, y0, width, height)
        In the trimmed frame, pixels.
    """
    for x0, y0, width, height in defects:
        mask[max(0, y0) : max(0, y0 + height), max(0, x0) : max(0, x0 + width)] |= MaskPlane.BAD
