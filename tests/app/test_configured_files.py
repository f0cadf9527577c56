"""A file of the settings that is missing or damaged stops the start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from app.commands.init import init
from app.commands.serve import serve
from app.commands.worker import worker
from app.configured_files import check_configured_files, find_camera
from app.web_factory import gunicorn_options
from config.settings import PROJECT, ServiceSettings, load_service_settings
from models.errors import InvalidConfiguration
from tests.app.commands.running import run
from tests.config.test_settings import ENOUGH

pytestmark = pytest.mark.filterwarnings("ignore:File may have been truncated")

SHIPPED = PROJECT / "config" / "maps" / "high_galactic_latitude.fits"


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """Settings of which every file is wrong."""
    (tmp_path / "DemoCam.yaml").write_text("name: DemoCam\n")
    (tmp_path / "damaged.fits").write_bytes(SHIPPED.read_bytes()[:10_000])
    return {
        **ENOUGH,
        "PP_STATE_DIR": str(tmp_path / "state"),
        "PP_INSTRUMENT_PATH": str(tmp_path),
        "MAIN_PIPELINES_CONFIG": f"- {{pipelines: [a.yaml], binary-map: {tmp_path}/damaged.fits}}",
        "PREPROCESSING_PIPELINES_CONFIG": f"- {{pipelines: [b.yaml], binary-map: {tmp_path}/none.fits}}",
    }


def assert_all_named(error: BaseException | None, directory: Path) -> None:
    assert isinstance(error, InvalidConfiguration)
    lines = str(error).splitlines()
    assert len(lines) == 4
    for part, line in zip(
        (
            f"RUBIN_INSTRUMENT=DemoCam: instrument file {directory}/DemoCam.yaml: plate_scale",
            f"MAIN_PIPELINES_CONFIG: sky map {directory}/damaged.fits",
            f"PREPROCESSING_PIPELINES_CONFIG: sky map {directory}/none.fits cannot be read",
        ),
        lines[1:],
        strict=True,
    ):
        assert part in line


def test_all_is_well() -> None:
    config = f"- {{pipelines: [a.yaml], binary-map: {SHIPPED}}}"
    settings = load_service_settings({**ENOUGH, "MAIN_PIPELINES_CONFIG": config})
    check_configured_files(settings)
    assert find_camera(settings).name == "DemoCam"


def test_each_fault_is_named_with_its_setting(variables: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        check_configured_files(load_service_settings(variables))
    assert_all_named(caught.value, tmp_path)


def test_a_camera_that_nobody_knows() -> None:
    with pytest.raises(InvalidConfiguration, match=r"RUBIN_INSTRUMENT=NoCam: .*PP_INSTRUMENT_PATH"):
        find_camera(load_service_settings({**ENOUGH, "RUBIN_INSTRUMENT": "NoCam"}))


@pytest.mark.parametrize("command", [serve, worker, init])
def test_no_command_starts(command: Callable[..., None], variables: dict[str, str], tmp_path: Path) -> None:
    unset = dict.fromkeys(ServiceSettings.variables())
    stream = {"REDIS_STREAM_HOST": "h", "REDIS_STREAM_NAME": "s", "REDIS_STREAM_CONSUMER_GROUP": "g"}
    result = run(command, **{**unset, **variables, **stream})
    assert_all_named(result.exception, tmp_path)
    # Nothing was begun.
    assert not (tmp_path / "state").exists()


def test_gunicorn_does_not_start(variables: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        gunicorn_options(load_service_settings(variables))
    assert_all_named(caught.value, tmp_path)
