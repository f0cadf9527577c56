"""``check``: everything that is wrong is named at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from app.check_runs import run_checks
from app.checks import create_checks
from app.commands.check import check
from config.settings import PROJECT, ServiceSettings, load_service_settings
from repos.ledger_database import create_ledger_engine
from tests.config.test_settings import ENOUGH

#: Checks that need no middleware and no repository.
LIGHT = ("instrument file", "sky map", "directories", "ledger")


def make_settings(tmp_path: Path, **changes: str) -> ServiceSettings:
    (tmp_path / "raws").mkdir(exist_ok=True)
    variables = {
        **ENOUGH,
        "PP_STATE_DIR": str(tmp_path / "state"),
        "PP_IMAGE_DIRECTORY": str(tmp_path / "raws"),
        "LOCAL_REPOS": str(tmp_path),
        "CENTRAL_REPO": str(tmp_path / "central"),
        "CONFIG_APDB": str(tmp_path / "apdb.yaml"),
        "MAIN_PIPELINES_CONFIG": str(PROJECT / "config" / "defaults" / "main.yaml"),
    }
    return load_service_settings({**variables, **changes})


def light_faults(settings: ServiceSettings) -> list[str]:
    return run_checks(c for c in create_checks(settings) if c.name.startswith(LIGHT))


def test_all_is_well(tmp_path: Path) -> None:
    assert light_faults(make_settings(tmp_path)) == []
    # Nothing was made.
    assert not (tmp_path / "state").exists()


def test_an_unknown_instrument(tmp_path: Path) -> None:
    (fault,) = light_faults(make_settings(tmp_path, RUBIN_INSTRUMENT="NoCam"))
    assert "no instrument file NoCam.yaml" in fault


def test_a_broken_instrument_file(tmp_path: Path) -> None:
    (tmp_path / "DemoCam.yaml").write_text("name: DemoCam\n")
    (fault,) = light_faults(make_settings(tmp_path, PP_INSTRUMENT_PATH=str(tmp_path)))
    assert "plate_scale" in fault
    assert "detectors" in fault


def test_a_broken_map(tmp_path: Path) -> None:
    (tmp_path / "map.fits").write_text("no map")
    config = f"- {{pipelines: [x.yaml], binary-map: {tmp_path}/map.fits}}"
    (fault,) = light_faults(make_settings(tmp_path, MAIN_PIPELINES_CONFIG=config))
    assert f"sky map {tmp_path}/map.fits cannot be read" in fault


def test_directories(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = make_settings(
        tmp_path,
        PP_STATE_DIR=str(tmp_path / "file"),
        LOCAL_REPOS=str(tmp_path / "file" / "repos"),
        PP_ALERT_DIRECTORY="/proc/alerts",
        PP_IMAGE_DIRECTORY=str(tmp_path / "nowhere"),
        LOCAL_REPO_CONFIG=str(tmp_path / "butler.yaml"),
    )
    faults = [fault.split(":")[0] for fault in light_faults(settings)]
    assert faults[:5] == [
        "PP_STATE_DIR",
        "LOCAL_REPOS",
        "PP_ALERT_DIRECTORY",
        "PP_IMAGE_DIRECTORY",
        "LOCAL_REPO_CONFIG",
    ]


def test_the_ledger(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    create_ledger_engine(settings.ledger_url).dispose()
    assert light_faults(settings) == []
    (tmp_path / "state" / "ledger.sqlite3").write_bytes(b"x" * 4096)
    (fault,) = light_faults(settings)
    assert "file is not a database" in fault


class TestCommand:
    """The command line, with the real checks of pipelines and repositories."""

    @pytest.fixture
    def app(self) -> typer.Typer:
        app = typer.Typer()
        app.command()(check)
        return app

    def test_bad_settings(self, app: typer.Typer) -> None:
        names = dict.fromkeys(ServiceSettings.variables())
        result = CliRunner().invoke(app, [], env={**names, "RUBIN_INSTRUMENT": "DemoCam"})
        assert result.exit_code == 1
        assert "CENTRAL_REPO: is not set" in result.output
        assert "SKYMAP: is not set" in result.output
        assert "Traceback" not in result.output

    def test_passwords_of_addresses_are_not_shown(self, app: typer.Typer, tmp_path: Path) -> None:
        address = "http://somebody:hunter2@127.0.0.1:1"
        env = {
            **dict.fromkeys(ServiceSettings.variables()),
            **ENOUGH,
            "CENTRAL_REPO": str(tmp_path / "no-repo"),
            "CONFIG_APDB": str(tmp_path / "no-apdb.yaml"),
            "PP_LEDGER_URL": "postgresql://somebody:hunter2@127.0.0.1:1/ledger",
            "RAW_MICROSERVICE": address,
            "SASQUATCH_URL": address,
        }
        result = CliRunner().invoke(app, [], env=env)
        assert result.exit_code == 1
        assert "http://127.0.0.1:1 does not answer" in result.output
        assert "Sasquatch at http://127.0.0.1:1" in result.output
        assert "hunter2" not in result.output

    def test_everything_wrong_is_named_at_once(self, app: typer.Typer, tmp_path: Path) -> None:
        env = {
            **dict.fromkeys(ServiceSettings.variables()),
            **ENOUGH,
            "PP_STATE_DIR": str(tmp_path),
            "LOCAL_REPOS": str(tmp_path),
            "RUBIN_INSTRUMENT": "NoCam",
            "CENTRAL_REPO": str(tmp_path / "no-repo"),
            "CONFIG_APDB": str(tmp_path / "no-apdb.yaml"),
            "MAIN_PIPELINES_CONFIG": "- pipelines: [/nowhere/ApPipe.yaml]",
            "PP_IMAGE_DIRECTORY": str(tmp_path / "no-raws"),
        }
        result = CliRunner().invoke(app, [], env=env)
        assert result.exit_code == 1
        for part in ("NoCam.yaml", "no-repo", "no-apdb.yaml", "/nowhere/ApPipe.yaml", "no-raws"):
            assert part in result.output
        assert "Traceback" not in result.output
        assert "things to put right." in result.output
