"""Detection and first measurement of sources with `sep`."""

from __future__ import annotations

__all__ = ["Detections", "detect"]

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import sep

FloatArray = npt.NDArray[np.float64]

#: Pixels above threshold that one image may have: crowded fields need more
#: than sep's 300000, and running out is an error.
_PIXEL_STACK = 4_000_000


@dataclass
class Detections:
    """Sources in the order of their flux, brightest first.

    Attributes
    ----------
    x, y : `numpy.ndarray`
        Windowed centroids, pixels.
    flux : `numpy.ndarray`
        Isophotal flux, unit of the image.
    peak : `numpy.ndarray`
        Highest pixel.
    size : `numpy.ndarray`
        Geometric mean of the second moments' axes, pixels rms.
    elongation : `numpy.ndarray`
        Major over minor axis.
    flags : `numpy.ndarray`
        Bits of `sep`.
    """

    x: FloatArray
    y: FloatArray
    flux: FloatArray
    peak: FloatArray
    size: FloatArray
    elongation: FloatArray
    flags: npt.NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: npt.NDArray[np.generic] | slice) -> Detections:
        return Detections(
            *(
                getattr(self, name)[index]
                for name in ("x", "y", "flux", "peak", "size", "elongation", "flags")
            )
        )


def detect(
    image: npt.NDArray[np.float32],
    sigma: float | npt.NDArray[np.float32],
    bad: npt.NDArray[np.bool_],
    *,
    threshold: float = 6.0,
    window: int = 400,
) -> Detections:
    """Find sources in a sky-subtracted image.

    Parameters
    ----------
    image : `numpy.ndarray`
        Pixels, 0 (or repaired) where bad.
    sigma : `float` or `numpy.ndarray`
        Noise of blank sky.
    bad : `numpy.ndarray`
        Pixels to leave out.
    threshold : `float`, optional
        In `sigma` of a pixel of the smoothed image.
    window : `int`, optional
        How many of the brightest get windowed centroids; they are four times
        as accurate as isophotal ones, and astrometry needs no more.

    Returns
    -------
    detections : `Detections`
    """
    sep.set_extract_pixstack(_PIXEL_STACK)
    found = sep.extract(
        np.ascontiguousarray(image),
        threshold,
        err=sigma,
        mask=bad,
        minarea=5,
        filter_type="conv",
        deblend_cont=0.005,
    )
    # Ties in flux are broken by position, so that the order is always the same.
    found = found[np.lexsort((found["x"], found["y"], -found["flux"]))]
    size = np.sqrt(np.maximum(found["a"] * found["b"], 1e-4))
    x, y = found["x"].copy(), found["y"].copy()
    if len(found):
        best = slice(0, window)
        # A window somewhat narrower than stars keeps neighbours and noise out.
        width = np.full(len(x[best]), max(0.8, 0.75 * float(np.median(size[best]))))
        x[best], y[best], failed = sep.winpos(image, x[best], y[best], width, mask=bad, subpix=1)
        wandered = np.hypot(x[best] - found["x"][best], y[best] - found["y"][best]) > 1.5
        undo = (failed != 0) | wandered
        x[best][undo] = found["x"][best][undo]
        y[best][undo] = found["y"][best][undo]
    return Detections(
        x=x,
        y=y,
        flux=found["flux"].astype(float),
        peak=found["peak"].astype(float),
        size=size,
        elongation=found["a"] / np.maximum(found["b"], 1e-3),
        flags=found["flag"],
    )
