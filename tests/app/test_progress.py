"""Progress: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io

from rich.console import Console

from app.progress import progress_reporter, waiting_reporter


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


def test_lines_about_what_is_waited_for() -> None:
    out = io.StringIO()
    with waiting_reporter(Console(file=out), seconds=0) as waiting:
        waiting(["a [server]", "b"])
        waiting(["b"])
    assert out.getvalue() == "waiting for 2: a [server], b\nwaiting for 1: b\n"


def test_lines_are_not_too_many() -> None:
    out = io.StringIO()
    with waiting_reporter(Console(file=out), seconds=3600) as waiting:
        for _ in range(10):
            waiting(["a"])
    assert out.getvalue() == ""


def test_a_line_on_a_terminal() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=30)
    with waiting_reporter(console) as waiting:
        waiting(["a server with a name that is far too long for the line"])
    assert "waiting for 1: a server" in out.getvalue()
