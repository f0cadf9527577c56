"""Datasets through files, and files that are none."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from lsst.daf.butler import Butler, DataCoordinate, DatasetRef, DatasetType, FileDataset

from models.alerts import AlertPackets
from models.errors import UnreadableImage
from models.images import PromptImage, RawImage, SpatialKernel
from repos.alert_schema import latest_alert_schema_version, load_alert_schema
from repos.fits_files import image_hdu_bytes, prompt_image_from_fits, prompt_image_to_fits, raw_from_fits
from repos.formatters import alert_file_bytes, repository_config


def image() -> PromptImage:
    rng = np.random.default_rng(1)
    pixels = rng.normal(size=(5, 7)).astype(np.float32)
    pixels[0, 0] = np.nan
    return PromptImage(
        pixels,
        pixels**2,
        rng.integers(0, 100, (5, 7)).astype(np.int32),
        {"BUNIT": "nJy", "N": 3, "F": -0.000111112519844767, "OK": True, "CD1_1": 1 / 3, "NAME": "it's"},
        SpatialKernel(rng.normal(size=(3, 5, 5)).astype(np.float32), 1, 7.0),
        SpatialKernel(rng.normal(size=(1, 3, 3)).astype(np.float32), 0, 7.0),
    )


def test_an_image_survives_its_file_to_the_last_bit(tmp_path: Path) -> None:
    path = tmp_path / "image.fits"
    data = prompt_image_to_fits(image())
    path.write_bytes(data)
    assert prompt_image_from_fits(path) == image()
    assert data == prompt_image_to_fits(image())
    assert b"DATE" not in data
    assert len(data) % 2880 == 0
    with fits.open(path) as hdus:
        hdus.verify("exception")
        assert [h.name for h in hdus] == ["PRIMARY", "IMAGE", "VARIANCE", "MASK", "PSF", "KERNEL"]
        assert hdus["MASK"].header["MP_SAT"] == 1


#: Numbers of the sizes that headers hold.
NUMBERS = st.floats(-1e90, 1e90).filter(lambda v: v == 0 or abs(v) > 1e-90)


@given(
    st.dictionaries(
        st.from_regex(r"\A[A-Z][A-Z0-9]{0,6}X\Z"),
        NUMBERS | st.integers(-(2**53), 2**53) | st.booleans(),
        max_size=5,
    )
)
@settings(max_examples=60, deadline=None)
def test_any_number_in_a_header_survives(tmp_path_factory: Any, header: dict[str, Any]) -> None:
    one = PromptImage(np.zeros((2, 2)), header=header)
    path = tmp_path_factory.getbasetemp() / "header.fits"
    path.write_bytes(prompt_image_to_fits(one))
    assert prompt_image_from_fits(path).header == one.header


def test_an_image_without_the_other_planes(tmp_path: Path) -> None:
    path = tmp_path / "flat.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.ones((4, 4), np.float64))]).writeto(path)
    read = prompt_image_from_fits(path)
    assert read.variance is None
    assert read.mask is None
    assert read.image.dtype == np.float32
    assert read.image.dtype.isnative


def test_what_fits_cannot_hold_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "cards.fits"
    cards = {"BAD": float("nan"), "INF": float("inf"), "A_LONG_KEYWORD": 5}
    path.write_bytes(image_hdu_bytes(np.zeros((2, 2), np.float32), cards, primary=True))
    header = fits.getheader(path)
    assert "BAD" not in header
    assert "INF" not in header
    assert header["A_LONG_KEYWORD"] == 5


@pytest.mark.parametrize("extension", [0, 1])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_raws_are_read_from_whichever_hdu_has_the_pixels(
    tmp_path: Path, extension: int, dtype: type[np.generic]
) -> None:
    path = tmp_path / "raw.fits"
    pixels = np.arange(40).reshape(5, 8).astype(dtype) + dtype(40000 if dtype is np.uint16 else 0)
    primary = fits.PrimaryHDU(pixels if extension == 0 else None)
    primary.header["EXPID"] = 5
    primary.header["GAIN"] = 1.0
    hdus = [primary]
    if extension == 1:
        hdus.append(fits.ImageHDU(pixels))
        hdus[1].header["GAIN"] = 2.0
    fits.HDUList(hdus).writeto(path)
    raw = raw_from_fits(path)
    assert (raw.data == pixels).all()
    assert raw.data.dtype.isnative
    assert raw.header["EXPID"] == 5
    assert raw.header["GAIN"] == 1.0 + extension
    assert "NAXIS" not in raw.header


def test_compressed_raws(tmp_path: Path) -> None:
    path = tmp_path / "raw.fits.fz"
    pixels = np.random.default_rng(1).integers(0, 5000, (64, 64)).astype(np.int32)
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(pixels)]).writeto(path)
    assert (raw_from_fits(path).data == pixels).all()


class TestUnreadable:
    """Every broken file is an `UnreadableImage` that names it."""

    @pytest.mark.parametrize("part", [0.001, 0.3, 0.6, 0.99])
    def test_truncated(self, tmp_path: Path, part: float) -> None:
        path = tmp_path / "short.fits"
        fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.ones((200, 200), np.int16))]).writeto(path)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(UnreadableImage, match=r"short\.fits"):
            raw_from_fits(path)

    @pytest.mark.parametrize("content", [b"", b"not fits at all" * 500, b"SIMPLE  = " + b"\0" * 5000])
    def test_not_fits(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "other.fits"
        path.write_bytes(content)
        with pytest.raises(UnreadableImage, match=r"other\.fits"):
            raw_from_fits(path)

    def test_without_an_image(self, tmp_path: Path) -> None:
        path = tmp_path / "table.fits"
        columns = [fits.Column("a", "E", array=np.zeros(3))]
        fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns)]).writeto(path)
        with pytest.raises(UnreadableImage, match="no two-dimensional image"):
            raw_from_fits(path)
        with pytest.raises(UnreadableImage):
            prompt_image_from_fits(path)

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            raw_from_fits(tmp_path / "nowhere.fits")

    @given(st.binary(max_size=200), st.integers(0, 20000))
    @settings(max_examples=40, deadline=None)
    def test_damaged(self, tmp_path_factory: Any, damage: bytes, place: int) -> None:
        path = tmp_path_factory.getbasetemp() / "damaged.fits"
        data = bytearray(prompt_image_to_fits(image()))
        data[place : place + len(damage)] = damage
        path.write_bytes(bytes(data))
        with contextlib.suppress(UnreadableImage):
            raw_from_fits(path)


def packets() -> AlertPackets:
    version = latest_alert_schema_version()
    schema = load_alert_schema(version)
    source_type = next(f["type"] for f in schema["fields"] if f["name"] == "diaSource")
    source = {
        f["name"]: None if isinstance(f["type"], list) else 0
        for f in (source_type if isinstance(source_type, dict) else source_type[0])["fields"]
    }
    alert = dict.fromkeys(f["name"] for f in schema["fields"])
    return AlertPackets(version, [alert | {"diaSourceId": 5, "diaSource": source, "cutoutScience": b"abc"}])


def test_equal_alerts_give_equal_bytes() -> None:
    assert alert_file_bytes(packets()) == alert_file_bytes(packets())


@pytest.fixture
def butler(tmp_path: Path) -> Butler:
    Butler.makeRepo(str(tmp_path / "repo"), config=repository_config())
    butler = Butler.from_config(str(tmp_path / "repo"), writeable=True, run="run")
    for name, storage_class in (("img", "PromptImage"), ("alerts", "AlertPackets"), ("raw", "RawImage")):
        butler.registry.registerDatasetType(DatasetType(name, (), storage_class, universe=butler.dimensions))
    return butler


def test_through_a_butler(butler: Butler, tmp_path: Path) -> None:
    butler.put(image(), "img")
    assert butler.get("img") == image()
    assert butler.get("img.header") == image().header
    butler.put(packets(), "alerts")
    read = butler.get("alerts")
    assert read.schema_version == latest_alert_schema_version()
    assert read.packets[0]["cutoutScience"] == b"abc"
    path = tmp_path / "x.fits"
    fits.HDUList([fits.PrimaryHDU(np.ones((3, 3), np.int16))]).writeto(path)
    ref = DatasetRef(butler.get_dataset_type("raw"), DataCoordinate.make_empty(butler.dimensions), "run")
    butler.ingest(FileDataset(str(path), [ref], formatter="repos.formatters.RawFormatter"), transfer="direct")
    assert butler.get(ref) == RawImage(np.ones((3, 3), np.int16), {})


def test_a_broken_raw_through_a_butler(butler: Butler, tmp_path: Path) -> None:
    path = tmp_path / "x.fits"
    fits.HDUList([fits.PrimaryHDU(np.ones((90, 90), np.int16))]).writeto(path)
    path.write_bytes(path.read_bytes()[:6000])
    ref = DatasetRef(butler.get_dataset_type("raw"), DataCoordinate.make_empty(butler.dimensions), "run")
    butler.ingest(FileDataset(str(path), [ref], formatter="repos.formatters.RawFormatter"), transfer="direct")
    with pytest.raises(Exception) as caught:  # noqa: PT011 (the Butler may wrap ours)
        butler.get(ref)
    chain, error = [], caught.value
    while error is not None:
        chain.append(type(error))
        error = error.__cause__
    assert UnreadableImage in chain
