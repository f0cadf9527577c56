"""Resampling from one pixel grid to another.

Lanczos interpolation of order 3 (Duchon 1979) with weights from a table, the
mapping between the grids exact every 16 pixels and linear in between. On
1024 x 1024 pixels 40 ms, where evaluating the WCS at every pixel alone would
take 165.
"""

from __future__ import annotations

__all__ = ["PixelMap", "pixel_map", "warp_into"]

from dataclasses import dataclass
from functools import lru_cache

import numba
import numpy as np
import numpy.typing as npt
from astropy.wcs import WCS

from models.images import MaskPlane

Float32Array = npt.NDArray[np.float32]

#: Pixels between points at which the mapping is exact. The curvature of a
#: tangent plane or of a camera's distortion over 16 pixels is below 1e-3.
_STEP = 16
#: Entries of the table of weights a pixel; the error is below 1e-3 of a pixel.
_TABLE = 1024


@lru_cache(maxsize=1)
def _weights() -> Float32Array:
    """Weights of six neighbours for each of `_TABLE` sub-pixel shifts.

    Constant; cached because every warp of a process needs it.
    """
    distance = (np.arange(_TABLE + 1) / _TABLE)[:, None] - (np.arange(6) - 2)[None]
    weights = np.sinc(distance) * np.sinc(distance / 3)
    weights[np.abs(distance) >= 3] = 0
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


@dataclass
class PixelMap:
    """Where the pixels of a target grid lie in a source grid.

    Attributes
    ----------
    x, y : `numpy.ndarray`, (my, mx), float64
        Source positions of target pixels (i * step, j * step).
    step : `int`
    """

    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    step: int


def pixel_map(target: WCS, source: WCS, shape: tuple[int, int], *, step: int = _STEP) -> PixelMap:
    """Map target pixels through the sky to source pixels.

    Parameters
    ----------
    target, source : `astropy.wcs.WCS`
        Of the grid to fill and of the image to take from.
    shape : `tuple` [`int`, `int`]
        Rows and columns of the target.
    """
    rows = np.arange(0, shape[0] + step, step)
    columns = np.arange(0, shape[1] + step, step)
    x, y = np.meshgrid(columns, rows)
    ra, dec = target.all_pix2world(x.ravel(), y.ravel(), 0)
    sx, sy = source.wcs_world2pix(ra, dec, 0)
    # A point beyond the source's tangent plane has no image there.
    lost = ~(np.isfinite(sx) & np.isfinite(sy))
    sx[lost] = sy[lost] = -1e9
    return PixelMap(x=sx.reshape(x.shape), y=sy.reshape(x.shape), step=step)


@numba.njit(cache=True)
def _warp(source, variance, mask, gx, gy, step, table, no_data, out, out_variance, out_mask):  # type: ignore[no-untyped-def]
    ny, nx = out.shape
    height, width = source.shape
    scale = table.shape[0] - 1
    for y in range(ny):
        j = y // step
        fy = (y - j * step) / step
        for i in range((nx + step - 1) // step):
            xa = gx[j, i] * (1 - fy) + gx[j + 1, i] * fy
            xb = gx[j, i + 1] * (1 - fy) + gx[j + 1, i + 1] * fy
            ya = gy[j, i] * (1 - fy) + gy[j + 1, i] * fy
            yb = gy[j, i + 1] * (1 - fy) + gy[j + 1, i + 1] * fy
            if max(xa, xb) < 2 or max(ya, yb) < 2 or min(xa, xb) >= width - 3 or min(ya, yb) >= height - 3:
                continue
            for k in range(min(step, nx - i * step)):
                x = i * step + k
                if not out_mask[y, x] & no_data:
                    continue
                sx = xa + (xb - xa) * k / step
                sy = ya + (yb - ya) * k / step
                ix = int(np.floor(sx))
                iy = int(np.floor(sy))
                if ix < 2 or iy < 2 or ix >= width - 3 or iy >= height - 3:
                    continue
                bits = mask[iy, ix] | mask[iy, ix + 1] | mask[iy + 1, ix] | mask[iy + 1, ix + 1]
                if bits & no_data:
                    continue
                wx = table[int((sx - ix) * scale + 0.5)]
                wy = table[int((sy - iy) * scale + 0.5)]
                value = np.float32(0)
                for m in range(6):
                    row = iy - 2 + m
                    value += wy[m] * (
                        wx[0] * source[row, ix - 2]
                        + wx[1] * source[row, ix - 1]
                        + wx[2] * source[row, ix]
                        + wx[3] * source[row, ix + 1]
                        + wx[4] * source[row, ix + 2]
                        + wx[5] * source[row, ix + 3]
                    )
                out[y, x] = value
                out_variance[y, x] = variance[int(sy + 0.5), int(sx + 0.5)]
                out_mask[y, x] = bits


def warp_into(
    image: Float32Array,
    variance: Float32Array,
    mask: npt.NDArray[np.int32],
    mapping: PixelMap,
    out: tuple[Float32Array, Float32Array, npt.NDArray[np.int32]],
) -> None:
    """Fill the empty pixels of a target with a source.

    Parameters
    ----------
    image, variance, mask : `numpy.ndarray`
        The source; no NaN. Pixels masked NO_DATA are not used.
    mapping : `PixelMap`
        From target to source.
    out : `tuple` [`numpy.ndarray`, `numpy.ndarray`, `numpy.ndarray`]
        Image, variance and mask of the target, changed in place. Only pixels
        masked NO_DATA are filled, so that sources can be mosaicked.

    Notes
    -----
    The variance is that of the nearest pixel: interpolation trades variance
    for covariance, and over a point-spread function both add up to the same.
    """
    _warp(
        image,
        variance,
        mask,
        mapping.x,
        mapping.y,
        mapping.step,
        _weights(),
        np.int32(MaskPlane.NO_DATA),
        *out,
    )
