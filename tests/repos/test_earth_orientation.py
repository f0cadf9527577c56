"""Earth-orientation data without the network."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from astropy.utils import data, iers

from models.errors import InvalidConfiguration
from repos.earth_orientation import configure_earth_orientation


@pytest.fixture(autouse=True)
def restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave astropy as it was, with a cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "astropy").mkdir()
    with (
        data.conf.set_temp("allow_internet", True),
        iers.conf.set_temp("auto_download", True),
        iers.conf.set_temp("auto_max_age", 30.0),
    ):
        yield


def test_nothing_is_fetched(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        configure_earth_orientation(None)
    assert "CENTRAL_IERS_CACHE" in caplog.text
    assert not data.conf.allow_internet
    assert not iers.conf.auto_download
    assert iers.conf.auto_max_age is None


def test_a_cache_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = tmp_path / "finals"
    table.write_text("made for a test")
    cache = tmp_path / "cache.zip"
    url = "http://example.org/finals"
    data.import_file_to_cache(url, str(table))
    data.export_download_cache(str(cache), [url])
    data.clear_download_cache(url)
    assert not data.is_url_in_cache(url)
    with caplog.at_level(logging.WARNING):
        configure_earth_orientation(str(cache))
    assert "CENTRAL_IERS_CACHE" not in caplog.text
    assert Path(data.download_file(url, cache=True)).read_text() == "made for a test"
    # astropy looks into its cache only while it believes it may download.
    assert iers.conf.auto_download and not data.conf.allow_internet


@pytest.mark.parametrize("content", [None, b"no zip at all", "empty"])
def test_a_cache_that_cannot_be_used(tmp_path: Path, content: bytes | str | None) -> None:
    cache = tmp_path / "cache.zip"
    if content == "empty":
        with zipfile.ZipFile(cache, "w") as file:
            file.writestr("stray/url", "http://example.org/x")
    elif isinstance(content, bytes):
        cache.write_bytes(content)
    with pytest.raises(InvalidConfiguration, match=r"cache\.zip"):
        configure_earth_orientation(str(cache))
