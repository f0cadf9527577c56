"""Raw images in a directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.raws import parse_raw_key
from repos.image_store import DirectoryImageStore


def put(root: Path, key: str, content: str = "pixels") -> Path:
    path = root / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_finds_the_images_of_a_snap(tmp_path: Path) -> None:
    path = put(tmp_path, "Cam/3/g1/0/100/r/a.fits")
    put(tmp_path, "Cam/3/g1/0/101/r/a.fits.fz")
    for other in ("Cam/3/g1/1/102/r/a.fits", "Cam/3/g10/0/103/r/a.fits", "Cam/33/g1/0/104/r/a.fits"):
        put(tmp_path, other)
    for noise in (".a.fits", "b.fits.tmp", "b.fits.part", "a.json", "deeper/a.fits"):
        put(tmp_path, f"Cam/3/g1/0/100/r/{noise}")
    store = DirectoryImageStore(tmp_path)
    found = store.find_existing("Cam", 3, "g1", 0)
    assert [f.raw.exposure_id for f in found] == [100, 101]
    assert store.fetch(found[0]).path == path.resolve()


def test_nothing_there(tmp_path: Path) -> None:
    assert DirectoryImageStore(tmp_path / "absent").find_existing("Cam", 3, "g1", 0) == []


@pytest.mark.parametrize("group", ["..", ".", "a/b", "../../Cam/3/g1", "/", "a\0b"])
def test_no_way_out_of_the_directory(tmp_path: Path, group: str) -> None:
    put(tmp_path, "images/Cam/3/g1/0/100/r/a.fits")
    put(tmp_path, "images/Cam/0/100/r/1/g/a.fits")
    store = DirectoryImageStore(tmp_path / "images")
    assert store.find_existing("Cam", 3, group, 0) == []


class TestSidecar:
    """The group of an image whose key does not tell it."""

    stem = "LSSTCam/20260101/MC_O_20260101_000007/MC_O_20260101_000007_R22_S11"

    def group(self, root: Path) -> str | None:
        return DirectoryImageStore(root).read_sidecar_group(parse_raw_key(f"{self.stem}.fits.fz"))

    def test_reads_the_group(self, tmp_path: Path) -> None:
        put(tmp_path, f"{self.stem}.json", '{"GROUPID": "2026-01-01T00:00:00.000", "INSTRUME": "LSSTCam"}')
        assert self.group(tmp_path) == "2026-01-01T00:00:00.000"

    @pytest.mark.parametrize("content", ["", '{"GROUPID": "2026', "[]", "{}", '{"GROUPID": 7}', "\udcff"])
    def test_not_there_or_not_complete(self, tmp_path: Path, content: str) -> None:
        path = put(tmp_path, f"{self.stem}.json", "")
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
        assert self.group(tmp_path) is None
        path.unlink()
        assert self.group(tmp_path) is None

    def test_generic_form_has_its_group_in_the_key(self, tmp_path: Path) -> None:
        raw = parse_raw_key("Cam/3/g1/0/100/r/a.fits")
        assert DirectoryImageStore(tmp_path).read_sidecar_group(raw) == "g1"
