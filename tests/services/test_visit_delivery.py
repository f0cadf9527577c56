"""Delivery of copies: who is asked, how often, and what may be said twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from config.instrument_routes import InstrumentRoute
from models.errors import TemporarilyUnavailable
from models.fan_out import Answer
from models.visits import FannedOutVisit, SummitVisit
from services import visit_delivery as module
from services.visit_delivery import PostDelivery, StreamDelivery
from tests.services.fan_out_world import ROUTE, Counts, announcement

URLS = ("http://a/next-visit", "http://b/next-visit", "http://c/next-visit")
REFUSED = TemporarilyUnavailable("connection refused")
DONE = Answer(200)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(module, "_DEFAULT_RETRY_AFTER", 0.001)


def copies(*detectors: int) -> list[FannedOutVisit]:
    visit = SummitVisit.parse(announcement())
    return [visit.fan_out(detector) for detector in detectors]


class Poster:
    """Answers as it is told, the last answer again and again."""

    def __init__(self, *answers: Answer | Exception) -> None:
        self.answers = [*answers]
        self.asked: list[tuple[str, int]] = []
        self.open = 0
        self.most_open = 0
        self.release = asyncio.Event()
        self.release.set()

    async def post(self, url: str, visit: FannedOutVisit, *, on_sent: Callable[[], None]) -> Answer:
        self.asked.append((url, visit.detector))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, TemporarilyUnavailable):
            raise answer
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        on_sent()
        try:
            await self.release.wait()
        finally:
            self.open -= 1
        if isinstance(answer, Exception):
            raise answer
        return answer


def delivery(
    poster: Poster,
    counts: Counts,
    *,
    urls: Sequence[str] = URLS[:1],
    detectors: Sequence[int] = tuple(range(20)),
    max_requests: int = 100,
    retry: bool = True,
    patience: float = 5.0,
) -> tuple[PostDelivery, InstrumentRoute]:
    route = InstrumentRoute("LSSTCam", tuple(detectors), tuple(urls))
    made = PostDelivery(
        poster=poster,
        routes={"LSSTCam": route},
        observer=counts,
        max_requests=max_requests,
        retry=retry,
        patience=patience,
    )
    return made, route


def deliver(poster: Poster, counts: Counts, *detectors: int, **options: object) -> int:
    async def run() -> int:
        made, route = delivery(poster, counts, **options)  # type: ignore[arg-type]
        await made.deliver(route, copies(*detectors))
        return await made.finish(60.0)

    abandoned = asyncio.run(run())
    assert counts.count["under way"] == 0
    return abandoned


async def let_run() -> None:
    """Let everything come as far as it can without time."""
    for _ in range(100):
        await asyncio.sleep(0)


def test_an_answer_ends_it() -> None:
    poster, counts = Poster(DONE), Counts()
    assert deliver(poster, counts, 0, 1) == 0
    assert poster.asked == [(URLS[0], 0), (URLS[0], 1)]
    assert counts.answers == [200, 200]


def test_a_new_visit_does_not_wait_for_the_last_ones_answers() -> None:
    async def run() -> None:
        poster, counts = Poster(DONE), Counts()
        made, route = delivery(poster, counts)
        poster.release.clear()
        for _ in range(3):
            await asyncio.wait_for(made.deliver(route, copies(*range(20))), 60)
        assert poster.open == 60
        assert counts.count["under way"] == 60
        assert counts.answers == []
        poster.release.set()
        assert await made.finish(60.0) == 0
        assert counts.answers == [200] * 60

    asyncio.run(run())


def test_no_more_requests_at_once_than_allowed_all_instruments_together() -> None:
    async def run() -> None:
        poster, counts = Poster(DONE), Counts()
        made, route = delivery(poster, counts, max_requests=7)
        poster.release.clear()
        sending = asyncio.create_task(made.deliver(route, copies(*range(20))))
        await let_run()
        assert poster.open == 7
        assert not sending.done()
        poster.release.set()
        await sending
        await made.finish(60.0)
        assert poster.most_open == 7
        assert counts.answers == [200] * 20

    asyncio.run(run())


def test_a_503_is_sent_again_exactly_once() -> None:
    poster, counts = Poster(Answer(503, 0.001), Answer(503, 0.001), DONE), Counts()
    deliver(poster, counts, 0)
    assert len(poster.asked) == 2
    assert counts.answers == [503]
    assert counts.count["retried"] == 1


def test_a_503_waits_as_long_as_it_says_and_holds_no_place_meanwhile() -> None:
    async def run() -> None:
        poster, counts = Poster(Answer(503, 60.0), DONE), Counts()
        made, route = delivery(poster, counts, max_requests=1)
        await made.deliver(route, copies(0))
        await made.deliver(route, copies(1))
        await let_run()
        assert poster.asked == [(URLS[0], 0), (URLS[0], 1)]
        assert counts.answers == [200]
        assert await made.finish(0.0) == 1

    asyncio.run(run())


@pytest.mark.parametrize("retry_after", [0.0, None])
def test_after_a_503_the_second_answer_counts(retry_after: float | None) -> None:
    poster, counts = Poster(Answer(503, retry_after), DONE), Counts()
    deliver(poster, counts, 0)
    assert counts.answers == [200]


def test_a_503_is_final_where_retries_are_off() -> None:
    poster, counts = Poster(Answer(503, 0.0), DONE), Counts()
    deliver(poster, counts, 0, retry=False)
    assert len(poster.asked) == 1
    assert counts.answers == [503]


@pytest.mark.parametrize("status", [400, 403, 409, 422, 500, 502])
def test_other_answers_are_final(status: int) -> None:
    poster, counts = Poster(Answer(status, 0.0)), Counts()
    deliver(poster, counts, 0)
    assert len(poster.asked) == 1
    assert counts.answers == [status]


def test_what_was_sent_is_not_sent_again_when_the_connection_breaks() -> None:
    poster, counts = Poster(Answer(None, detail="reset")), Counts()
    deliver(poster, counts, 0)
    assert len(poster.asked) == 1
    assert counts.answers == ["broken"]


def test_what_nobody_accepted_is_offered_again() -> None:
    poster, counts = Poster(REFUSED, REFUSED, DONE), Counts()
    deliver(poster, counts, 0)
    assert len(poster.asked) == 3
    assert counts.answers == [200]
    assert counts.count["refused"] == 2


def test_a_refusal_is_not_the_second_try_that_a_503_allows() -> None:
    poster, counts = Poster(REFUSED, Answer(503, 0.0), REFUSED, DONE), Counts()
    deliver(poster, counts, 0)
    assert counts.answers == [200]
    assert counts.count["retried"] == 1


def test_patience_has_an_end(caplog: pytest.LogCaptureFixture) -> None:
    poster, counts = Poster(REFUSED), Counts()
    deliver(poster, counts, 0, patience=0.05)
    assert counts.answers == ["lost"]
    assert "LSSTCam group 2025-04-01T03:00:00.123 detector 0 is lost" in caplog.text


def test_a_detector_keeps_going_to_the_same_worker() -> None:
    poster, counts = Poster(DONE), Counts()
    for _ in range(3):
        deliver(poster, counts, *range(20), urls=URLS)
    homes = {detector: {url for url, n in poster.asked if n == detector} for detector in range(20)}
    assert all(len(urls) == 1 for urls in homes.values())
    assert sorted(Counter(url for urls in homes.values() for url in urls).values()) == [6, 7, 7]


def test_a_worker_that_is_away_is_stood_in_for_at_once() -> None:
    async def run() -> None:
        poster, counts = Poster(DONE), Counts()
        made, route = delivery(poster, counts, urls=URLS)
        usual = poster.post

        async def post(url: str, visit: FannedOutVisit, *, on_sent: Callable[[], None]) -> Answer:
            if url == URLS[1]:
                raise REFUSED
            return await usual(url, visit, on_sent=on_sent)

        poster.post = post  # type: ignore[method-assign]
        await made.deliver(route, copies(*range(20)))
        await made.finish(60.0)
        assert counts.answers == [200] * 20
        assert 6 <= counts.count["refused"] <= 7

    asyncio.run(run())


def test_a_fault_of_our_own_does_not_hold_up_the_others(caplog: pytest.LogCaptureFixture) -> None:
    poster, counts = Poster(ValueError("a fault"), DONE), Counts()
    deliver(poster, counts, 0, 1)
    assert counts.answers == [200]
    assert "a fault" in caplog.text


def test_at_the_end_open_requests_are_counted_and_closed() -> None:
    async def run() -> None:
        poster, counts = Poster(DONE), Counts()
        made, route = delivery(poster, counts)
        poster.release.clear()
        await made.deliver(route, copies(0, 1, 2))
        assert await made.finish(0.01) == 3
        assert poster.open == 0
        assert counts.count["under way"] == 0

    asyncio.run(run())


def test_a_visit_that_is_not_sent_at_the_end_is_not_settled() -> None:
    async def run() -> None:
        made, route = delivery(Poster(REFUSED), Counts())
        sending = asyncio.create_task(made.deliver(route, copies(0, 1)))
        await let_run()
        assert await made.finish(0.01) == 2
        with pytest.raises(asyncio.CancelledError):
            await sending

    asyncio.run(run())


class Streams:
    """Fails a number of times, then takes what comes."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.taken: list[tuple[str, list[int]]] = []

    async def append(self, stream: str, visits: Sequence[FannedOutVisit]) -> None:
        if self.failures:
            self.failures -= 1
            raise TemporarilyUnavailable("Redis is away")
        self.taken.append((stream, [visit.detector for visit in visits]))


@pytest.mark.parametrize("failures", [0, 3])
def test_streams_take_a_visit_as_a_whole(failures: int) -> None:
    streams, counts = Streams(failures), Counts()
    made = StreamDelivery(streams=streams, observer=counts, patience=5.0)
    asyncio.run(made.deliver(ROUTE, copies(0, 4, 94)))
    assert streams.taken == [("instrument:lsstcam", [0, 4, 94])]
    assert counts.count["refused"] == failures
    assert counts.count["under way"] == 0
    assert asyncio.run(made.finish(1.0)) == 0


def test_streams_that_stay_away(caplog: pytest.LogCaptureFixture) -> None:
    streams, counts = Streams(1000), Counts()
    made = StreamDelivery(streams=streams, observer=counts, patience=0.02)
    asyncio.run(made.deliver(ROUTE, copies(0, 4)))
    assert streams.taken == []
    assert counts.answers == ["lost", "lost"]
    assert "are lost: Redis is away" in caplog.text
    assert counts.count["under way"] == 0
