"""A run is followed to its end, with progress for people."""

from __future__ import annotations

__all__ = ["Follower", "follow"]

import time
from collections.abc import Callable
from typing import Protocol

from rich.console import Console

from app.progress import progress_reporter
from app.streaming.run_summary import Standing
from models.errors import TemporarilyUnavailable

#: Seconds between looks.
_GLANCE = 0.1
#: Seconds between lines that say what is waited for.
_PATIENCE = 30.0


class Follower(Protocol):
    """Knows how a run stands."""

    def look(self) -> Standing:
        """Return how it stands now.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised while nobody can say.
        """

    def stop(self) -> None:
        """Have the run ended; what there is will be processed."""

    def trouble(self) -> str:
        """Say what keeps agents from their work, if anything does.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised while nobody can say.
        """


def follow(
    follower: Follower,
    *,
    console: Console,
    stop_asked: Callable[[], int],
    timeout: float = 0.0,
    glance: float = _GLANCE,
    patience: float = _PATIENCE,
) -> Standing:
    """Follow a run until nothing more will happen.

    Parameters
    ----------
    follower : `Follower`
    console : `rich.console.Console`
        Where progress is shown.
    stop_asked : callable
        Says how often somebody asked for a stop: once ends the run, twice
        ends the waiting as well.
    timeout : `float`, optional
        Seconds after which the run is stopped, and after which again the
        waiting ends; 0 for never.
    glance : `float`, optional
        Seconds between looks.
    patience : `float`, optional
        Seconds without a change after which it is said what is waited for.

    Returns
    -------
    standing : `app.streaming.run_summary.Standing`
        How it stood last; not ``over`` if the waiting was ended.
    """
    begin = last_change = time.monotonic()
    stopped = False
    standing = Standing(execution_id="")
    shown: dict[str, tuple[int, int]] = {}
    with progress_reporter(console) as report:
        while True:
            away = ""
            try:
                now = follower.look()
            except TemporarilyUnavailable as error:
                now, away = standing, str(error)
            if now != standing:
                last_change = time.monotonic()
                _show(now, report, shown)
            elif time.monotonic() - last_change > patience:
                _explain(follower, now, away, console)
                last_change = time.monotonic()
            standing = now
            if standing.over:
                return standing
            late = int((time.monotonic() - begin) / timeout) if timeout else 0
            asked = max(stop_asked(), late)
            if asked and not stopped:
                stopped = True
                console.print("Stopping: the run ends, and what there is will be processed.")
                follower.stop()
            elif asked > 1:
                return standing
            time.sleep(glance)


def _explain(follower: Follower, standing: Standing, away: str, console: Console) -> None:
    """Say what is waited for, and why it does not come."""
    try:
        trouble = away or follower.trouble()
    except TemporarilyUnavailable as error:
        trouble = str(error)
    reason = f" ({trouble})" if trouble else ""
    console.print(f"Waiting for {standing.waiting_for or 'the run'}{reason}.", highlight=False, markup=False)


def _show(
    standing: Standing, report: Callable[[str, int, int], None], shown: dict[str, tuple[int, int]]
) -> None:
    """Report numbers that have changed."""
    # While nobody knows how many there will be, there is always one more.
    total = standing.generated + 1 if standing.total is None else standing.total
    numbers = {
        "STFs generated": standing.generated,
        "STFs registered": standing.registered,
        "STFs processed": standing.processed,
    }
    for what, now in numbers.items():
        # A file that gets another status while files are counted is counted twice.
        done = min(max(now, shown.get(what, (0, 0))[0]), total)
        if total and shown.get(what) != (done, total):
            shown[what] = done, total
            report(what, done, total)
