"""Bars of the demo on a simulated sky."""

from __future__ import annotations

__all__ = ["demo", "demo_service", "quiet_sky", "run_demo"]

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.bar import Bar, at_least, at_most, say
from benchmarks.scene import PROJECT

#: Absolute times are medians of so many runs.
_RUNS = 3


def demo(scratch: Path) -> Iterator[Bar]:
    """The score, and the time from image to alert on one detector."""
    figures = run_demo(scratch / "four", "--seed", "7")
    note = f"{figures['processed']} of {figures['visits']} processed, {figures['alerts']} alerts"
    yield at_least("demo --seed 7: completeness", figures["completeness"], 0.8, note)
    false = figures["false_alerts_per_detector"]
    yield at_most("demo --seed 7: false alerts per detector-visit", false, 2)
    yield at_least("demo --seed 7: part of the visits processed", figures["processed"] / figures["visits"], 1)
    runs = [run_demo(scratch / f"one-{n}", "--seed", "7", "--detectors", "1") for n in range(_RUNS)]
    times = [run["image_to_alert_s"] for run in runs]
    note = "runs: " + ", ".join(f"{t:.2f}" for t in times)
    yield at_most("demo --seed 7 --detectors 1: image_to_alert_s", statistics.median(times), 3, note)


def quiet_sky(scratch: Path) -> Iterator[Bar]:
    """Nothing to find."""
    figures = run_demo(scratch / "quiet", "--seed", "7", "--transients", "0")
    note = f"{figures['processed']} of {figures['visits']} processed"
    false = figures["false_alerts_per_detector"]
    yield at_most("demo --transients 0: false alerts per detector-visit", false, 2, note)


def demo_service(scratch: Path) -> Iterator[Bar]:
    """The demo on servers, and its time from image to alert beside that of
    the embedded one.
    """
    figures = run_demo(scratch / "service", "--seed", "7", "--service")
    embedded = run_demo(scratch / "embedded", "--seed", "7")
    note = f"{figures['processed']} of {figures['visits']} processed, {figures['alerts']} alerts on Kafka"
    yield at_least("demo --service: completeness", figures["completeness"], 0.8, note)
    yield at_least("demo --service: part processed", figures["processed"] / figures["visits"], 1)
    beside = f"embedded, same night, same machine: {embedded['image_to_alert_s']:.2f}"
    yield at_most("demo --service: image_to_alert_s, 4 slots", figures["image_to_alert_s"], 60, beside)


def run_demo(out: Path, *arguments: str) -> dict[str, Any]:
    """Run a demo and return its figures.

    Parameters
    ----------
    out : `pathlib.Path`
        Where it takes place.
    *arguments : `str`
        Of ``prompt-processing demo``.

    Raises
    ------
    RuntimeError
        Raised if it gave no figures.
    """
    say(f"demo {' '.join(arguments)}")
    figures = out.with_suffix(".json")
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "demo", "--out", str(out), "--json", str(figures), *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    say(f"demo took {time.monotonic() - begin:.0f} s, exit code {done.returncode}")
    if not figures.exists():
        raise RuntimeError(f"the demo gave no figures: {(done.stdout + done.stderr)[-600:]}")
    found: dict[str, Any] = json.loads(figures.read_text())
    return found
