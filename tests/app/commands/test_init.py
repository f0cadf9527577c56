"""``init``: what it prepares, what it says, and its exit codes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from app import cli, command_line
from app.commands.init import init
from app.initialising import nights_to_prepare
from models.errors import InvalidConfiguration
from tests.app.commands.running import run, words


def ready(output: str) -> list[str]:
    return [line.removeprefix("ready: ") for line in output.splitlines() if line.startswith("ready: ")]


def test_tonight_and_tomorrow(variables: dict[str, str]) -> None:
    result = run(init, **variables)
    assert result.exit_code == 0, result.output
    assert ready(result.stdout) == [
        f"DemoCam/prompt/output-{night}/{stem}/d0"
        for night in nights_to_prepare()
        for stem in ("NoPipeline", "Preprocessing", "SingleFrame")
    ]
    assert "eups" not in result.output
    # Again: nothing breaks, and the same is ready.
    assert ready(run(init, **variables).stdout) == ready(result.stdout)


def test_one_night_under_a_name(variables: dict[str, str]) -> None:
    result = run(init, "--date", "2026-03-01", "--deploy-id", "hotfix-2", **variables)
    assert result.exit_code == 0, result.output
    assert {name.split("/")[2] for name in ready(result.stdout)} == {"output-2026-03-01"}
    assert {name.split("/")[-1] for name in ready(result.stdout)} == {"hotfix-2"}


def test_the_id_alone(variables: dict[str, str]) -> None:
    result = run(init, "--show-id", **variables)
    assert (result.exit_code, result.stdout) == (0, "d0\n")
    result = run(init, "--show-id", **{**variables, "PP_DEPLOYMENT_ID": None})
    assert result.exit_code == 0 and result.stdout.startswith("d") and result.stdout != "d0\n"


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--date", "tonight"], "'tonight' is not a date; write YYYY-MM-DD"),
        (["--date", "2026-02-30"], "'2026-02-30' is not a date"),
        (["--deploy-id", "a/b"], "only letters, digits, - and _"),
        (["--deploy-id", ""], "only letters, digits, - and _"),
    ],
)
def test_misused(variables: dict[str, str], arguments: list[str], what: str) -> None:
    result = run(init, *arguments, **variables)
    assert result.exit_code == 2
    assert what in words(result).replace("│ ", "")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"CENTRAL_REPO": None}, "CENTRAL_REPO"),
        ({"REGISTER_DATASET_TYPES": "0"}, "REGISTER_DATASET_TYPES=1"),
        ({"MAIN_PIPELINES_CONFIG": yaml.safe_dump([{"pipelines": ["/no/Such.yaml"]}])}, "Such.yaml"),
        ({"CENTRAL_REPO": "/no/such/repo"}, "/no/such/repo"),
    ],
)
def test_settings_that_are_wrong(
    variables: dict[str, str],
    changes: dict[str, str | None],
    what: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = run(init, "--date", "2026-03-01", **{**variables, **changes})
    assert isinstance(result.exception, InvalidConfiguration)
    assert what in str(result.exception)
    # What the shell sees of it.
    for name, value in {**variables, **changes}.items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["prompt-processing", "init", "--date", "2026-03-01"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == command_line.MISUSED
    assert what in capsys.readouterr().err


def test_a_settings_file(variables: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump({**variables, "MP_SKY_URL": "http://sky.example.org"}))
    result = run(
        init, "--settings", file, "--date", "2026-03-01", PP_SETTINGS_FILE=None, MP_SKY_URL="http://mine"
    )
    assert result.exit_code == 0, result.output
    assert len(ready(result.stdout)) == 3
