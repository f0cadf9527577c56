"""A run is followed: progress, patience, stops."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.console import Console

from app.streaming.following import follow
from app.streaming.run_summary import Standing
from models.errors import TemporarilyUnavailable

RUNNING = Standing("x", "running", waiting_for="the end of the run")


class Script:
    """Stands as it is told to; the last for ever."""

    def __init__(self, looks: Sequence[Standing | None]) -> None:
        self.looks = [*looks]
        self.stops = 0

    def look(self) -> Standing:
        now = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if now is None:
            raise TemporarilyUnavailable("the monitor is away")
        return now

    def stop(self) -> None:
        self.stops += 1

    def trouble(self) -> str:
        return "an agent: the catalogue is away"


def watch(script: Script, asked: Sequence[int] = (0,), timeout: float = 0.0) -> tuple[Standing, str]:
    """Follow with somebody who asks for a stop, look by look."""
    requests = [*asked]
    output = io.StringIO()
    standing = follow(
        script,
        console=Console(file=output),
        stop_asked=lambda: requests.pop(0) if len(requests) > 1 else requests[0],
        timeout=timeout,
        glance=0.001,
    )
    return standing, output.getvalue()


def test_it_ends_when_nothing_more_will_happen() -> None:
    over = Standing("x", "completed", generated=2, registered=2, processed=2, total=2, over=True)
    script = Script([RUNNING, Standing("x", "running", generated=2, total=2), over])
    standing, output = watch(script)
    assert standing == over
    assert output == "STFs generated: 2\nSTFs registered: 2\nSTFs processed: 2\n"
    assert script.stops == 0


def test_a_file_that_is_counted_twice_for_a_moment_is_not_shown() -> None:
    looks = [Standing("x", "running", generated=2, registered=count, total=2) for count in (2, 3, 2)]
    over = Standing("x", "completed", generated=2, registered=2, processed=2, total=2, over=True)
    _, output = watch(Script([*looks, over]))
    assert output == "STFs generated: 2\nSTFs registered: 2\nSTFs processed: 2\n"


def test_a_number_that_is_not_final_is_not_told_as_such() -> None:
    over = Standing("x", "completed", generated=3, registered=3, processed=3, total=3, over=True)
    _, output = watch(Script([Standing("x", "running", generated=2, registered=2), over]))
    assert "STFs generated: 2" not in output
    assert "STFs generated: 3" in output


def test_a_monitor_that_is_away_is_asked_again() -> None:
    over = Standing("x", "completed", over=True)
    assert watch(Script([None, RUNNING, None, over]))[0] == over


def test_the_first_stop_ends_the_run_and_the_second_the_waiting() -> None:
    script = Script([RUNNING])
    standing, output = watch(script, asked=(0, 1, 1, 1, 2))
    assert (standing, script.stops) == (RUNNING, 1)
    assert "Stopping" in output


def test_it_is_said_what_is_waited_for() -> None:
    looks = iter([RUNNING, RUNNING, Standing("x", "completed", over=True)])
    script = Script([RUNNING])
    script.look = lambda: next(looks)  # type: ignore[method-assign]
    output = io.StringIO()
    follow(script, console=Console(file=output), stop_asked=lambda: 0, glance=0, patience=0)
    assert output.getvalue() == "Waiting for the end of the run (an agent: the catalogue is away).\n"


def test_a_run_that_takes_too_long_is_stopped() -> None:
    script = Script([RUNNING])
    standing, _ = watch(script, timeout=0.05)
    assert (standing.over, script.stops) == (False, 1)
