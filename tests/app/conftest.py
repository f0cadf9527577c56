"""A central repo of the demo camera, without any calibrations."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from config.settings import PROJECT

PIPELINES = PROJECT / "pipelines"


@pytest.fixture(scope="session")
def made_central(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory with `central` and `apdb.yaml`, as ``create-central`` makes
    them; nobody may write to it.
    """
    import typer
    from typer.testing import CliRunner

    from app.commands.create_central import create_central

    root = tmp_path_factory.mktemp("democam")
    app = typer.Typer()
    app.command()(create_central)
    camera = PROJECT / "config" / "instruments" / "DemoCam.yaml"
    arguments = [root / "central", camera, "--apdb", root / "apdb.yaml"]
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    (root / "said").write_text(result.output)
    return root


@pytest.fixture
def variables(made_central: Path, tmp_path: Path) -> dict[str, str]:
    """Settings of a service with a central repo of the test's own."""
    shutil.copytree(made_central / "central", tmp_path / "central")
    (tmp_path / "images").mkdir()
    return {
        "RUBIN_INSTRUMENT": "DemoCam",
        "SKYMAP": "demo",
        "CENTRAL_REPO": str(tmp_path / "central"),
        "CONFIG_APDB": str(made_central / "apdb.yaml"),
        "MAIN_PIPELINES_CONFIG": yaml.safe_dump([{"pipelines": [str(PIPELINES / "SingleFrame.yaml")]}]),
        "PREPROCESSING_PIPELINES_CONFIG": yaml.safe_dump(
            [{"pipelines": [str(PIPELINES / "Preprocessing.yaml")]}]
        ),
        "PP_IMAGE_DIRECTORY": str(tmp_path / "images"),
        "PP_STATE_DIR": str(tmp_path / "state"),
        "PP_DEPLOYMENT_ID": "d0",
        "REPO_RETRY_DELAY": "0",
    }
