"""``create-central``: a central repo of an instrument file."""

from __future__ import annotations

from pathlib import Path

import pytest
from lsst.daf.butler import Butler
from lsst.dax.apdb import Apdb

from app.commands.create_central import create_central
from models.errors import InvalidConfiguration
from tests.app.commands.running import run


def test_of_an_instrument_file(made_central: Path) -> None:
    assert (
        (made_central / "said")
        .read_text()
        .splitlines()[-1]
        .endswith("is ready for DemoCam with 4 detectors.")
    )
    with Butler.from_config(str(made_central / "central")) as butler:
        assert len(butler.query_dimension_records("detector", instrument="DemoCam")) == 4
    assert Apdb.from_uri(str(made_central / "apdb.yaml")).containsVisitDetector(1, 0) is False
    assert (made_central / "apdb.db").exists()


def test_nothing_there(tmp_path: Path) -> None:
    # Wide enough for the path of any test.
    result = run(create_central, tmp_path / "central", tmp_path / "nowhere", COLUMNS="400")
    assert result.exit_code == 2
    assert "does not exist" in result.output


def test_not_a_camera(tmp_path: Path) -> None:
    (tmp_path / "camera.yaml").write_text("name: 3\n")
    result = run(create_central, tmp_path / "central", tmp_path / "camera.yaml")
    assert isinstance(result.exception, InvalidConfiguration)
    assert not (tmp_path / "central" / "butler.yaml").exists()


def test_it_exists_already(made_central: Path) -> None:
    from config.settings import PROJECT

    camera = PROJECT / "config" / "instruments" / "DemoCam.yaml"
    before = sorted(p.name for p in (made_central / "central").iterdir())
    result = run(create_central, made_central / "central", camera)
    assert isinstance(result.exception, InvalidConfiguration), result.exception
    assert str(made_central / "central") in str(result.exception)
    assert sorted(p.name for p in (made_central / "central").iterdir()) == before


@pytest.mark.parametrize("argument", ["--help"])
def test_help_without_the_middleware(argument: str) -> None:
    result = run(create_central, argument)
    assert result.exit_code == 0
    assert "prompt-processing create-central" in result.output
