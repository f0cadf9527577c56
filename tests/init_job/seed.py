"""What create-central is given: a directory of calibrations and templates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml
from astropy.table import Table

from models.images import PromptImage
from models.sky_map import SkyMap, Tract
from repos.fits_files import prompt_image_to_fits
from tests.repos.raw_files import SIZE, make_camera

SKY_MAP = SkyMap(
    name="tiny",
    tracts=(
        Tract(id=0, ra=10.0, dec=-5.0, nx=2, ny=2, patch_size=20, overlap=2, pixel_scale=10.0),
        Tract(id=3, ra=0.0, dec=20.0, nx=1, ny=1, patch_size=20, overlap=2, pixel_scale=10.0),
    ),
)


def make_image(shape: tuple[int, int], value: float) -> PromptImage:
    """Make an image of one value."""
    return PromptImage(image=np.full(shape, value, "f4"))


def write_image(path: Path, shape: tuple[int, int] = (SIZE[1], SIZE[0]), value: float = 1.0) -> None:
    """Write an image file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(prompt_image_to_fits(make_image(shape, value)))


def write_seed(directory: Path) -> None:
    """Write everything there can be for the test's camera."""
    directory.mkdir(parents=True, exist_ok=True)
    camera = make_camera().model_dump(mode="json", exclude_defaults=True)
    (directory / "instrument.yaml").write_text(yaml.safe_dump(camera))
    calibrations = directory / "calibrations"
    for detector in range(2):
        for name in ("bias", "dark"):
            write_image(calibrations / name / f"{detector}.fits", value=detector)
        for filter_ in ("g_01", "r_01"):
            write_image(calibrations / "flat" / f"{detector}_{filter_}.fits")
    (calibrations / "defects").mkdir()
    defects = Table({"x0": [1], "y0": [2], "width": [3], "height": [1]})
    defects.write(calibrations / "defects" / "0.ecsv")
    stars = Table({"id": np.arange(4), "ra": [10.0, 10.001, 350.0, 0.0], "dec": [-5.0, -5.0, 20.0, 20.0]})
    stars["g_flux"] = 1e5
    stars.write(directory / "refcat.ecsv")
    (directory / "skymap.json").write_text(SKY_MAP.model_dump_json())
    for tract in SKY_MAP.tracts:
        for patch in tract.patches:
            write_image(directory / "templates" / "g" / f"{tract.id}_{patch}.fits", tract.patch_shape)
