"""The container's health check, for every command."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.commands.monitor import monitor as monitor_command
from config.fan_out_settings import FanOutSettings
from config.loading import Settings
from config.settings import PROJECT, ServiceSettings
from config.writer_settings import WriterSettings
from tests.repos.http_recorder import recorder


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    spec = importlib.util.spec_from_file_location("healthcheck", PROJECT / "tools" / "healthcheck.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "healthcheck", module)
    spec.loader.exec_module(module)

    def run(*command: str) -> int:
        (tmp_path / "cmdline").write_bytes(b"\0".join(word.encode() for word in command) + b"\0")
        return int(module.main(tmp_path / "cmdline"))

    return run


@pytest.mark.parametrize(
    ("command", "variable", "path"),
    [
        ("serve", "PP_PORT", "/health"),
        ("worker", "PP_METRICS_PORT", "/health"),
        ("writer", "PP_METRICS_PORT", "/health"),
        ("fan-out", "PP_METRICS_PORT", "/health"),
    ],
)
def test_each_command_is_asked_where_it_answers(
    check: Callable[..., int], monkeypatch: pytest.MonkeyPatch, command: str, variable: str, path: str
) -> None:
    line = ("/opt/venv/bin/python", "/opt/venv/bin/prompt-processing", command)
    with recorder() as record:
        monkeypatch.setenv(variable, record.url.rpartition(":")[2])
        assert check(*line) == 0
        assert record.paths() == [f"GET {path}"]
        record.answers[path] = 503, {}
        assert check(*line) == 1
    assert check(*line) == 1


def test_what_ends_by_itself_needs_no_watching(check: Callable[..., int]) -> None:
    assert check("python", "prompt-processing", "init") == 0


def test_no_metrics_port(check: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PP_METRICS_PORT", "0")
    assert check("python", "prompt-processing", "writer") == 0


@pytest.fixture
def port() -> Iterator[str]:
    """Where somebody is well."""
    with recorder() as record:
        yield record.url.rpartition(":")[2]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The settings file."""
    path = tmp_path / "settings.yaml"
    monkeypatch.setenv("PP_SETTINGS_FILE", str(path))
    for name in ("PP_PORT", "PP_HOST", "PP_METRICS_PORT"):
        monkeypatch.delenv(name, raising=False)
    return path


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("serve", "PP_PORT: {port}"),
        ("serve", "service: {{PP_PORT: {port}}}\nPP_PORT: 1"),
        ("worker", "service: {{PP_METRICS_PORT: {port}}}"),
        (
            "writer",
            "writer: {{PP_METRICS_PORT: {port}}}\nfan-out: {{PP_METRICS_PORT: 1}}\nPP_METRICS_PORT: 1",
        ),
        ("fan-out", "fan-out: {{PP_METRICS_PORT: {port}}}\nwriter: {{PP_METRICS_PORT: 1}}"),
    ],
)
def test_the_settings_file(check: Callable[..., int], file: Path, port: str, command: str, text: str) -> None:
    file.write_text(text.format(port=port))
    assert check("prompt-processing", command) == 0
    file.write_text(text.format(port=1))
    assert check("prompt-processing", command) == 1


def test_the_environment_wins_over_the_file(
    check: Callable[..., int], file: Path, port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("PP_PORT: 1")
    monkeypatch.setenv("PP_PORT", port)
    assert check("prompt-processing", "serve") == 0


def test_the_command_line_wins(check: Callable[..., int], file: Path, port: str) -> None:
    file.write_text("PP_PORT: 1\nPP_HOST: 127.0.0.9")
    assert check("prompt-processing", "serve", "--port", port, "--host=127.0.0.1") == 0
    assert check("prompt-processing", "serve", "--host=127.0.0.1") == 1
    assert check("prompt-processing", "monitor", f"--port={port}") == 0


def test_a_file_that_cannot_be_read(
    check: Callable[..., int], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check("prompt-processing", "serve") == 1
    assert str(file) in capsys.readouterr().err


def test_a_proxy_is_not_asked(
    check: Callable[..., int], file: Path, port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(f"PP_PORT: {port}")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    assert check("prompt-processing", "serve") == 0


def test_defaults_are_those_of_the_settings(check: Callable[..., int]) -> None:
    places = sys.modules["healthcheck"].PLACES
    classes: dict[str, type[Settings]] = {
        "serve": ServiceSettings,
        "worker": ServiceSettings,
        "fan-out": FanOutSettings,
        "writer": WriterSettings,
    }
    for command, cls in classes.items():
        place = places[command]
        assert place.port == str(cls.model_fields[cls.variables()[place.port_variable]].default)
    assert places["serve"].host == ServiceSettings.model_fields["host"].default
    monitor = inspect.signature(monitor_command).parameters
    assert (places["monitor"].host, int(places["monitor"].port)) == (
        monitor["host"].default,
        monitor["port"].default,
    )
