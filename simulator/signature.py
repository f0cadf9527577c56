"""The signature that a sensor leaves on its images, and how to undo it."""

from __future__ import annotations

__all__ = ["DARK_CURRENT", "Signature", "make_signature"]

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from config.instruments import Detector, InstrumentConfig
from models.geometry import pixel_to_focal_plane
from simulator.profiles import Float32Array

#: Mean dark current, electrons per second and pixel.
DARK_CURRENT = 0.05
#: Light lost at the edge of the mosaic, relative to its middle.
_VIGNETTING = 0.12
#: Scatter of the response from pixel to pixel.
_PIXEL_RESPONSE = 0.008
#: Columns of a sensor that are dead, and the largest length of each.
_BAD_COLUMNS = 2
#: Clusters of dead pixels, and single hot pixels, of a sensor.
_DEAD_CLUSTERS = 6
_HOT_PIXELS = 25


@dataclass(frozen=True)
class Signature:
    """What a sensor does to an image; trimmed frame, shape (ny, nx).

    Attributes
    ----------
    bias : `numpy.ndarray`, float32
        Structure above the overscan level, ADU.
    dark : `numpy.ndarray`, float32
        Electrons per second.
    flat : `numpy.ndarray`, float32
        Response relative to the mean.
    defects : `tuple` of `tuple` [`int`, `int`, `int`, `int`]
        (x0, y0, width, height) of bad pixels, in the order of the files.
    """

    bias: Float32Array
    dark: Float32Array
    flat: Float32Array
    defects: tuple[tuple[int, int, int, int], ...]

    @property
    def bad(self) -> np.ndarray:
        """Where pixels are defective, (ny, nx), bool."""
        mask = np.zeros(self.bias.shape, dtype=bool)
        for x0, y0, width, height in self.defects:
            mask[y0 : y0 + height, x0 : x0 + width] = True
        return mask


def make_signature(
    instrument: InstrumentConfig, detector: Detector, *, physical_filter: str, seed: int
) -> Signature:
    """Make the signature of one sensor.

    Only dust and the pixels' response differ between filters.

    Parameters
    ----------
    instrument, detector
        The camera and the sensor.
    physical_filter : `str`
        The filter whose flat is wanted.
    seed : `int`
        The same seed gives the same sensor.
    """
    rng = np.random.default_rng([seed, 2, detector.id])
    ny, nx = detector.shape
    y, x = np.mgrid[0:ny, 0:nx].astype(np.float32)
    bias = np.zeros((ny, nx), np.float32)
    for amplifier in detector.amplifiers:
        rows, columns = amplifier.data.slices
        # A ramp along the readout and a pattern of columns.
        ramp = rng.uniform(-4, 4) * (y[rows, columns] / ny - 0.5) + rng.uniform(2, 6) * np.exp(
            -y[rows, columns] / 40
        )
        pattern = rng.normal(0, 0.8, amplifier.data.shape[1])
        bias[rows, columns] = ramp + pattern
    dark = DARK_CURRENT * gaussian_filter(rng.gamma(4.0, 0.25, (ny, nx)), 1).astype(np.float32)
    # Glow of the output amplifiers, in a corner.
    dark += 0.4 * np.exp(-np.hypot(x, y) / 60).astype(np.float32)
    defects = _draw_defects(rng, nx, ny)
    for x0, y0 in zip(rng.integers(0, nx, _HOT_PIXELS), rng.integers(0, ny, _HOT_PIXELS), strict=True):
        dark[y0, x0] += rng.exponential(60.0) + 20.0
        defects.append((int(x0), int(y0), 1, 1))
    flat = _draw_flat(instrument, detector, physical_filter, seed)
    for x0, y0, width, height in defects[: _BAD_COLUMNS + _DEAD_CLUSTERS]:
        flat[y0 : y0 + height, x0 : x0 + width] *= 0.02
    return Signature(bias=bias, dark=dark, flat=flat / flat.mean(dtype=np.float64), defects=tuple(defects))


def _draw_defects(rng: np.random.Generator, nx: int, ny: int) -> list[tuple[int, int, int, int]]:
    """Draw dead columns and clusters."""
    defects = []
    for _ in range(_BAD_COLUMNS):
        length = int(rng.integers(ny // 6, ny))
        top = bool(rng.random() < 0.5)
        defects.append((int(rng.integers(0, nx)), ny - length if top else 0, 1, length))
    for _ in range(_DEAD_CLUSTERS):
        width, height = (int(n) for n in rng.integers(1, 4, 2))
        defects.append((int(rng.integers(0, nx - width)), int(rng.integers(0, ny - height)), width, height))
    return defects


def _draw_flat(
    instrument: InstrumentConfig, detector: Detector, physical_filter: str, seed: int
) -> Float32Array:
    number = [f.name for f in instrument.filters].index(physical_filter)
    rng = np.random.default_rng([seed, 3, detector.id, number])
    ny, nx = detector.shape
    y, x = np.mgrid[0:ny, 0:nx].astype(np.float32)
    focal_x, focal_y = pixel_to_focal_plane(instrument, detector, x, y)
    edge = max(np.hypot(*d.center) for d in instrument.detectors) * instrument.plate_scale / 3600.0
    edge += np.hypot(nx, ny) / 2 * instrument.pixel_scale / 3600.0
    flat = (1.0 - _VIGNETTING * ((focal_x**2 + focal_y**2) / edge**2) ** 1.5).astype(np.float32)
    flat *= (1.0 + _PIXEL_RESPONSE * rng.standard_normal((ny, nx), dtype=np.float32)).astype(np.float32)
    for _ in range(4):
        # A grain of dust far above the sensor casts a ring.
        r = np.hypot(x - rng.uniform(0, nx), y - rng.uniform(0, ny))
        size = rng.uniform(12, 30)
        flat *= 1.0 - rng.uniform(0.01, 0.03) * np.exp(-(((r - size) / (0.3 * size)) ** 2))
    return flat
