"""Wiring of the data agent and its catalogues."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.streaming.data_factory import DataOptions, create_catalogue
from config.streaming.settings import load_streaming_settings
from models.errors import InvalidConfiguration
from repos.streaming.embedded_catalogue import EmbeddedCatalogue
from repos.streaming.rucio_catalogue import RucioCatalogue


def test_embedded_catalogue_is_the_default(tmp_path: Path) -> None:
    settings = load_streaming_settings(env={"PP_TESTBED_DIRECTORY": str(tmp_path)})
    assert isinstance(create_catalogue(settings), EmbeddedCatalogue)
    assert (tmp_path / "catalogue.db").exists()


def test_rucio_is_not_asked_before_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rucio.common.config import clean_cached_config

    config = tmp_path / "rucio.cfg"
    config.write_text("[client]\nrucio_host = http://127.0.0.1:9\n")
    monkeypatch.setenv("RUCIO_CONFIG", str(config))
    clean_cached_config()
    settings = load_streaming_settings(env={"PP_CATALOGUE": "rucio"})
    assert isinstance(create_catalogue(settings), RucioCatalogue)
    with pytest.raises(InvalidConfiguration, match="PP_XROOTD_DOOR"):
        create_catalogue(settings, DataOptions(xrootd=True))
    clean_cached_config()
