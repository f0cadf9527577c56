from __future__ import annotations

from models.visits import FannedOutVisit, SummitVisit
from simulator.announcing import TopicAnnouncer
from simulator.fan_out import Answer
from tests.visits import make_visit


def summit_visit() -> SummitVisit:
    return SummitVisit(**make_visit().model_dump(exclude={"detector"}))


def test_published_once_and_every_detector_answered() -> None:
    published: list[SummitVisit] = []
    looks: dict[int, int] = {}
    answers: dict[int, Answer] = {}

    def look_up(visit: FannedOutVisit) -> Answer | None:
        looks[visit.detector] = looks.get(visit.detector, 0) + 1
        return Answer(200, {"detector": visit.detector}) if looks[visit.detector] > visit.detector else None

    announcer = TopicAnnouncer(publish=published.append, look_up=look_up)
    visit = summit_visit()
    for future in announcer.announce(visit, [0, 2], answers.__setitem__):
        future.result(60)
    announcer.close()
    assert published == [visit]
    assert looks == {0: 1, 2: 3}
    assert {n: answer.body for n, answer in answers.items()} == {0: {"detector": 0}, 2: {"detector": 2}}


def test_visit_without_result_is_given_up() -> None:
    answers: dict[int, Answer] = {}
    announcer = TopicAnnouncer(publish=lambda _: None, look_up=lambda _: None, timeout=0.1)
    for future in announcer.announce(summit_visit(), [7], answers.__setitem__):
        future.result(60)
    assert answers[7].status is None
    assert "within 0.1 s" in answers[7].body["detail"]


def test_interrupted_night_does_not_wait() -> None:
    answers: dict[int, Answer] = {}
    announcer = TopicAnnouncer(publish=lambda _: None, look_up=lambda _: None)
    futures = announcer.announce(summit_visit(), [7], answers.__setitem__)
    announcer.close(wait=False)
    for future in futures:
        if not future.cancelled():
            future.result(60)
    assert all(answer.status is None for answer in answers.values())
