"""Progress: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io

from rich.console import Console

from app.progress import progress_reporter


def test_plain_lines() -> None:
    out = io.StringIO()
    with progress_reporter(Console(file=out)) as report:
        for done in range(4):
            report("render frames", done, 3)
        report("expose", 1, 2)
    # One line when something is complete, and no control characters.
    assert out.getvalue() == "render frames: 3\n"


def test_bars() -> None:
    out = io.StringIO()
    with progress_reporter(Console(file=out, force_terminal=True, width=80)) as report:
        report("render frames", 1, 3)
        report("expose", 0, 2)
        # A total may turn out to be another.
        report("render frames", 4, 4)
    text = out.getvalue()
    assert "render frames" in text and "4/4" in text and "0/2" in text
    assert text.count("\n") < 20


def test_nothing_to_report() -> None:
    out = io.StringIO()
    with progress_reporter(Console(file=out)):
        pass
    assert out.getvalue() == ""
