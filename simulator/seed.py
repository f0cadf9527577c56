"""What the service must know before a simulated night: its seed directory.

Calibrations as an observatory would have taken them, a reference catalogue
with realistic errors, and deep templates in good seeing. Layout and units are
described in ``docs/adding-a-camera.md``.
"""

from __future__ import annotations

__all__ = ["SimulatedSeed", "write_calibrations", "write_instrument", "write_refcat"]

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from astropy.table import Table

from config.instruments import Detector, InstrumentConfig
from models.geometry import detector_corners, sky_to_plane
from models.images import MaskPlane
from models.sky_map import SkyMap, Tract
from simulator.camera import EXPOSURE_TIME, background_rate, throughput
from simulator.night import Night
from simulator.plan import SeedProgress
from simulator.pointing import DITHER, ROTATION_DITHER
from simulator.profiles import FloatArray, PsfModel
from simulator.raw_files import image_hdus
from simulator.sky import Grid, draw_sky

#: Exposures that make up a template, and its seeing in pixels.
_TEMPLATE_DEPTH = 30
_TEMPLATE_PSF = PsfModel(
    fwhm=2.55, growth=(0.01, -0.008, 0.02), ellipticity=(0.012, -0.008), shear=(0.008, 0.0), radius=0.15
)
#: Side and border of a template's patches, pixels.
_PATCH_SIZE = 900
_PATCH_OVERLAP = 40
#: Sky around the mosaic that templates cover, arcseconds: the preload's
#: padding, and pointing errors.
_MARGIN = 45.0
#: Frames averaged into each master calibration.
_CALIBRATION_FRAMES = 100
#: Reference catalogue: r magnitude limits of stars and galaxies, errors of a
#: coordinate (mas) and of a flux (relative).
_REFCAT_STARS = 21.5
_REFCAT_GALAXIES = 20.5
_POSITION_ERROR = 20.0
_FLUX_ERROR = 0.01
_SKY_MAP_NAME = "demo_v1"


@dataclass(frozen=True)
class SimulatedSeed:
    """Writes the seed directory of a simulated night.

    Attributes
    ----------
    night : `simulator.night.Night`
    detectors : `tuple` [`int`, ...]
        Detectors whose part of the sky needs templates.
    """

    night: Night
    detectors: tuple[int, ...]

    def __call__(self, directory: Path, progress: SeedProgress | None = None) -> None:
        """Write the directory.

        Parameters
        ----------
        directory : `pathlib.Path`
        progress : callable, optional
            Told (what, done, of how many).
        """
        night = self.night
        bands = tuple(dict.fromkeys(night.instrument.bands[name] for name in night.filters))
        total = 2 + len(self.detectors) + len(bands)

        def report(what: str, done: int) -> None:
            if progress is not None:
                progress(what, done, total)

        report("reference catalogue", 0)
        write_instrument(directory, night.instrument)
        write_refcat(directory, self._reference_catalogue())
        sky_map = self._sky_map()
        (directory / "skymap.json").write_text(sky_map.model_dump_json(indent=1))
        for done, detector in enumerate(self.detectors, start=1):
            report(f"calibrations of detector {detector}", done)
            write_calibrations(directory, night, night.instrument.by_id[detector])
        for done, band in enumerate(bands, start=1 + len(self.detectors)):
            report(f"{band} templates", done)
            self._write_templates(directory, band, sky_map.tracts[0])
        report("seed directory", total)

    def _footprints(self) -> list[list[tuple[float, float]]]:
        """Corners of all detectors at the extreme camera angles, padded."""
        night = self.night
        return [
            detector_corners(
                night.instrument,
                night.instrument.by_id[detector],
                night.target.ra,
                night.target.dec,
                night.target.angle + turn,
                padding=DITHER + _MARGIN,
            )
            for detector in self.detectors
            for turn in (-ROTATION_DITHER, 0.0, ROTATION_DITHER)
        ]

    def _sky_map(self) -> SkyMap:
        """Return a sky map with one tract that holds the whole mosaic."""
        night = self.night
        whole = SimulatedSeed(night, tuple(d.id for d in night.instrument.detectors))
        corners = np.array([c for footprint in whole._footprints() for c in footprint])
        plane = np.abs(sky_to_plane(night.target.ra, night.target.dec, corners[:, 0], corners[:, 1]))
        scale = night.instrument.pixel_scale
        nx, ny = (int(np.ceil(2 * reach * 3600 / scale / _PATCH_SIZE)) for reach in plane.max(axis=1))
        tract = Tract(
            id=0,
            ra=night.target.ra,
            dec=night.target.dec,
            nx=nx,
            ny=ny,
            patch_size=_PATCH_SIZE,
            overlap=_PATCH_OVERLAP,
            pixel_scale=scale,
        )
        return SkyMap(name=_SKY_MAP_NAME, tracts=(tract,))

    def _reference_catalogue(self) -> Table:
        sky = self.night.sky
        rng = np.random.default_rng([self.night.seed, 8])
        bands = tuple(dict.fromkeys(self.night.instrument.bands.values()))
        columns: dict[str, list[FloatArray]] = {name: [] for name in ("ra", "dec", *bands)}
        is_star = []
        for table, limit in ((sky.stars, _REFCAT_STARS), (sky.galaxies, _REFCAT_GALAXIES)):
            chosen = table.magnitude < limit
            columns["ra"].append(table.ra[chosen])
            columns["dec"].append(table.dec[chosen])
            for band in bands:
                columns[band].append(table.flux(band)[chosen])
            is_star.append(np.full(int(chosen.sum()), table is sky.stars))
        ra, dec, *fluxes = (np.concatenate(columns[name]) for name in columns)
        error = rng.normal(0.0, _POSITION_ERROR / 3.6e6, (2, len(ra)))
        result = Table(
            {
                "id": np.arange(1, len(ra) + 1, dtype=np.int64),
                "ra": np.mod(ra + error[0] / np.cos(np.radians(dec)), 360.0),
                "dec": dec + error[1],
                "raErr": np.full(len(ra), _POSITION_ERROR),
                "decErr": np.full(len(ra), _POSITION_ERROR),
            }
        )
        for band, flux in zip(bands, fluxes, strict=True):
            result[f"{band}_flux"] = flux * (1.0 + _FLUX_ERROR * rng.standard_normal(len(flux)))
            result[f"{band}_fluxErr"] = flux * _FLUX_ERROR
        result["star"] = np.concatenate(is_star)
        return result

    def _write_templates(self, directory: Path, band: str, tract: Tract) -> None:
        """Draw the tract as one image and cut the patches from it, so that
        neighbours share the pixels of their borders.
        """
        night = self.night
        header = tract.patch_wcs_header(0)
        grid = Grid.from_header(header)
        border = 2 * tract.overlap
        image = np.zeros(
            (tract.ny * tract.patch_size + border, tract.nx * tract.patch_size + border), np.float32
        )
        electrons = throughput(band, EXPOSURE_TIME)
        background = EXPOSURE_TIME * background_rate(band, night.instrument.pixel_scale)
        blank = np.sqrt(background / _TEMPLATE_DEPTH) / electrons

        def psf_shape(x: FloatArray, y: FloatArray) -> FloatArray:
            offset = grid.cd @ np.array([x - grid.origin[0], y - grid.origin[1]])
            return _TEMPLATE_PSF.shape_at(*offset)

        draw_sky(
            image,
            night.sky,
            grid,
            star_flux=night.sky.stars.flux(band),
            galaxy_flux=night.sky.galaxies.flux(band),
            psf_shape=psf_shape,
            floor=0.02 * blank,
        )
        full_well = min(a.saturation * a.gain for d in night.instrument.detectors for a in d.amplifiers)
        mask = np.where(image * electrons + background > full_well, np.int32(MaskPlane.SAT), np.int32(0))
        read_noise = np.mean([a.read_noise for d in night.instrument.detectors for a in d.amplifiers])
        variance = (image * electrons + (background + read_noise**2)) / (_TEMPLATE_DEPTH * electrons**2)
        variance = variance.astype(np.float32)
        rng = np.random.default_rng([night.seed, 9, ord(band)])
        image += np.sqrt(variance) * rng.standard_normal(image.shape, dtype=np.float32)
        footprints = self._footprints()
        for patch in sorted({p for footprint in footprints for p in tract.patches_overlapping(footprint)}):
            ix, iy = tract.patch_index(patch)
            rows = slice(iy * tract.patch_size, (iy + 1) * tract.patch_size + border)
            columns = slice(ix * tract.patch_size, (ix + 1) * tract.patch_size + border)
            planes: dict[str, np.ndarray] = {
                "IMAGE": image[rows, columns],
                "VARIANCE": variance[rows, columns],
                "MASK": mask[rows, columns],
            }
            path = directory / "templates" / band / f"{tract.id}_{patch}.fits"
            path.parent.mkdir(parents=True, exist_ok=True)
            cards = {**tract.patch_wcs_header(patch), "BUNIT": "nJy", "FLUXUNIT": "nJy", "MAGZERO": 31.4}
            image_hdus(planes, {**cards, "PSFFWHM": _TEMPLATE_PSF.fwhm}).writeto(path, overwrite=True)


def write_instrument(directory: Path, instrument: InstrumentConfig) -> None:
    """Write the camera file of a seed directory."""
    content = instrument.model_dump(mode="json", exclude_none=True)
    (directory / "instrument.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def write_refcat(directory: Path, table: Table) -> None:
    """Write the reference catalogue of a seed directory."""
    table.write(directory / "refcat.ecsv", format="ascii.ecsv", overwrite=True)


def write_calibrations(directory: Path, night: Night, detector: Detector) -> None:
    """Write the master calibrations of one sensor, with the noise of masters.

    Parameters
    ----------
    directory : `pathlib.Path`
        The seed directory.
    night : `simulator.night.Night`
        Whose filters need flats.
    detector : `config.instruments.Detector`
    """
    rng = np.random.default_rng([night.seed, 10, detector.id])
    gain = np.ones(detector.shape, np.float32)
    read_noise = np.ones(detector.shape, np.float32)
    for amplifier in detector.amplifiers:
        gain[amplifier.data.slices] = amplifier.gain
        read_noise[amplifier.data.slices] = amplifier.read_noise / amplifier.gain

    def noise() -> np.ndarray:
        return rng.standard_normal(detector.shape, dtype=np.float32)

    filters: Sequence[str] = tuple(dict.fromkeys(night.filters))
    signature = night.signature(detector, filters[0])
    frames = np.float32(np.sqrt(_CALIBRATION_FRAMES))
    _write_image(
        directory / "calibrations" / "bias" / f"{detector.id}.fits",
        signature.bias + noise() * read_noise / frames,
        "adu",
    )
    # Darks of ten minutes.
    dark = signature.dark + noise() * np.sqrt(signature.dark / 600.0) / frames
    _write_image(directory / "calibrations" / "dark" / f"{detector.id}.fits", dark / gain, "adu / s")
    for name in filters:
        # Flats with 30 000 electrons.
        flat = night.signature(detector, name).flat * (1.0 + noise() / np.float32(np.sqrt(3e4)) / frames)
        _write_image(directory / "calibrations" / "flat" / f"{detector.id}_{name}.fits", flat, "")
    defects = Table(rows=list(signature.defects), names=("x0", "y0", "width", "height"), dtype=("i4",) * 4)
    path = directory / "calibrations" / "defects" / f"{detector.id}.ecsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    defects.write(path, format="ascii.ecsv", overwrite=True)


def _write_image(path: Path, image: np.ndarray, unit: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cards = {"BUNIT": unit} if unit else {}
    image_hdus({"IMAGE": image.astype(np.float32)}, cards).writeto(path, overwrite=True)
