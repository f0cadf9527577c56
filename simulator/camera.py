"""The demo camera at work: light in, readout out."""

from __future__ import annotations

__all__ = [
    "EXPOSURE_TIME",
    "Conditions",
    "Injected",
    "Readout",
    "background_rate",
    "expose",
    "flux_error",
    "throughput",
]

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from config.instruments import Detector, InstrumentConfig
from models.geometry import pixel_to_focal_plane, wcs_header
from simulator.artefacts import add_cosmic_rays, bleed
from simulator.profiles import Float32Array, FloatArray, PsfModel, draw_sources
from simulator.signature import DARK_CURRENT, Signature
from simulator.sky import Grid, Sky, draw_sky
from simulator.transients import Transients

#: Nominal exposure time, seconds.
EXPOSURE_TIME = 30.0
#: AB magnitude that gives one electron a second: a 2.4 m telescope.
_ZERO_POINT: Mapping[str, float] = {"u": 24.2, "g": 26.2, "r": 26.0, "i": 25.7, "z": 25.2, "y": 24.2}
#: Dark sky, AB magnitudes per square arcsecond (Krisciunas et al. 2007).
_SKY_BRIGHTNESS: Mapping[str, float] = {"u": 22.7, "g": 22.0, "r": 21.0, "i": 20.2, "z": 19.3, "y": 18.3}
#: ADU at which the readout of an empty pixel lies.
_BIAS_LEVEL = 1100.0
#: How far above an amplifier's nominal saturation its pixels stop, relative.
_FULL_WELL = 1.02
#: Half width of the box in which a transient's signal is summed, pixels.
_SIGNAL_BOX = 15


@dataclass(frozen=True)
class Conditions:
    """How a visit was taken.

    Attributes
    ----------
    ra, dec, angle : `float`
        Where the boresight really pointed, and the real camera angle, degrees.
    psf : `PsfModel`
        Point-spread function.
    transparency : `float`
        Part of the light that the clouds let through.
    sky_factor : `float`
        Sky brightness relative to a dark night.
    sky_gradient : `tuple` [`float`, `float`]
        Relative change of the sky over a degree of focal-plane X and Y.
    """

    ra: float
    dec: float
    angle: float
    psf: PsfModel
    transparency: float = 1.0
    sky_factor: float = 1.0
    sky_gradient: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Injected:
    """The transients on one frame.

    Attributes
    ----------
    index : `numpy.ndarray`, (n,), int
        Place in the night's list of transients.
    ra, dec : `numpy.ndarray`, (n,)
        Degrees.
    x, y : `numpy.ndarray`, (n,)
        Zero-based pixels of the trimmed image.
    flux : `numpy.ndarray`, (n,)
        nJy, above the atmosphere.
    snr : `numpy.ndarray`, (n,)
        True flux over the error that an optimal, unbiased measurement with
        the true point-spread function and the true noise would have; defective
        and saturated pixels do not contribute.
    """

    index: np.ndarray
    ra: FloatArray
    dec: FloatArray
    x: FloatArray
    y: FloatArray
    flux: FloatArray
    snr: FloatArray


@dataclass(frozen=True)
class Readout:
    """One frame as the camera reads it out, and the truth in it.

    Attributes
    ----------
    raw : `numpy.ndarray`, (ny, nx), uint16
        ADU, overscan included.
    injected : `Injected`
    """

    raw: np.ndarray
    injected: Injected


def throughput(band: str, exposure_time: float) -> float:
    """Return electrons per nJy in an exposure, clear sky."""
    return exposure_time * 10.0 ** (0.4 * (_ZERO_POINT[band] - 31.4))


def background_rate(band: str, pixel_scale: float) -> float:
    """Return electrons per pixel and second from a dark sky."""
    return 10.0 ** (0.4 * (_ZERO_POINT[band] - _SKY_BRIGHTNESS[band])) * pixel_scale**2


def flux_error(
    instrument: InstrumentConfig, detector: Detector, band: str, conditions: Conditions, exposure_time: float
) -> float:
    """Return the error of a faint point source's flux in blank sky, nJy."""
    read_noise = np.mean([a.read_noise for a in detector.amplifiers])
    background = exposure_time * (
        background_rate(band, instrument.pixel_scale) * conditions.sky_factor + DARK_CURRENT
    )
    profile = np.zeros((2 * _SIGNAL_BOX + 1,) * 2, np.float32)
    middle = np.array([float(_SIGNAL_BOX)])
    shape = conditions.psf.shape_at([0.0], [0.0])
    draw_sources(profile, x=middle, y=middle, flux=np.ones(1), psf_shape=shape, floor=1e-6)
    error = np.sqrt((background + read_noise**2) / np.sum(profile.astype(float) ** 2))
    return float(error / (throughput(band, exposure_time) * conditions.transparency))


def expose(
    instrument: InstrumentConfig,
    detector: Detector,
    *,
    sky: Sky,
    transients: Transients,
    signature: Signature,
    conditions: Conditions,
    band: str,
    visit: int,
    exposure_time: float,
    rng: np.random.Generator,
) -> Readout:
    """Expose and read out one sensor.

    Parameters
    ----------
    instrument, detector
        The camera and the sensor.
    sky, transients
        What shines.
    signature : `Signature`
        Of this sensor and filter.
    conditions : `Conditions`
        How the visit is taken.
    band : `str`
    visit : `int`
        Number of the visit in the night, for what varies.
    exposure_time : `float`
        Seconds.
    rng : `numpy.random.Generator`
        For the noise.

    Returns
    -------
    readout : `Readout`
    """
    grid = Grid.from_header(wcs_header(instrument, detector, conditions.ra, conditions.dec, conditions.angle))

    def psf_shape(x: FloatArray, y: FloatArray) -> FloatArray:
        focal = pixel_to_focal_plane(instrument, detector, x, y)
        return conditions.psf.shape_at(*focal, rotation=detector.rotation)

    scale = throughput(band, exposure_time) * conditions.transparency
    expected = np.zeros(detector.shape, np.float32)
    level = exposure_time * background_rate(band, instrument.pixel_scale) * conditions.sky_factor
    draw_sky(
        expected,
        sky,
        grid,
        star_flux=scale * sky.stars.flux_in_visit(band, visit),
        galaxy_flux=scale * sky.galaxies.flux(band),
        psf_shape=psf_shape,
        floor=0.03 * np.sqrt(level),
    )
    x, y = grid.to_pixel(transients.ra, transients.dec)
    here = np.flatnonzero(
        (x > -0.5) & (x < detector.size[0] - 0.5) & (y > -0.5) & (y < detector.size[1] - 0.5)
    )
    flux = transients.flux_in_visit(visit)
    x, y, signal = x[here], y[here], scale * flux[here]
    shapes = psf_shape(x, y)
    draw_sources(expected, x=x, y=y, flux=signal, psf_shape=shapes, floor=0.01 * np.sqrt(level))
    expected += level * _sky_shape(instrument, detector, conditions.sky_gradient)
    expected *= signature.flat
    expected += signature.dark * np.float32(exposure_time)
    electrons = _shot_noise(rng, expected)
    add_cosmic_rays(electrons, rng, exposure_time)
    raw, saturated = _read_out(detector, electrons, signature, rng)
    snr = _signal_to_noise(detector, expected, signature, saturated, x, y, signal, shapes)
    injected = Injected(here, transients.ra[here], transients.dec[here], x, y, flux[here], snr)
    return Readout(raw=raw, injected=injected)


def _sky_shape(
    instrument: InstrumentConfig, detector: Detector, gradient: tuple[float, float]
) -> Float32Array:
    ny, nx = detector.shape
    x, y = pixel_to_focal_plane(instrument, detector, np.arange(nx)[None, :], np.arange(ny)[:, None])
    return np.asarray(1.0 + gradient[0] * x + gradient[1] * y, dtype=np.float32)


def _shot_noise(rng: np.random.Generator, expected: Float32Array) -> Float32Array:
    """Draw electrons; Gaussian above 1000, where the difference is no matter."""
    electrons: Float32Array = rng.standard_normal(expected.shape, dtype=np.float32)
    electrons *= np.sqrt(expected)
    electrons += expected
    faint = expected < 1000
    electrons[faint] = rng.poisson(expected[faint])
    return electrons


def _read_out(
    detector: Detector, electrons: Float32Array, signature: Signature, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the raw array, uint16, and where the trimmed image is saturated."""
    raw = np.zeros(detector.raw_shape, np.float32)
    saturated = np.zeros(detector.shape, bool)
    for amplifier in detector.amplifiers:
        if amplifier.raw_data is None:
            raise ValueError(f"amplifier {amplifier.name} of detector {detector.id} has no raw_data section")
        full = amplifier.saturation * _FULL_WELL
        adu = bleed(electrons[amplifier.data.slices] / np.float32(amplifier.gain), full)
        saturated[amplifier.data.slices] = adu >= amplifier.saturation
        level = _BIAS_LEVEL + rng.normal(0.0, 3.0)
        raw[amplifier.raw_data.slices] = adu + signature.bias[amplifier.data.slices] + level
        sections = [amplifier.raw_data]
        if amplifier.raw_overscan is not None:
            raw[amplifier.raw_overscan.slices] = level
            sections.append(amplifier.raw_overscan)
        for section in sections:
            noise = rng.standard_normal(section.shape, dtype=np.float32)
            raw[section.slices] += noise * np.float32(amplifier.read_noise / amplifier.gain)
    return np.clip(np.rint(raw), 0, 65535).astype(np.uint16), saturated


def _signal_to_noise(
    detector: Detector,
    expected: Float32Array,
    signature: Signature,
    saturated: np.ndarray,
    x: FloatArray,
    y: FloatArray,
    signal: FloatArray,
    shapes: FloatArray,
) -> FloatArray:
    read_noise = np.zeros(detector.shape, np.float32)
    for amplifier in detector.amplifiers:
        read_noise[amplifier.data.slices] = amplifier.read_noise
    weight = np.where(signature.bad | saturated, 0.0, 1.0 / (np.maximum(expected, 0) + read_noise**2))
    snr = np.zeros(len(x))
    ny, nx = detector.shape
    for n in range(len(x)):
        column, row = int(np.rint(x[n])), int(np.rint(y[n]))
        box = (
            slice(max(row - _SIGNAL_BOX, 0), min(row + _SIGNAL_BOX + 1, ny)),
            slice(max(column - _SIGNAL_BOX, 0), min(column + _SIGNAL_BOX + 1, nx)),
        )
        profile = np.zeros(weight[box].shape, np.float32)
        draw_sources(
            profile,
            x=x[n : n + 1] - box[1].start,
            y=y[n : n + 1] - box[0].start,
            flux=signal[n : n + 1],
            psf_shape=shapes[n : n + 1],
            floor=0.1,
        )
        snr[n] = np.sqrt(np.sum((profile * signature.flat[box]) ** 2 * weight[box]))
    return snr
