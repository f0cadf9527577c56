"""Raw files: which HDU, compressed or not, whole or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from lsst.utils import doImportType

from models.errors import UnreadableImage
from repos.fits_files import raw_from_fits
from repos.formatters import RawFormatter, raw_formatter


def write(path: Path) -> Path:
    """Write a frame whose second image HDU differs from the first."""
    first = np.arange(12, dtype="i4").reshape(3, 4)
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(first), fits.ImageHDU(first + 100)]
    fits.HDUList(hdus).writeto(path)
    return path


@pytest.mark.parametrize("name", ["raw.fits", "raw.fits.gz"])
def test_the_hdu_of_the_camera_is_read(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    assert raw_from_fits(path).data[0, 0] == 0
    assert raw_from_fits(path, 2).data[0, 0] == 100
    with pytest.raises(UnreadableImage, match="image"):
        raw_from_fits(path, 7)


@pytest.mark.parametrize("name", ["raw.fits", "raw.fits.gz"])
def test_a_truncated_file_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    noise = np.random.default_rng(1).integers(0, 2**30, (200, 200)).astype("i4")
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(noise)]).writeto(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableImage, match=name):
        raw_from_fits(path)


def test_the_formatter_of_an_hdu_can_be_imported_by_its_name() -> None:
    formatter = raw_formatter(2)
    found = doImportType(f"{formatter.__module__}.{formatter.__name__}")
    assert issubclass(found, RawFormatter)
    assert found.hdu == 2
    with pytest.raises(ImportError):
        doImportType("repos.formatters.RawFormatterHduX")
