"""A small made-up sky, for tests of the pipelines.

Not the simulator: positions, fluxes and PSFs are drawn here so that tests of
the pipelines stand on their own.
"""

from __future__ import annotations

__all__ = ["Scene", "Synthetic", "camera", "make"]

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from scipy.special import ndtr

from config.instruments import InstrumentConfig
from models.images import MaskPlane, PromptImage, RawImage

FloatArray = npt.NDArray[np.float64]

RA, DEC = 150.0, 2.0
SCALE = 0.4
GAIN, READ_NOISE, SATURATION = 1.6, 6.0, 58000.0
EXPTIME = 30.0
#: Electrons of the whole exposure per nJy.
ELECTRONS_PER_NJY = 0.5


def camera(size: int = 512) -> InstrumentConfig:
    """Return a camera of one detector with two amplifiers."""
    half = size // 2
    return InstrumentConfig.model_validate(
        {
            "name": "TestCam",
            "plate_scale": 40.0,
            "pixel_size": SCALE / 40.0,
            "detectors": [
                {
                    "id": 3,
                    "name": "D03",
                    "size": [size, size],
                    "amplifiers": [
                        {
                            "name": "L",
                            "data": [0, half, 0, size],
                            "raw_data": [0, half, 0, size],
                            "raw_overscan": [half, half + 16, 0, size],
                            "gain": GAIN,
                            "read_noise": READ_NOISE,
                            "saturation": SATURATION,
                        },
                        {
                            "name": "R",
                            "data": [half, size, 0, size],
                            "raw_data": [half + 32, size + 32, 0, size],
                            "raw_overscan": [half + 16, half + 32, 0, size],
                            "gain": 1.1 * GAIN,
                            "read_noise": READ_NOISE,
                            "saturation": SATURATION,
                        },
                    ],
                }
            ],
            "filters": [{"name": "r_01", "band": "r"}],
            "metadata": {"exposure_id": "EXPID"},
        }
    )


def tan_header(
    size: int, *, angle: float = 0.0, shift: tuple[float, float] = (0.0, 0.0)
) -> dict[str, object]:
    """Return a TAN WCS about (RA, DEC) in the middle, turned and shifted (px)."""
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    step = SCALE / 3600
    return {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CUNIT1": "deg",
        "CUNIT2": "deg",
        "CRVAL1": RA,
        "CRVAL2": DEC,
        "CRPIX1": (size + 1) / 2 + shift[0],
        "CRPIX2": (size + 1) / 2 + shift[1],
        "CD1_1": -step * cos,
        "CD1_2": step * sin,
        "CD2_1": step * sin,
        "CD2_2": step * cos,
        "RADESYS": "ICRS",
    }


@dataclass
class Scene:
    """What is on the sky: positions in degrees, fluxes in nJy."""

    ra: FloatArray
    dec: FloatArray
    flux: FloatArray
    galaxy: npt.NDArray[np.bool_]
    radius: FloatArray
    transient: npt.NDArray[np.bool_]


@dataclass
class Synthetic:
    """One observation and all that belongs to it."""

    scene: Scene
    size: int
    true_header: dict[str, object]
    predicted_header: dict[str, object]
    raw: RawImage
    bias: PromptImage
    dark: PromptImage
    flat: PromptImage
    refcat: Table
    template: PromptImage
    signal_to_noise: FloatArray
    """Of the transients, before any detection."""
    transient_xy: FloatArray
    cosmic_rays: npt.NDArray[np.bool_]
    electrons_per_njy: float


#: The PSF is a sum of Gaussians (part of the flux, width relative to the
#: first): a galaxy, a Gaussian too, is then convolved exactly, and a pixel
#: integrated over exactly.
PSF = ((0.75, 1.0), (0.20, 1.7), (0.05, 3.3))
#: Full width at half maximum of that sum over the width of its first Gaussian.
FWHM_OVER_SIGMA = 2.45


def draw(
    shape: tuple[int, int],
    x: FloatArray,
    y: FloatArray,
    flux: FloatArray,
    fwhm: float,
    extra: FloatArray,
    *,
    variation: float = 0.0,
    ellipticity: float = 0.0,
) -> npt.NDArray[np.float32]:
    """Draw sources on a PSF that changes over the field by `variation`.

    Galaxies are Gaussians of `extra` pixels rms.
    """
    ny, nx = shape
    image = np.zeros(shape, np.float64)
    for k in range(len(x)):
        i, j = round(float(x[k])), round(float(y[k]))
        reach = 45 if flux[k] > 2e5 else 30 if flux[k] > 1e4 else 18
        if not (-reach < i < nx + reach and -reach < j < ny + reach):
            continue
        sigma = fwhm / FWHM_OVER_SIGMA
        sigma *= 1 + variation * ((x[k] / nx - 0.5) + (y[k] / ny - 0.5) ** 2)
        x0, x1, y0, y1 = max(0, i - reach), min(nx, i + reach + 1), max(0, j - reach), min(ny, j + reach + 1)
        if x0 >= x1 or y0 >= y1:
            continue
        for part, ratio in PSF:
            wide = np.hypot(ratio * sigma * (1 + ellipticity), extra[k])
            high = np.hypot(ratio * sigma * (1 - ellipticity), extra[k])
            along_x = np.diff(ndtr((np.arange(x0, x1 + 1) - 0.5 - x[k]) / wide))
            along_y = np.diff(ndtr((np.arange(y0, y1 + 1) - 0.5 - y[k]) / high))
            image[y0:y1, x0:x1] += part * flux[k] * along_y[:, None] * along_x
    return image.astype(np.float32)


def _scene(rng: np.random.Generator, size: int, stars: int, galaxies: int, transients: int) -> Scene:
    total = stars + galaxies + transients
    wcs = WCS(fits.Header(tan_header(size)), fix=False)
    x, y = rng.uniform(-40, size + 40, total), rng.uniform(-40, size + 40, total)
    flux = np.concatenate(
        [
            # Number counts that rise with faintness; the brightest saturate.
            10 ** (3.0 + rng.exponential(0.75, stars)).clip(0, 6.3),
            10 ** (2.6 + rng.exponential(0.55, galaxies)).clip(0, 5.2),
            10 ** rng.uniform(2.9, 4.3, transients),
        ]
    )
    galaxy = np.zeros(total, bool)
    galaxy[stars : stars + galaxies] = True
    transient = np.zeros(total, bool)
    transient[stars + galaxies :] = True
    radius = np.where(galaxy, rng.uniform(0.8, 3.0, total), 0.0)
    # Half of the transients have a host.
    hosts = rng.choice(np.arange(stars, stars + galaxies), transients // 2, replace=False)
    for index, host in zip(np.flatnonzero(transient), hosts, strict=False):
        x[index], y[index] = x[host] + rng.normal(0, 1.5), y[host] + rng.normal(0, 1.5)
    x[transient] = x[transient].clip(40, size - 41)
    y[transient] = y[transient].clip(40, size - 41)
    ra, dec = wcs.all_pix2world(x, y, 0)
    return Scene(ra, dec, flux, galaxy, radius, transient)


def make(
    seed: int = 1,
    *,
    size: int = 512,
    fwhm: float = 3.2,
    template_fwhm: float = 2.8,
    variation: float = 0.15,
    density: float = 1.0,
    transients: int = 15,
    cosmic_rays: int = 20,
    pointing: tuple[float, float] = (12.0, -9.0),
    rotation: float = 0.08,
    template_depth: float = 6.0,
) -> Synthetic:
    """Make one observation of `size` x `size` pixels.

    Parameters
    ----------
    density : `float`
        1 is 1500 stars and 1500 galaxies per 1024 x 1024 pixels.
    pointing, rotation
        By how much the true WCS differs from the predicted one, px and deg.
    template_depth : `float`
        How many exposures the template is worth.
    """
    rng = np.random.default_rng(seed)
    count = int(1500 * density * (size / 1024) ** 2)
    scene = _scene(rng, size, count, count, transients)
    predicted, true = tan_header(size), tan_header(size, angle=rotation, shift=pointing)
    wcs = WCS(fits.Header(true), fix=False)
    x, y = wcs.wcs_world2pix(scene.ra, scene.dec, 0)
    scale = ELECTRONS_PER_NJY * rng.uniform(0.9, 1.1)
    rows, columns = np.mgrid[0:size, 0:size] / size
    sky = 600.0 * (1 + 0.1 * columns - 0.06 * rows)
    light = draw(
        (size, size), x, y, scene.flux * scale, fwhm, scene.radius, variation=variation, ellipticity=0.02
    )
    response = (1 + 0.03 * np.sin(6 * columns) + rng.normal(0, 0.004, (size, size))).astype(np.float32)
    mean = (light + sky) * response
    electrons = rng.poisson(mean).astype(float)
    hits = _add_cosmic_rays(rng, electrons, cosmic_rays)
    raw, bias, dark = _read_out(rng, electrons, size)
    noise = np.sqrt(mean + READ_NOISE**2)
    snr = _signal_to_noise(x, y, scene, scale, fwhm, noise, size)
    star = ~scene.galaxy & ~scene.transient
    known = ~scene.transient & (scene.flux > 1500)
    refcat = Table(
        {
            "id": np.flatnonzero(known),
            "ra": scene.ra[known] + rng.normal(0, 0.02 / 3600, known.sum()),
            "dec": scene.dec[known] + rng.normal(0, 0.02 / 3600, known.sum()),
            "r_flux": scene.flux[known] * (1 + rng.normal(0, 0.01, known.sum())),
            "star": star[known],
        }
    )
    template = _template(rng, scene, size, template_fwhm, template_depth)
    return Synthetic(
        scene=scene,
        size=size,
        true_header=true,
        predicted_header=predicted,
        raw=raw,
        bias=bias,
        dark=dark,
        flat=PromptImage(response),
        refcat=refcat,
        template=template,
        signal_to_noise=snr,
        transient_xy=np.column_stack([x, y])[scene.transient],
        cosmic_rays=hits,
        electrons_per_njy=scale,
    )


def _add_cosmic_rays(rng: np.random.Generator, electrons: FloatArray, count: int) -> npt.NDArray[np.bool_]:
    size = len(electrons)
    hits = np.zeros(electrons.shape, bool)
    for _ in range(count):
        x, y, angle, length = (
            rng.uniform(0, size),
            rng.uniform(0, size),
            rng.uniform(0, np.pi),
            rng.uniform(1, 12),
        )
        energy = 10 ** rng.uniform(2.4, 3.6)
        for step in np.arange(0, length, 0.5):
            i, j = int(x + step * np.cos(angle)), int(y + step * np.sin(angle))
            if 0 <= i < size and 0 <= j < size:
                electrons[j, i] += energy * 0.5 * rng.uniform(0.5, 1.5)
                hits[j, i] = True
    return hits


def _read_out(
    rng: np.random.Generator, electrons: FloatArray, size: int
) -> tuple[RawImage, PromptImage, PromptImage]:
    half = size // 2
    gain = np.full(size, GAIN)
    gain[half:] *= 1.1
    rows = np.arange(size)[:, None]
    bias = (3 * np.sin(rows / 40.0) * np.ones((1, size))).astype(np.float32)
    dark = np.full((size, size), 0.05, np.float32)
    dark[100:103, 50] = 30.0
    adu = electrons / gain + bias + dark * EXPTIME + rng.normal(0, READ_NOISE, electrons.shape) / gain
    raw = np.empty((size, size + 32))
    left, right = 1003.0, 1012.0
    raw[:, :half] = adu[:, :half] + left
    raw[:, half + 32 :] = adu[:, half:] + right
    raw[:, half : half + 16] = left + rng.normal(0, READ_NOISE / GAIN, (size, 16))
    raw[:, half + 16 : half + 32] = right + rng.normal(0, READ_NOISE / GAIN, (size, 16))
    pixels = np.rint(raw).clip(0, 65535).astype(np.uint16)
    return RawImage(pixels, {"EXPTIME": EXPTIME}), PromptImage(bias), PromptImage(dark)


def _template(rng: np.random.Generator, scene: Scene, size: int, fwhm: float, depth: float) -> PromptImage:
    border = 80
    side = size + 2 * border
    header = tan_header(side, angle=3.0)
    wcs = WCS(fits.Header(header), fix=False)
    x, y = wcs.wcs_world2pix(scene.ra, scene.dec, 0)
    flux = np.where(scene.transient, 0.0, scene.flux)
    light = draw((side, side), x, y, flux, fwhm, scene.radius, variation=0.05)
    variance = (light / ELECTRONS_PER_NJY + 640.0 / ELECTRONS_PER_NJY**2) / depth
    image = light + rng.normal(0, 1, light.shape) * np.sqrt(variance)
    mask = np.zeros(image.shape, np.int32)
    mask[300:304, 200:203] |= MaskPlane.BAD
    return PromptImage(
        image.astype(np.float32),
        variance.astype(np.float32),
        mask,
        {**header, "BUNIT": "nJy", "PSFFWHM": fwhm},
    )


def _signal_to_noise(
    x: FloatArray, y: FloatArray, scene: Scene, scale: float, fwhm: float, noise: FloatArray, size: int
) -> FloatArray:
    """Return flux over error of an optimal fit, noise taken at the source."""
    result = []
    for k in np.flatnonzero(scene.transient):
        i, j = round(float(x[k])), round(float(y[k]))
        if not (0 <= i < size and 0 <= j < size):
            result.append(0.0)
            continue
        profile = draw((31, 31), np.array([15.0]), np.array([15.0]), np.array([1.0]), fwhm, np.zeros(1))
        sigma = noise[max(0, j - 1) : j + 2, max(0, i - 1) : i + 2].mean()
        result.append(scene.flux[k] * scale * float(np.sqrt((profile.astype(float) ** 2).sum())) / sigma)
    return np.array(result)
