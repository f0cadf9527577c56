"""When catalogue and monitor are asked again after they failed."""

from __future__ import annotations

__all__ = ["Failures"]

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

#: Seconds before they are asked again, at first and at most.
_BACK_OFF = (0.5, 30.0)
#: Seconds for which all wait for the one whose turn it is.
_PRECEDENCE = 1.0
#: Failures in a row, one of which is said again.
_SAID = 20


class Failures:
    """Failures that last, by run and by what failed.

    What is away is asked about one run only, a different one every time: to
    wait in vain for an answer takes time, and a night has many runs. A run for
    which nothing failed yet need not wait, nor one that is refused for others.

    Parameters
    ----------
    is_asking : callable, optional
        Says of a run whether it waits for an answer.
    """

    def __init__(self, *, is_asking: Callable[[str], bool] = lambda _: False) -> None:
        self._is_asking = is_asking
        self._failures: dict[tuple[str, str], _Failure] = {}
        self._away: dict[str, _Away] = {}

    @property
    def trouble(self) -> str | None:
        """What was said at the oldest of them; from any thread."""
        for failure in list(self._failures.values()):
            return failure.error
        return None

    def wait(self, run_id: str, part: str, now: datetime) -> float:
        """Return the seconds until a run may ask a part again; 0: now."""
        failure = self._failures.get((run_id, part))
        away = self._away.get(part)
        if failure is None:
            return 0.0
        if failure.refused or away is None:
            return failure.wait(now) if failure.refused else 0.0
        if next(iter(away.runs)) == run_id:
            return away.last.wait(now)
        if any(self._is_asking(other) for other in away.runs if other != run_id):
            return _PRECEDENCE
        return away.last.wait(now, more=_PRECEDENCE)

    def add(
        self, run_id: str, part: str, error: str, now: datetime, *, refused: bool, kind: str = ""
    ) -> bool:
        """Note a failure, and whether it is a refusal; return whether to say
        so: of the first in a row, of one of another kind than the last, and of
        one in many.
        """
        last = self._failures.get((run_id, part))
        failure = _Failure(1 + (last.attempts if last else 0), now, error, refused, kind)
        self._failures[run_id, part] = failure
        if not refused:
            away = self._away.get(part)
            runs = away.runs if away else {}
            runs.pop(run_id, None)
            runs[run_id] = None
            # One more run that finds it away does not make it less so.
            attempts = (away.last.attempts if away else 0) + (1 if last or not away else 0)
            self._away[part] = _Away(runs, _Failure(attempts, now, error, refused))
        return last is None or last.kind != kind or failure.attempts % _SAID == 0

    def over(self, run_id: str, part: str) -> bool:
        """Note that nothing failed; say whether something had."""
        failure = self._failures.pop((run_id, part), None)
        if failure is not None and not failure.refused:
            self._away.pop(part, None)
        return failure is not None


@dataclass(frozen=True)
class _Failure:
    attempts: int
    at: datetime
    error: str
    refused: bool
    kind: str = ""

    def wait(self, now: datetime, *, more: float = 0.0) -> float:
        first, longest = _BACK_OFF
        seconds = min(longest, first * 2 ** min(self.attempts - 1, 10)) + more
        passed = (now - self.at).total_seconds()
        # Clocks are set back, too.
        return max(0.0, seconds - passed) if passed >= 0 else 0.0


@dataclass(frozen=True)
class _Away:
    """Runs that wait for something that is away, the next one first."""

    runs: dict[str, None]
    last: _Failure
