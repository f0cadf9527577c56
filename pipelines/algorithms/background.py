"""Sky background."""

from __future__ import annotations

__all__ = ["robust_rms", "subtract_background"]

import numpy as np
import numpy.typing as npt
import sep

#: Side of a mesh cell, pixels: several times the largest galaxy, a fraction of
#: the detector. Sky gradients are smoother than this.
_CELL = 128


def subtract_background(
    image: npt.NDArray[np.float32], bad: npt.NDArray[np.bool_], *, cell: int = _CELL
) -> tuple[npt.NDArray[np.float32], float, float]:
    """Subtract a smooth sky.

    Clipped mode estimates on a mesh, median-filtered and interpolated by
    bicubic splines, as SExtractor does (Bertin & Arnouts 1996; `sep`).

    Parameters
    ----------
    image : `numpy.ndarray`
        Pixels; left alone.
    bad : `numpy.ndarray`
        Pixels to leave out.
    cell : `int`, optional
        Side of a mesh cell, pixels.

    Returns
    -------
    subtracted : `numpy.ndarray`
        The image without its sky; 0 at bad pixels.
    level, rms : `float`
        Mean level of the sky and noise in it, in the unit of the image.
    """
    cell = max(16, min(cell, min(image.shape) // 2))
    model = sep.Background(np.ascontiguousarray(image), mask=bad, bw=cell, bh=cell, fw=3, fh=3)
    subtracted = image - model.back(dtype=np.float32)
    subtracted[bad] = 0
    return subtracted, float(model.globalback), float(model.globalrms)


def robust_rms(values: npt.NDArray[np.floating]) -> float:
    """Return the standard deviation that a Gaussian with these quartiles has.

    Non-finite values are left out; NaN if nothing is left.
    """
    values = values[np.isfinite(values)]
    if values.size == 0:
        return float("nan")
    low, high = np.percentile(values, [25.0, 75.0])
    return float(high - low) / 1.3489795
