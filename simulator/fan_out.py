"""The small fan-out that the simulated observatory brings along."""

from __future__ import annotations

__all__ = ["Answer", "FanOut", "VisitSender"]

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from models.visits import FannedOutVisit, SummitVisit

#: Status of an answer that allows one more try.
_TRY_AGAIN = 503
#: Seconds to wait before that if the answer does not say.
_DEFAULT_RETRY_AFTER = 30


@dataclass(frozen=True)
class Answer:
    """What the service said to one visit.

    Attributes
    ----------
    status : `int` or `None`
        HTTP status; None if no answer came.
    body : `dict`
        Its JSON, or what went wrong under ``detail``.
    retry_after : `int` or `None`
        Seconds after which to try again, as the answer says.
    attempts : `int`
        How often the visit was sent.
    """

    status: int | None
    body: Mapping[str, Any] = field(default_factory=dict)
    retry_after: int | None = None
    attempts: int = 1


class VisitSender(Protocol):
    """Sends one visit and returns the answer; called from several threads."""

    def __call__(self, visit: FannedOutVisit) -> Answer:
        """Send one visit."""


class FanOut:
    """Copies visits for their detectors and sends the copies at once.

    Parameters
    ----------
    send : `VisitSender`
    max_requests : `int`
        Visits under way at once.
    """

    def __init__(self, *, send: VisitSender, max_requests: int = 1024) -> None:
        self._send = send
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=max_requests, thread_name_prefix="fan-out")

    def announce(
        self, visit: SummitVisit, detectors: Sequence[int], on_answer: Callable[[int, Answer], None]
    ) -> list[Future[None]]:
        """Send a visit to all its detectors, without waiting.

        A visit that the service may be sent again (503) is, exactly once,
        after the time that the answer names.

        Parameters
        ----------
        visit : `models.visits.SummitVisit`
        detectors : sequence of `int`
        on_answer : callable
            Called with a detector and its final answer, from another thread.

        Returns
        -------
        answers : `list` [`concurrent.futures.Future`]
            Done when the answer was handed over.
        """
        return [self._pool.submit(self._send_one, visit.fan_out(n), on_answer) for n in detectors]

    def _send_one(self, visit: FannedOutVisit, on_answer: Callable[[int, Answer], None]) -> None:
        on_answer(visit.detector, self._send_with_retry(visit))

    def _send_with_retry(self, visit: FannedOutVisit) -> Answer:
        first = self._send(visit)
        if first.status != _TRY_AGAIN:
            return first
        pause = _DEFAULT_RETRY_AFTER if first.retry_after is None else first.retry_after
        if self._stop.wait(pause):
            return first
        second = self._send(visit)
        return Answer(second.status, second.body, second.retry_after, attempts=2)

    def close(self, *, wait: bool = True) -> None:
        """Send nothing again from now on.

        Parameters
        ----------
        wait : `bool`, optional
            Whether to wait for the answers to what was sent.
        """
        self._stop.set()
        self._pool.shutdown(wait=wait, cancel_futures=True)
