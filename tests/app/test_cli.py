from __future__ import annotations

import os
import subprocess
import sys

import pytest

COMMANDS = ["demo", "serve", "init", "create-central", "status", "outbox", "check"]


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        env={**kept, "COLUMNS": "120", **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_version() -> None:
    ended = run("--version")
    assert ended.returncode == 0
    assert ended.stdout.startswith("prompt-processing ")


def test_help_lists_the_commands() -> None:
    ended = run("--help")
    assert ended.returncode == 0
    assert all(command in ended.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    ended = run(command, "--help")
    assert ended.returncode == 0, ended.stderr
    assert f"{command} [OPTIONS]" in ended.stdout


def test_help_shows_how_to_serve() -> None:
    assert "prompt-processing serve --host" in run("serve", "--help").stdout


def test_help_does_without_the_middleware() -> None:
    script = (
        "import sys; sys.argv = ['prompt-processing', '--help']\n"
        "from app.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert not {'lsst', 'astropy', 'flask', 'gunicorn'} & {m.partition('.')[0] for m in sys.modules}"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode == 0


def test_wrong_settings_are_told_without_a_traceback() -> None:
    ended = run("serve")
    assert ended.returncode == 2
    assert "RUBIN_INSTRUMENT" in ended.stderr
    assert "CONFIG_APDB" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_unknown_command() -> None:
    assert run("brew").returncode == 2
