"""Loading of compiled code ahead of time."""

from __future__ import annotations

__all__ = ["warm_up"]

import numpy as np

from models.images import MaskPlane
from pipelines.algorithms.cosmic_rays import find_cosmic_rays, repair
from pipelines.algorithms.filters import box_mean, grow
from pipelines.algorithms.warp import PixelMap, warp_into
from repos.alert_schema import latest_alert_schema_version, load_alert_schema


def warm_up() -> None:
    """Load, or at the first time compile, what the algorithms run natively,
    and parse the alert schema.

    Done in the process that others are forked from, it saves each of them
    half a second at its first image, and shares the memory. Touches no file
    but numba's cache, and starts no thread.
    """
    side = 32
    image = np.zeros((side, side), np.float32)
    # Something to find, so that every branch is reached.
    image[16, 16] = 1000.0
    bad = np.zeros(image.shape, bool)
    variance = np.ones_like(image)
    hits = find_cosmic_rays(image, variance, bad, sky_variance=1.0)
    repair(image, hits)
    box_mean(image, 2)
    grow(bad)
    mask = np.zeros(image.shape, np.int32)
    out = np.zeros_like(image), np.zeros_like(image), np.full(image.shape, int(MaskPlane.NO_DATA), np.int32)
    x, y = np.meshgrid(np.arange(0.0, side + 16, 16), np.arange(0.0, side + 16, 16))
    warp_into(image, variance, mask, PixelMap(x, y, 16), out)
    load_alert_schema(latest_alert_schema_version())
