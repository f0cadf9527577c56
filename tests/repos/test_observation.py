"""Headers of raw files."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astro_metadata_translator import ObservationInfo
from astropy.io import fits

from config.instruments import find_instrument_file, load_instrument
from models.errors import InvalidConfiguration, UnreadableImage
from models.raws import FoundImage, parse_raw_key
from repos.observation import ObservationReader, sky_angle
from tests.repos.raw_files import EXPOSURE, GROUP, make_camera, write_raw


def read(found: FoundImage, *, detector: int = 2, **camera: Any) -> ObservationInfo:
    reader = ObservationReader(make_camera(**camera))
    path = Path(found.location)
    return reader.observation_info(
        reader.read_header(path), found.raw, group=GROUP, detector=detector, file_name=path.name
    )


def metadata(**changes: Any) -> dict[str, Any]:
    """Return the test camera's metadata with changes; None leaves out."""
    fields = {**make_camera().metadata, **changes}
    return {name: field for name, field in fields.items() if field is not None}


def test_header_in_common_terms(tmp_path: Path) -> None:
    info = read(write_raw(tmp_path))
    assert (info.instrument, info.exposure_id, info.visit_id) == ("TestCam", EXPOSURE, EXPOSURE)
    assert (info.detector_num, info.physical_filter, info.exposure_group) == (2, "r_01", GROUP)
    assert info.observing_day == 20251231
    assert info.observation_counter == 7
    assert info.telescope == "Test 1 m"
    assert info.datetime_begin.scale == "tai"
    assert info.datetime_end.isot == "2026-01-01T05:00:30.000"
    assert info.exposure_time.to_value("s") == 30.0
    assert info.tracking_radec.ra.deg == pytest.approx(30.0)
    assert info.tracking_radec.dec.deg == pytest.approx(-40.0)
    assert sky_angle(info) == pytest.approx(15.0)
    # Cards of the pixels' HDU win over those of the primary HDU.
    assert info.object == "pixels win"


@pytest.mark.parametrize("name", ["raw.fits", "raw.fits.fz", "raw.fits.gz"])
def test_compressed_files(tmp_path: Path, name: str) -> None:
    assert read(write_raw(tmp_path, name=name)).observation_counter == 7


def test_compressed_image_that_was_in_the_primary_hdu(tmp_path: Path) -> None:
    path = tmp_path / "raw.fits.fz"
    hdu = fits.CompImageHDU(np.zeros((48, 64), np.int16), header=fits.Header({"INSTRUME": "TestCam"}))
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    reader = ObservationReader(make_camera(raw_hdu=0))
    assert reader.read_header(path)["INSTRUME"] == "TestCam"


def test_what_follows_from_the_rest(tmp_path: Path) -> None:
    left_out: dict[str, Any] = {
        "DATE-END": None,
        "DAYOBS": None,
        "SEQNUM": None,
        "OBSID": None,
        "IMGTYPE": None,
    }
    info = read(write_raw(tmp_path, FILTER=None, **left_out))
    assert info.datetime_end.isot == "2026-01-01T05:00:30.000"
    # TAI, twelve hours earlier.
    assert info.observing_day == 20251231
    assert info.observation_counter == 7
    assert info.observation_id == f"TestCam_{EXPOSURE}"
    assert info.observation_type == "science"
    assert info.physical_filter == "r_01"
    assert info.dark_time.to_value("s") == 30.0
    assert read(write_raw(tmp_path, EXPTIME=None)).exposure_time.to_value("s") == pytest.approx(30.0)


def test_constants_for_single_files(tmp_path: Path) -> None:
    files = {"special.*": {"datetime_begin": "2020-02-02T00:00:00", "datetime_end": "2020-02-02T00:01:00"}}
    assert read(write_raw(tmp_path, name="special.fits"), files=files).datetime_begin.isot.startswith(
        "2020-02-02"
    )
    assert read(write_raw(tmp_path), files=files).datetime_begin.isot.startswith("2026-01-01")


@pytest.mark.parametrize(
    ("field", "value", "tai"),
    [
        ({"key": "DATE-BEG", "scale": "utc"}, "2026-01-01T04:59:00.000", "2026-01-01T04:59:37.000"),
        ({"key": "DATE-BEG", "scale": "tai"}, "2026-01-01 04:59:00", "2026-01-01T04:59:00.000"),
        ({"key": "DATE-BEG", "scale": "tai", "format": "mjd"}, 61041.0, "2026-01-01T00:00:00.000"),
    ],
)
def test_times(tmp_path: Path, field: dict[str, str], value: Any, tai: str) -> None:
    info = read(write_raw(tmp_path, **{"DATE-BEG": value}), metadata=metadata(datetime_begin=field))
    assert info.datetime_begin.tai.isot == tai


def test_units(tmp_path: Path) -> None:
    fields = metadata(
        exposure_time={"key": "EXPTIME", "unit": "min"}, tracking_ra={"key": "RA", "unit": "hourangle"}
    )
    info = read(write_raw(tmp_path, EXPTIME=0.5, RA="02:00:00"), metadata=fields)
    assert info.exposure_time.to_value("s") == pytest.approx(30.0)
    assert info.tracking_radec.ra.deg == pytest.approx(30.0)


@pytest.mark.parametrize("angle", [None, "NaN"])
def test_no_sky_angle(tmp_path: Path, angle: object) -> None:
    assert sky_angle(read(write_raw(tmp_path, ROTANGLE=angle))) is None


def test_angle_of_another_kind_is_no_sky_angle(tmp_path: Path) -> None:
    fields = metadata(boresight_rotation_coord={"value": "unknown"})
    assert sky_angle(read(write_raw(tmp_path), metadata=fields)) is None


def test_missing_keywords_are_all_named(tmp_path: Path) -> None:
    lacking: dict[str, Any] = {"DATE-BEG": None, "EXPTIME": None}
    found = write_raw(tmp_path, **lacking)
    with pytest.raises(UnreadableImage, match=r"raw\.fits lacks .*DATE-BEG.*EXPTIME"):
        read(found)


def test_keyword_without_value_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match="DATE-BEG"):
        read(write_raw(tmp_path, **{"DATE-BEG": fits.card.UNDEFINED}))


def test_unusable_values_are_all_named(tmp_path: Path) -> None:
    wrong: dict[str, Any] = {"EXPTIME": "long", "DAYOBS": 2026.5, "DATE-BEG": "yesterday"}
    found = write_raw(tmp_path, **wrong)
    with pytest.raises(UnreadableImage) as caught:
        read(found)
    for keyword in ("EXPTIME", "DAYOBS", "DATE-BEG"):
        assert keyword in str(caught.value)


@pytest.mark.parametrize(
    ("cards", "text"),
    [
        ({"EXPID": 12345}, "foreign: its header is of exposure 12345"),
        ({"INSTRUME": "OtherCam"}, "foreign: INSTRUME is 'OtherCam', not 'TestCam'"),
        ({"INSTRUME": None}, "foreign: INSTRUME is None"),
        ({"DEC": 95.0}, "points nowhere"),
        ({"DATE-END": "2026-01-01T04:00:00"}, "ends before it begins"),
        ({"EXPTIME": "NaN"}, "EXPTIME"),
    ],
)
def test_foreign_and_absurd(tmp_path: Path, cards: dict[str, Any], text: str) -> None:
    with pytest.raises(UnreadableImage, match=text):
        read(write_raw(tmp_path, **cards))


def test_other_detectors_pixels(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match="its header is of detector 2, its path of 3"):
        read(write_raw(tmp_path), detector=3)


class TestDamagedFiles:
    """Each names the file and what is wrong with it."""

    @staticmethod
    def check(path: Path, text: str) -> None:
        with pytest.raises(UnreadableImage, match=text) as caught:
            ObservationReader(make_camera()).read_header(path)
        assert str(path) in str(caught.value)

    @pytest.mark.parametrize("name", ["raw.fits", "raw.fits.fz", "raw.fits.gz"])
    def test_cut_anywhere(self, tmp_path: Path, name: str) -> None:
        path = Path(write_raw(tmp_path, name=name).location)
        whole = path.read_bytes()
        # Blocks are padded after the pixels; padding may be missing.
        shortest = len(whole) - 8 if name.endswith("gz") else len(whole.rstrip(b"\0"))
        for length in (*range(0, shortest, 997), shortest - 1):
            path.write_bytes(whole[:length])
            self.check(path, "truncated|damaged|not FITS")

    def test_missing_padding_does_no_harm(self, tmp_path: Path) -> None:
        path = Path(write_raw(tmp_path).location)
        whole = path.read_bytes()
        pixels = 2 * 64 * 48
        path.write_bytes(whole[: len(whole) - (-pixels % 2880)])
        assert ObservationReader(make_camera()).read_header(path)["EXPID"] == EXPOSURE

    @pytest.mark.parametrize(
        "content", [b"", b"GIF89a", b"SIMPLE", b"\0" * 5760, b"\x1f\x8b", gzip.compress(b"no FITS", mtime=0)]
    )
    def test_not_fits(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "raw.fits"
        path.write_bytes(content)
        self.check(path, "not FITS|truncated|damaged")

    def test_not_there(self, tmp_path: Path) -> None:
        self.check(tmp_path / "raw.fits", "No such file")

    def test_no_image_where_it_should_be(self, tmp_path: Path) -> None:
        path = tmp_path / "raw.fits"
        fits.PrimaryHDU(np.zeros((4, 4))).writeto(path)
        self.check(path, "no two-dimensional image in HDU 1")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"exposure_tim": "EXPTIME"}, "exposure_tim: there is no such property"),
        ({"location": "SITE"}, "location: .*cannot be given"),
        ({"exposure_time": {"key": "EXPTIME", "unit": "fortnights"}}, "exposure_time: .*fortnights"),
    ],
)
def test_wrong_camera_file(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidConfiguration, match=text):
        ObservationReader(make_camera(metadata=metadata(**fields)))


def test_wrong_property_for_single_files() -> None:
    with pytest.raises(InvalidConfiguration, match="begun: there is no such property"):
        ObservationReader(make_camera(files={"x": {"begun": 1}}))


def test_real_frames(decam_frames: Path) -> None:
    """The example in the documentation: times and ids from the camera file."""
    camera = load_instrument(find_instrument_file("DecamStamps"))
    reader = ObservationReader(camera)
    begins = set()
    for number, letter in enumerate("abcde", start=1):
        path = decam_frames / f"DEC-OBS18{letter}.mini.fits"
        raw = parse_raw_key(f"DecamStamps/37/g/0/180{number}/i_c0003/{path.name}")
        info = reader.observation_info(
            reader.read_header(path), raw, group="g", detector=37, file_name=path.name
        )
        assert info.observing_day == 20160817
        begins.add(info.datetime_begin.isot)
    assert len(begins) == 5
