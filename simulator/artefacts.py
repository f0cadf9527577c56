"""What spoils single pixels of a frame: cosmic rays and bleeding charge."""

from __future__ import annotations

__all__ = ["add_cosmic_rays", "bleed"]

import numpy as np

from simulator.profiles import Float32Array

#: Cosmic rays per second on a megapixel, about what a deep-depletion sensor at
#: 2000 m sees.
_COSMIC_RAY_RATE = 1.6
#: Mean length of a track, pixels, and the median charge a pixel of it holds.
_TRACK_LENGTH = 6.0
_TRACK_CHARGE = 1500.0


def add_cosmic_rays(electrons: Float32Array, rng: np.random.Generator, exposure_time: float) -> int:
    """Add the tracks of cosmic rays to an image.

    Parameters
    ----------
    electrons : `numpy.ndarray`, (ny, nx), float32
        Changed in place.
    rng : `numpy.random.Generator`
    exposure_time : `float`
        Seconds.

    Returns
    -------
    number : `int`
        Tracks added.
    """
    ny, nx = electrons.shape
    number = int(rng.poisson(_COSMIC_RAY_RATE * exposure_time * electrons.size / 2**20))
    for _ in range(number):
        length = 1.0 + rng.exponential(_TRACK_LENGTH)
        angle = rng.uniform(0.0, np.pi)
        # Four steps a pixel, so that the charge follows the true line.
        steps = np.linspace(0.0, length, max(2, int(4 * length)))
        x = np.floor(rng.uniform(0, nx) + steps * np.cos(angle)).astype(int)
        y = np.floor(rng.uniform(0, ny) + steps * np.sin(angle)).astype(int)
        charge = (
            _TRACK_CHARGE * rng.lognormal(0.0, 0.8) * rng.gamma(4.0, 0.25, len(steps)) * length / len(steps)
        )
        inside = (x >= 0) & (x < nx) & (y >= 0) & (y < ny)
        np.add.at(electrons, (y[inside], x[inside]), charge[inside].astype(np.float32))
    return number


def bleed(image: Float32Array, full: float) -> Float32Array:
    """Spread the charge that full pixels cannot hold along their columns.

    Each run of overfull pixels grows up and down the column until its charge
    fits; what reaches the end of the column is lost.

    Parameters
    ----------
    image : `numpy.ndarray`, (ny, nx), float32
        Light-sensitive pixels of one amplifier.
    full : `float`
        What a pixel holds, in the image's unit.

    Returns
    -------
    image : `numpy.ndarray`
        A new array, nowhere above `full`.
    """
    result = np.minimum(image, np.float32(full))
    ny = image.shape[0]
    for column in np.flatnonzero((image > full).any(axis=0)):
        over = np.concatenate([[False], image[:, column] > full, [False]])
        edges = np.flatnonzero(np.diff(over.astype(np.int8)))
        for start, stop in edges.reshape(-1, 2):
            excess = float(np.sum(image[start:stop, column] - full, dtype=np.float64))
            low, high = int(start) - 1, int(stop)
            while excess > 0 and (low >= 0 or high < ny):
                for row in (low, high):
                    if 0 <= row < ny and excess > 0:
                        space = full - float(result[row, column])
                        result[row, column] += np.float32(min(space, excess))
                        excess -= space
                low, high = low - 1, high + 1
    return result
