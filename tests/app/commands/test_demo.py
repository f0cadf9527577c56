"""``demo``: its exit codes and figures."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import app.demo.night
from app.commands.demo import demo
from app.demo.summary import DemoFigures
from tests.app.commands.running import run, words

GOOD = DemoFigures(
    visits=12,
    processed=12,
    failed=0,
    alerts=100,
    outputs=400,
    slots=4,
    completeness=0.95,
    false_alerts_per_detector=0.5,
    position_error_px=0.1,
    flux_ratio=1.0,
    image_to_alert_s=1.5,
    framework_ms=300.0,
    preload_margin_s=8.0,
)


class Night:
    """A demo that is over at once."""

    asked: dict[str, Any]
    ends: Callable[[], DemoFigures]

    def __init__(self, **asked: Any) -> None:
        type(self).asked = asked

    def run(self, *, keep_running: bool) -> DemoFigures:
        type(self).asked["keep_running"] = keep_running
        return type(self).ends()


@pytest.fixture(autouse=True)
def night(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Night]]:
    monkeypatch.setattr(app.demo.night, "DemoNight", Night)
    Night.ends = staticmethod(lambda: GOOD)
    handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP)}
    yield Night
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_a_demo_that_goes_well(night: type[Night], tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    arguments = "--visits 2 --detectors 3 --transients 4 --seed 5 --keep-running --service"
    result = run(demo, *arguments.split(), "--out", tmp_path, "--json", figures)
    assert result.exit_code == 0, result.output
    asked = night.asked
    del asked["console"]
    assert asked == {
        "out": tmp_path,
        "visits": 2,
        "detectors": 3,
        "transients": 4,
        "data": None,
        "seed": 5,
        "in_service": True,
        "keep_running": True,
    }
    written = json.loads(figures.read_text())
    assert written["completeness"] == 0.95
    assert "preload_margin_s" not in written


def test_as_the_contract_has_it(night: type[Night]) -> None:
    assert run(demo).exit_code == 0
    assert (night.asked["visits"], night.asked["detectors"], night.asked["keep_running"]) == (3, 4, False)


def test_a_demo_that_does_not(night: type[Night], tmp_path: Path) -> None:
    bad = GOOD.model_copy(update={"processed": 11, "completeness": 0.5})
    night.ends = staticmethod(lambda: bad)
    result = run(demo, "--json", tmp_path / "figures.json")
    assert result.exit_code == 1
    assert "only 11 of 12" in result.output and "completeness 0.50 is below 0.8" in words(result)
    # The figures are there all the same.
    assert json.loads((tmp_path / "figures.json").read_text())["processed"] == 11


def test_ctrl_c(night: type[Night]) -> None:
    def interrupted() -> DemoFigures:
        raise KeyboardInterrupt

    night.ends = staticmethod(interrupted)
    result = run(demo)
    assert result.exit_code == 130
    assert "the service was stopped" in result.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_in_good_order(night: type[Night], number: signal.Signals) -> None:
    cleaned: list[bool] = []

    def told_to_end() -> DemoFigures:
        try:
            signal.raise_signal(number)
        finally:
            cleaned.append(True)
        return GOOD

    night.ends = staticmethod(told_to_end)
    assert run(demo).exit_code == 128 + number
    assert cleaned == [True]


@pytest.mark.parametrize("arguments", [["--visits", 0], ["--detectors", 0], ["--transients", -1]])
def test_misused(arguments: list[object]) -> None:
    assert run(demo, *arguments).exit_code == 2
