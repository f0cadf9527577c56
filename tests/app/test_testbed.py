"""The testbed's command line: what leads where."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app import testbed
from app.streaming import broker_run, embedded_run
from app.streaming.embedded_past import Traces
from app.streaming.run_summary import RunSummary
from app.streaming.workplace import Workplace
from models.errors import InvalidConfiguration

GOOD = RunSummary(execution_id="w-1", execution_status="completed", run_number=7, stf_files=3, processed=3)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the forms of `run` were called with, and what they shall return."""
    seen: dict[str, Any] = {"answer": GOOD}

    def record(form: str) -> Any:
        def run(asked: str, **arguments: Any) -> RunSummary | None:
            seen.update(arguments, form=form, asked=asked)
            answer: RunSummary | None = seen["answer"]
            return answer

        return run

    monkeypatch.setattr(broker_run, "run_over_broker", record("broker"))
    monkeypatch.setattr(embedded_run, "run_embedded", record("embedded"))
    for name in ("ACTIVEMQ_HOST", "SWF_MONITOR_URL", "PP_TESTBED_DIRECTORY", "PP_SETTINGS_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("app.testbed.signal.signal", lambda *_: None)
    return seen


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(testbed.app, arguments, env={"COLUMNS": "120"})


@pytest.mark.parametrize("command", ["run", "stop", "status"])
def test_help_has_examples(command: str) -> None:
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert "For example:" in result.output
    assert f"testbed {command}" in result.output.split("For example:")[1]


def test_help_has_the_options_whole_in_a_narrow_terminal() -> None:
    result = CliRunner().invoke(testbed.app, ["run", "--help"], env={"COLUMNS": "60"})
    assert "--physics-period-count N" in result.output
    assert "--physics-period-duration S" in result.output


def test_lines_are_whole_where_there_is_no_terminal(calls: dict[str, Any], tmp_path: Path) -> None:
    """Whoever searches them finds what belongs together."""
    calls["answer"] = GOOD.model_copy(update={"faults": ("x" * 300,)})
    output = CliRunner().invoke(testbed.app, ["run", "--directory", str(tmp_path)], env={"COLUMNS": "60"})
    assert f"Fault: {'x' * 300}\n" in output.output


def test_without_a_broker_all_is_in_this_process(calls: dict[str, Any], tmp_path: Path) -> None:
    result = invoke(
        "run", "--no-realtime", "--stf-count", "5", "--workers", "3", "--payload", "date",
        "--directory", str(tmp_path), "--namespace", "n", "--json", str(tmp_path / "f.json"),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert (calls["form"], calls["asked"]) == ("embedded", "prompt_processing")
    given = {name: value for name, value in calls["parameters"].items() if value is not None}
    assert given == {"realtime": False, "stf_count": 5, "namespace": "n"}
    settings = calls["settings"]
    assert (settings.payload, settings.payload_workers) == ("date", 3)
    assert settings.testbed_directory == tmp_path
    assert json.loads((tmp_path / "f.json").read_text())["run_number"] == 7
    assert "Run 7 Summary:" in result.output


@pytest.mark.parametrize(
    ("host", "option", "form"),
    [
        ("broker", [], "broker"),
        ("broker", ["--bus", "local"], "embedded"),
        (None, ["--bus", "stomp"], "broker"),
    ],
)
def test_a_broker_that_is_named_is_used(
    calls: dict[str, Any], monkeypatch: pytest.MonkeyPatch, host: str | None, option: list[str], form: str
) -> None:
    if host:
        monkeypatch.setenv("ACTIVEMQ_HOST", host)
    assert invoke("run", "mine.toml", *option).exit_code == 0
    assert (calls["form"], calls["asked"]) == (form, "mine.toml")


@pytest.mark.parametrize("change", [{"faults": ("the dataset is open",)}, {"execution_status": "terminated"}])
def test_only_what_is_complete_is_a_success(calls: dict[str, Any], change: dict[str, Any]) -> None:
    calls["answer"] = GOOD.model_copy(update=change)
    result = invoke("run")
    assert result.exit_code == 1
    assert all(f"Fault: {fault}" in result.output for fault in change.get("faults", ()))
    assert ("testbed.log" in result.output) == ("faults" in change)


def test_a_run_that_is_left_alone_has_no_summary(calls: dict[str, Any]) -> None:
    calls["answer"] = None
    result = invoke("run", "--bus", "stomp", "--detach")
    assert (result.exit_code, calls["detach"]) == (0, True)
    assert "Summary" not in result.output


@pytest.mark.parametrize(
    "arguments", [["--detach"], ["--use-running"], ["--bus", "stomp", "--use-running", "--payload", "x"]]
)
def test_options_that_do_not_go_together(calls: dict[str, Any], arguments: list[str]) -> None:
    assert isinstance(invoke("run", *arguments).exception, InvalidConfiguration)
    assert "form" not in calls


@pytest.mark.parametrize("place", ["missing/f.json", "."])
def test_figures_that_cannot_be_written_are_told_of_before_the_run(
    calls: dict[str, Any], tmp_path: Path, place: str
) -> None:
    assert isinstance(invoke("run", "--json", str(tmp_path / place)).exception, InvalidConfiguration)
    assert "form" not in calls


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["run", "--directory", ""], "--directory: is empty"),
        (["stop", "--agents"], "for runs over a broker"),
        (["stop", "--execution", "x"], "for runs over a broker"),
    ],
)
def test_misuse(calls: dict[str, Any], arguments: list[str], what: str) -> None:
    error = invoke(*arguments).exception
    assert isinstance(error, InvalidConfiguration)
    assert what in str(error)


def test_as_many_workers_as_the_setting_allows(calls: dict[str, Any]) -> None:
    assert invoke("run", "--workers", "1025").exit_code == 2
    assert "form" not in calls


def test_the_run_of_another_namespace_is_not_ended(
    calls: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr("app.testbed.os.kill", lambda process, _: asked.append(process))
    with Workplace(tmp_path / "embedded"):
        Traces(tmp_path / "embedded").note(namespace="epic")
        result = invoke("stop", "--directory", str(tmp_path), "--namespace", "other")
        assert (result.exit_code, asked) == (1, [])
        assert "is one of namespace epic" in result.output.replace("\n", " ")
        assert invoke("stop", "--directory", str(tmp_path), "--namespace", "epic").exit_code == 0
        assert asked == [os.getpid()]
        # As it was started beside a broker.
        monkeypatch.setenv("ACTIVEMQ_HOST", "broker")
        assert invoke("stop", "--directory", str(tmp_path), "--bus", "local").exit_code == 0
    assert asked == [os.getpid()] * 2


def test_stops_are_counted() -> None:
    stops = testbed.StopRequests()
    assert stops() == 0
    stops.take(2, None)
    stops.take(2, None)
    assert stops() == 2
