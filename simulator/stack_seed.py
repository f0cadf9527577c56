"""The seed directory of recorded frames, made of one deep stack."""

from __future__ import annotations

__all__ = ["NOMINAL_ZERO_POINT", "StackSeed"]

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sep
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from config.instruments import InstrumentConfig
from models.sky_map import SkyMap, Tract
from simulator.plan import SeedProgress
from simulator.raw_files import image_hdus
from simulator.seed import write_instrument, write_refcat

#: AB magnitude of one count where the header has no MAGZERO. DECam's i band
#: gives 31.5 +- 0.2 for 330 s (25.3 for one count a second); at 31.4 a count
#: is a nanojansky.
NOMINAL_ZERO_POINT = 31.4
#: Frames in a stack.
_STACK_DEPTH = 5
#: Detection threshold for the reference catalogue, in units of the noise.
_THRESHOLD = 5.0
#: Radius of the aperture for fluxes, in units of the FWHM.
_APERTURE = 2.0
#: Proper motion between the epochs, mas a coordinate: it is not known, and
#: displaces stars by 0.4 to 0.8 pixels in two years.
_MOTION = 120.0
#: Error of the relative photometry.
_FLUX_ERROR = 0.01
#: Border of the sky map's patch around the stack, and width of its edge that
#: the reference catalogue leaves out, pixels.
_BORDER = 16
_EDGE = 8
#: Sizes relative to the median, and elongations, that count as a star.
_STAR_SIZE = (0.8, 1.2)
_STAR_ELONGATION = 1.25


@dataclass(frozen=True)
class StackSeed:
    """Writes the seed directory of recorded frames.

    Attributes
    ----------
    instrument : `config.instruments.InstrumentConfig`
    stack : `pathlib.Path`
        Sky-subtracted stack with WCS, in counts of the single frames.
    """

    instrument: InstrumentConfig
    stack: Path

    def __call__(self, directory: Path, progress: SeedProgress | None = None) -> None:
        """Write camera file, sky map, reference catalogue and template."""
        if progress is not None:
            progress("reference catalogue", 0, 2)
        with fits.open(self.stack) as hdus:
            header = hdus[0].header
            image = np.ascontiguousarray(hdus[0].data, dtype=np.float32)
        zero_point = float(header.get("MAGZERO", NOMINAL_ZERO_POINT))
        image *= np.float32(10.0 ** (-0.4 * (zero_point - 31.4)))
        gain = float(header["GAIN"]) * _STACK_DEPTH / 10.0 ** (-0.4 * (zero_point - 31.4))
        wcs = WCS(header)
        band = self.instrument.filters[0].band
        background = sep.Background(image)
        image -= background.globalback
        noise = float(background.globalrms)
        catalogue, fwhm = _measure(image, noise, gain, wcs, band)
        write_instrument(directory, self.instrument)
        write_refcat(directory, catalogue)
        (directory / "skymap.json").write_text(self._sky_map(wcs, image.shape).model_dump_json(indent=1))
        if progress is not None:
            progress(f"{band} templates", 1, 2)
        variance = noise**2 + np.maximum(image, 0) / np.float32(gain)
        planes: dict[str, np.ndarray] = {
            "IMAGE": image,
            "VARIANCE": variance.astype(np.float32),
            "MASK": np.zeros(image.shape, np.int32),
        }
        cards = {
            **{key: value for key, value in header.items() if _is_wcs_card(key)},
            "BUNIT": "nJy",
            "FLUXUNIT": "nJy",
            "MAGZERO": 31.4,
            "PSFFWHM": fwhm,
        }
        path = directory / "templates" / band / "0_0.fits"
        path.parent.mkdir(parents=True, exist_ok=True)
        image_hdus(planes, cards).writeto(path, overwrite=True)
        if progress is not None:
            progress("seed directory", 2, 2)

    def _sky_map(self, wcs: WCS, shape: tuple[int, ...]) -> SkyMap:
        """Return a sky map of one patch that holds the stack.

        The template keeps its own pixels and WCS, which resampling would only
        blur; the patch says where on the sky it lies.
        """
        ra, dec = wcs.all_pix2world((shape[1] - 1) / 2, (shape[0] - 1) / 2, 0)
        tract = Tract(
            id=0,
            ra=float(ra),
            dec=float(dec),
            nx=1,
            ny=1,
            patch_size=max(shape),
            overlap=_BORDER,
            pixel_scale=self.instrument.pixel_scale,
        )
        return SkyMap(name=f"{self.instrument.name.lower()}_v1", tracts=(tract,))


def _is_wcs_card(key: str) -> bool:
    return key.startswith(("CTYPE", "CRVAL", "CRPIX", "CUNIT", "CD1_", "CD2_", "PV1_", "PV2_")) or key in (
        "RADESYS",
        "WCSAXES",
        "LONPOLE",
        "LATPOLE",
    )


def _measure(image: np.ndarray, noise: float, gain: float, wcs: WCS, band: str) -> tuple[Table, float]:
    """Make the reference catalogue of a stack.

    Returns
    -------
    catalogue : `astropy.table.Table`
    fwhm : `float`
        Of its stars, pixels.
    """
    objects = sep.extract(image, _THRESHOLD, err=noise, minarea=5)
    x, y = objects["x"], objects["y"]
    radius, _ = sep.flux_radius(image, x, y, np.full(len(x), 15.0), 0.5)
    round_ones = (objects["a"] / objects["b"] < _STAR_ELONGATION) & (objects["flag"] == 0)
    bright = round_ones & (objects["flux"] > np.percentile(objects["flux"][round_ones], 50))
    size = float(np.median(radius[bright]))
    fwhm = float(np.median([_full_width(image, *place) for place in zip(x[bright], y[bright], strict=True)]))
    x, y, _ = sep.winpos(image, x, y, np.full(len(x), fwhm / 2.3548))
    flux, error, _ = sep.sum_circle(image, x, y, _APERTURE * fwhm, err=noise, gain=gain)
    ra, dec = wcs.all_pix2world(x, y, 0)
    scale = 3.6e6 * np.sqrt(np.abs(np.linalg.det(wcs.pixel_scale_matrix)))
    centroid = 0.71 * fwhm * error / flux * scale
    inside = (x > _EDGE) & (y > _EDGE) & (x < image.shape[1] - _EDGE) & (y < image.shape[0] - _EDGE)
    table = Table(
        {
            "id": np.arange(1, len(x) + 1, dtype=np.int64),
            "ra": ra,
            "dec": dec,
            "raErr": np.hypot(centroid, _MOTION),
            "decErr": np.hypot(centroid, _MOTION),
            f"{band}_flux": flux,
            f"{band}_fluxErr": np.hypot(error, _FLUX_ERROR * flux),
            "star": round_ones & (radius > _STAR_SIZE[0] * size) & (radius < _STAR_SIZE[1] * size),
        }
    )
    return table[inside & (flux > 0)], fwhm


def _full_width(image: np.ndarray, x: float, y: float, half: int = 10) -> float:
    """Full width at half maximum of a star: the diameter of a circle with the
    area that lies above half its peak.
    """
    row, column = round(y), round(x)
    box = image[max(row - half, 0) : row + half + 1, max(column - half, 0) : column + half + 1]
    return 2.0 * float(np.sqrt(np.sum(box > box.max() / 2) / np.pi))
