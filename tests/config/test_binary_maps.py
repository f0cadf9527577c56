"""Binary HEALPix maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy_healpix import HEALPix

from config.binary_maps import load_binary_map
from config.maps import high_galactic_latitude
from models.errors import InvalidConfiguration

NSIDE = 4
NORTH = {"C": (0.0, 89.0), "G": (192.859, 27.128), "E": (270.0, 66.561)}


def write(path: Path, values: Any = None, *, form: str = "I", row: int = 1, **header: Any) -> Path:
    """Write a map of the convention, by default 1 north of latitude 60."""
    keywords = {
        "PIXTYPE": "HEALPIX",
        "ORDERING": "NESTED",
        "COORDSYS": "C",
        "NSIDE": NSIDE,
        "INDXSCHM": "IMPLICIT",
        **header,
    }
    if values is None:
        order = str(keywords["ORDERING"]).lower()
        healpix = HEALPix(NSIDE, order=order)
        values = healpix.healpix_to_lonlat(np.arange(healpix.npix))[1].deg > 60
    array = np.asarray(values).reshape(-1, row) if row > 1 else np.asarray(values)
    table = fits.BinTableHDU.from_columns([fits.Column("MAP", form, array=array)])
    table.header.update({k: v for k, v in keywords.items() if v is not None})
    table.writeto(path)
    return path


@pytest.mark.parametrize("ordering", ["NESTED", "RING", "nested"])
@pytest.mark.parametrize("system", ["C", "G", "E"])
def test_orderings_and_frames(tmp_path: Path, ordering: str, system: str) -> None:
    binary_map = load_binary_map(write(tmp_path / "m.fits", ORDERING=ordering, COORDSYS=system))
    for other, (ra, dec) in NORTH.items():
        # The galactic pole is more than 30 degrees from the other two poles.
        assert binary_map.contains(ra, dec) == (other == system or {other, system} == {"C", "E"}), other
    assert not binary_map.contains(10.0, -80.0)
    # A cap of 30 degrees covers (1 - cos 30) / 2 of the sky.
    assert binary_map.covered == pytest.approx(0.067, abs=0.02)


@pytest.mark.parametrize(
    ("form", "row"), [("B", 1), ("I", 1), ("J", 1), ("K", 1), ("E", 1), ("D", 1), ("L", 1), ("12I", 12)]
)
def test_kinds_of_columns(tmp_path: Path, form: str, row: int) -> None:
    values = np.zeros(12 * NSIDE**2)
    values[:32] = 1
    kinds = {"L": bool, "E": np.float32, "D": np.float64}
    array = values.astype(kinds.get(form, np.int16))
    binary_map = load_binary_map(write(tmp_path / "m.fits", array, form=form, row=row))
    assert binary_map.covered == pytest.approx(32 / 192)


def test_only_ones_match(tmp_path: Path) -> None:
    values = np.resize([0, 1, 16], 12 * NSIDE**2)
    binary_map = load_binary_map(write(tmp_path / "m.fits", values))
    healpix = HEALPix(NSIDE, order="nested")
    lon, lat = healpix.healpix_to_lonlat(np.arange(healpix.npix))
    found = [binary_map.contains(*at) for at in zip(lon.deg, lat.deg, strict=True)]
    assert found == [v == 1 for v in values]


@pytest.mark.parametrize("value", [2, -1, 15, 17, 255])
def test_other_values_are_refused(tmp_path: Path, value: int) -> None:
    values = np.ones(12 * NSIDE**2, int)
    values[5] = value
    with pytest.raises(InvalidConfiguration, match=f"1 pixels with other values than 0, 1 and 16: {value}"):
        load_binary_map(write(tmp_path / "m.fits", values))


@pytest.mark.parametrize("value", [np.nan, 0.5, -1.6375e30])
def test_other_numbers_are_refused(tmp_path: Path, value: float) -> None:
    values = np.ones(12 * NSIDE**2)
    values[5] = value
    with pytest.raises(InvalidConfiguration, match="other values"):
        load_binary_map(write(tmp_path / "m.fits", values, form="D"))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({"ORDERING": "NUNIQ"}, "ORDERING must be RING or NESTED"),
        ({"ORDERING": None}, "ORDERING must be RING or NESTED, not None"),
        ({"COORDSYS": "S"}, "COORDSYS must be C, G or E"),
        ({"COORDSYS": None}, "COORDSYS must be C, G or E"),
        ({"INDXSCHM": "EXPLICIT"}, "INDXSCHM must be IMPLICIT"),
        ({"NSIDE": 8}, "full sky: 768 pixels at NSIDE 8, not 192"),
        ({"NSIDE": 3}, "power of two"),
        ({"NSIDE": 0}, "NSIDE"),
        ({"NSIDE": None}, "NSIDE"),
        ({"NSIDE": "4"}, "NSIDE"),
    ],
)
def test_other_pixelisations_are_refused(tmp_path: Path, header: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidConfiguration, match=expected):
        load_binary_map(write(tmp_path / "m.fits", np.ones(12 * NSIDE**2, int), **header))


def test_partial_maps_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="full sky"):
        load_binary_map(write(tmp_path / "m.fits", np.ones(12, int)))


@pytest.mark.filterwarnings("ignore:File may have been truncated")
def test_what_only_looks_like_an_archive(tmp_path: Path) -> None:
    (tmp_path / "m.fits").write_bytes(b"PK\3\4 and no more")
    with pytest.raises(InvalidConfiguration, match="cannot be read as a HEALPix FITS map"):
        load_binary_map(tmp_path / "m.fits")


def test_what_is_no_map(tmp_path: Path) -> None:
    (tmp_path / "text.fits").write_text("hello")
    (tmp_path / "empty.fits").touch()
    fits.PrimaryHDU(np.zeros((4, 4))).writeto(tmp_path / "image.fits")
    write(tmp_path / "strings.fits", np.array(["a"] * 12 * NSIDE**2), form="1A")
    whole = write(tmp_path / "whole.fits").read_bytes()
    (tmp_path / "truncated.fits").write_bytes(whole[: 2880 * 2 + 100])
    for name in ("text", "empty", "image", "strings", "truncated", "missing"):
        with pytest.raises(InvalidConfiguration, match=f"sky map .*{name}.fits"):
            load_binary_map(tmp_path / f"{name}.fits")


class TestShipped:
    """The map that comes with the project."""

    path = Path(high_galactic_latitude.__file__).with_suffix(".fits")

    def test_it_is_what_its_script_makes(self) -> None:
        with fits.open(self.path) as hdus:
            assert np.array_equal(hdus[1].data["SELECTED"], high_galactic_latitude.make_map())

    @pytest.mark.parametrize("b", [-89, -40, -20, -10, 0, 10, 20, 40, 89])
    @pytest.mark.parametrize("l", [0, 120, 240])
    def test_it_excludes_the_plane(self, l: float, b: float) -> None:  # noqa: E741 (galactic longitude)
        at = SkyCoord(l, b, unit="deg", frame="galactic").icrs
        assert load_binary_map(self.path).contains(at.ra.deg, at.dec.deg) == (abs(b) > 15)
