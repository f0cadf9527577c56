"""Delivery of fanned-out visits: over HTTP, or into a Redis stream.

Whoever refuses a visit has not accepted it, so it may be offered again at
once, and elsewhere. A connection that breaks later says nothing: the visit may
be under way, with alerts to come. It is not sent again; only a 503, which
promises that nothing was changed, allows that, once.
"""

from __future__ import annotations

__all__ = ["PostDelivery", "StreamDelivery", "VisitPoster", "VisitStreams"]

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from config.instrument_routes import InstrumentRoute
from models.errors import TemporarilyUnavailable
from models.fan_out import Answer
from models.visits import FannedOutVisit
from services.fan_out import FanOutObserver
from services.worker_choice import rank_workers

_log = logging.getLogger(__name__)

#: Status of an answer that allows one more try.
_TRY_AGAIN = 503
#: Seconds to wait before that if the answer does not say.
_DEFAULT_RETRY_AFTER = 5.0
#: Seconds before a visit that was refused everywhere is offered again, at
#: first and at most.
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 5.0


class VisitPoster(Protocol):
    """Posts one visit and waits for its answer."""

    async def post(self, url: str, visit: FannedOutVisit, *, on_sent: Callable[[], None]) -> Answer:
        """Post a visit.

        Parameters
        ----------
        url : `str`
        visit : `models.visits.FannedOutVisit`
        on_sent : callable
            Called when the request is out.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if nobody accepted it.
        """


class VisitStreams(Protocol):
    """Streams that workers read."""

    async def append(self, stream: str, visits: Sequence[FannedOutVisit]) -> None:
        """Append visits to a stream, all or none.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if it is not known that they are there.
        """


class PostDelivery:
    """Posts visits; each request is open until its visit is processed.

    Parameters
    ----------
    poster : `VisitPoster`
    routes : mapping [`str`, `config.instrument_routes.InstrumentRoute`]
        By instrument.
    observer : `services.fan_out.FanOutObserver`
    max_requests : `int`
        Requests that are open at once, all instruments together.
    retry : `bool`
        Whether a visit is sent once more after a 503.
    patience : `float`
        Seconds for which a visit that nobody accepts is offered again.
    """

    def __init__(
        self,
        *,
        poster: VisitPoster,
        routes: Mapping[str, InstrumentRoute],
        observer: FanOutObserver,
        max_requests: int,
        retry: bool,
        patience: float,
    ) -> None:
        self._poster = poster
        self._observer = observer
        self._limit = asyncio.Semaphore(max_requests)
        self._max_requests = max_requests
        self._retry = retry
        self._patience = patience
        self._under_way: set[asyncio.Task[None]] = set()
        self._workers = {name: rank_workers(r.urls, r.all_detectors) for name, r in routes.items()}

    async def deliver(self, route: InstrumentRoute, visits: Sequence[FannedOutVisit]) -> None:
        """Send copies; return when each is sent or given up."""
        workers = self._workers[route.instrument]
        if len(self._under_way) + len(visits) > self._max_requests:
            _log.warning(
                "%d requests are open, and MAX_FAN_OUT_MESSAGES is %d: some of the %d for %s must wait.",
                len(self._under_way),
                self._max_requests,
                len(visits),
                route.instrument,
            )
        loop = asyncio.get_running_loop()
        sent = []
        for visit in visits:
            is_sent: asyncio.Future[None] = loop.create_future()
            task = loop.create_task(self._follow(visit, workers[visit.detector], is_sent))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            sent.append(is_sent)
        await asyncio.gather(*sent)

    async def finish(self, grace: float) -> int:
        """Wait for answers; then close the requests that are still open.

        Parameters
        ----------
        grace : `float`
            Seconds to wait.

        Returns
        -------
        abandoned : `int`
            How many answers were not waited for.
        """
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=grace)
        abandoned = [*self._under_way]
        for task in abandoned:
            task.cancel()
        await asyncio.gather(*abandoned, return_exceptions=True)
        return len(abandoned)

    async def _follow(
        self, visit: FannedOutVisit, workers: Sequence[str], is_sent: asyncio.Future[None]
    ) -> None:
        """See one copy through to its last answer."""
        begin = time.monotonic()
        answer = None

        def mark_sent() -> None:
            if not is_sent.done():
                is_sent.set_result(None)

        self._observer.begun(visit.instrument)
        try:
            answer = await self._offer(visit, workers, mark_sent)
            if self._retry and answer is not None and answer.status == _TRY_AGAIN:
                pause = _DEFAULT_RETRY_AFTER if answer.retry_after is None else answer.retry_after
                _log.warning("%s is sent again in %g s: %s", visit, pause, answer.detail)
                await asyncio.sleep(pause)
                self._observer.retried(visit.instrument)
                answer = await self._offer(visit, workers, mark_sent)
            self._observer.answered(visit.instrument, answer)
            _log_answer(visit, answer)
        except Exception:
            _log.exception("%s: the fan-out itself failed.", visit)
        finally:
            if asyncio.current_task().cancelling():  # type: ignore[union-attr]
                # Not sent: its nextVisit is to be read again.
                is_sent.cancel()
            mark_sent()
            self._observer.ended(visit.instrument, time.monotonic() - begin)

    async def _offer(
        self, visit: FannedOutVisit, workers: Sequence[str], on_sent: Callable[[], None]
    ) -> Answer | None:
        """Offer a visit until somebody takes it; None if nobody did."""
        deadline = time.monotonic() + self._patience
        pause = _FIRST_PAUSE
        while True:
            for url in workers:
                async with self._limit:
                    try:
                        return await self._poster.post(url, visit, on_sent=on_sent)
                    except TemporarilyUnavailable as error:
                        self._observer.refused(visit.instrument)
                        _log.debug("%s was not accepted: %s", visit, error)
                        last = error
            if time.monotonic() + pause > deadline:
                _log.error("%s is lost: nobody accepted it in %g s: %s", visit, self._patience, last)
                return None
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


class StreamDelivery:
    """Writes visits to Redis streams, from which workers take them.

    Parameters
    ----------
    streams : `VisitStreams`
    observer : `services.fan_out.FanOutObserver`
    patience : `float`
        Seconds for which visits that cannot be written are tried again.
    """

    def __init__(self, *, streams: VisitStreams, observer: FanOutObserver, patience: float) -> None:
        self._streams = streams
        self._observer = observer
        self._patience = patience

    async def deliver(self, route: InstrumentRoute, visits: Sequence[FannedOutVisit]) -> None:
        """Write copies; return when they are there or given up."""
        assert route.stream is not None, "routes are made for the platform"
        begin = time.monotonic()
        pause = _FIRST_PAUSE
        for _ in visits:
            self._observer.begun(route.instrument)
        try:
            while True:
                try:
                    await self._streams.append(route.stream, visits)
                    return
                except TemporarilyUnavailable as error:
                    self._observer.refused(route.instrument)
                    if time.monotonic() - begin + pause > self._patience:
                        _log.error("%s and the other detectors are lost: %s", visits[0], error)
                        for _ in visits:
                            self._observer.answered(route.instrument, None)
                        return
                    _log.error("%s and the other detectors wait %g s: %s", visits[0], pause, error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
        finally:
            for _ in visits:
                self._observer.ended(route.instrument, time.monotonic() - begin)

    async def finish(self, grace: float) -> int:
        """Nothing is open: whoever takes a visit from a stream answers nobody."""
        return 0


def _log_answer(visit: FannedOutVisit, answer: Answer | None) -> None:
    if answer is None:
        return
    if answer.status is None:
        _log.error("%s was sent and not answered: %s", visit, answer.detail)
    elif answer.status >= 400:
        _log.warning("%s: %d %s", visit, answer.status, answer.detail)
    else:
        _log.debug("%s: %d %s", visit, answer.status, answer.detail)
