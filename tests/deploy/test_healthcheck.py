"""The container's health check, for every command."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from config.settings import PROJECT
from tests.repos.http_recorder import recorder


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., int]:
    spec = importlib.util.spec_from_file_location("healthcheck", PROJECT / "tools" / "healthcheck.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
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
