from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from models.errors import (
    AlreadyInProgress,
    Interrupted,
    NoPipelineApplies,
    NotRetriable,
    PromptProcessingError,
    Rejected,
    ServiceBusy,
    StaleVisit,
    TemporarilyUnavailable,
    UnusableVisit,
)
from models.events import ALERT, BUTLER_WRITER, OutboxMessage
from models.ledger import Claim
from models.metrics import MeasuredBundle
from models.outcomes import Result, Timings, VisitOutcome
from models.pipelines import SelectedPipelines
from models.raws import FoundImage, parse_raw_key
from models.visits import FannedOutVisit
from services.admission import VisitAdmission
from services.slots.attendance import ImageFeed
from services.slots.protocol import Finished, MessagesMade, ProcessVisit
from tests.visits import make_visit

#: TAI of 2026-03-01T13:00:00.
NOW = 1772370000.0
MESSAGE = OutboxMessage(kind=BUTLER_WRITER, topic="topic", key=None, payload=b"what was made")


class World:
    """Everything that an admission works with, in one fake."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.claims: list[Claim | Exception] = []
        self.failures: list[Exception] = []
        self.recorded: list[tuple[VisitOutcome, Sequence[OutboxMessage]]] = []
        self.requests: list[ProcessVisit] = []
        self.result: Finished | Exception = Finished(outcome=VisitOutcome(result=Result.PROCESSED))
        self.no_slot: PromptProcessingError | None = None
        self.nothing: PromptProcessingError | None = None
        self.early: list[MessagesMade] = []
        self.sent: list[tuple[Sequence[OutboxMessage], VisitOutcome]] = []
        self.send_failures: list[Exception] = []
        self.ours = True
        self.image: FoundImage | None = None
        self.images: list[FoundImage] = []
        self.hold: threading.Event | None = None
        self.refreshed: list[FannedOutVisit] = []
        self.labels: list[Mapping[str, object]] = []
        self.observed: list[str] = []

    # selector
    def select(self, visit: FannedOutVisit) -> SelectedPipelines:
        if self.nothing:
            raise self.nothing
        return SelectedPipelines(preprocessing=(), main=("ApPipe.yaml",))

    # ledger
    def claim(self, visit: FannedOutVisit, deployment_id: str, day_obs: int) -> Claim:
        self.calls.append(f"claim {deployment_id} {day_obs}")
        claim = self.claims.pop(0) if self.claims else Claim(granted=True)
        if isinstance(claim, Exception):
            raise claim
        return claim

    def refresh(self, visit: FannedOutVisit, deployment_id: str) -> bool:
        self.refreshed.append(visit)
        if len(self.refreshed) == 1:
            raise TemporarilyUnavailable("away")
        if len(self.refreshed) == 3 and self.hold:
            self.hold.set()
        return True

    def send(
        self,
        visit: FannedOutVisit,
        deployment_id: str,
        day_obs: int,
        messages: Sequence[OutboxMessage],
        lost: VisitOutcome,
    ) -> bool:
        self.calls.append("send")
        if self.send_failures:
            raise self.send_failures.pop(0)
        if self.ours:
            self.sent.append((messages, lost))
        return self.ours

    def finish(
        self,
        visit: FannedOutVisit,
        deployment_id: str,
        day_obs: int,
        outcome: VisitOutcome,
        outbox: Sequence[OutboxMessage],
    ) -> None:
        self.calls.append("finish")
        if self.failures:
            raise self.failures.pop(0)
        self.recorded.append((outcome, outbox))

    # images
    def start(self) -> None: ...

    def stop(self) -> None: ...

    def subscribe(
        self, instrument: str, detector: int, name: str | None, callback: Callable[[FoundImage], None]
    ) -> World:
        self.calls.append(f"subscribe {instrument} {detector} {name}")
        if self.image:
            callback(self.image)
        return self

    def close(self) -> None:
        self.calls.append("unsubscribe")

    # slots
    def deployment_id(self, timeout: float) -> str:
        if self.no_slot:
            raise self.no_slot
        return "deployed"

    def run(
        self, request: ProcessVisit, images: ImageFeed, on_messages: Callable[[MessagesMade], object]
    ) -> Finished:
        self.calls.append("run")
        self.requests.append(request)
        for made in self.early:
            on_messages(made)
        if self.hold:
            self.hold.wait(60)
        self.images = images.take()
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    # observer
    def received(self, visit: FannedOutVisit) -> None:
        self.observed.append("received")

    def accepted(self, visit: FannedOutVisit) -> None:
        self.observed.append("accepted")

    def finished(self, visit: FannedOutVisit, outcome: VisitOutcome, seconds: float) -> None:
        self.observed.append(f"finished {outcome.result}")

    def refused(self, visit: FannedOutVisit, error: PromptProcessingError) -> None:
        self.observed.append(f"refused {type(error).__name__}")

    def answered(self, visit: FannedOutVisit) -> None:
        self.observed.append("answered")

    @contextmanager
    def label(self, labels: Mapping[str, object]) -> Iterator[None]:
        self.labels.append(labels)
        yield

    def admission(self, **changes: Any) -> VisitAdmission:
        arguments: dict[str, Any] = {
            "instrument": "Fake-Cam",
            "detectors": {0: "D00", 1: "D01"},
            "selector": self,
            "ledger": self,
            "images": self,
            "slots": self,
            "observer": self,
            "message_expiration": 3600.0,
            "start_timeout": 1.0,
            "record_timeout": 1.0,
            "tai_now": lambda: NOW,
            "labels": self.label,
        }
        return VisitAdmission(**arguments | changes)


@pytest.fixture
def world() -> World:
    return World()


def visit(**fields: Any) -> FannedOutVisit:
    return make_visit(**{"private_sndStamp": NOW - 20, **fields})


def test_way_of_a_visit(world: World) -> None:
    world.result = Finished(outcome=VisitOutcome(result=Result.PROCESSED, alerts=3), outbox=(MESSAGE,))
    world.claims = [Claim(granted=True, attempt=2)]
    answer = world.admission().handle(visit(detector=1))
    assert (answer.outcome.alerts, answer.repeated) == (3, False)
    # Listening begins before the slot could look for itself.
    assert world.calls == [
        "claim deployed 20260301",
        "subscribe Fake-Cam 1 D01",
        "run",
        "unsubscribe",
        "finish",
    ]
    (request,) = world.requests
    assert (request.output_date, request.attempt) == ("2026-03-01", 2)
    assert request.pipelines.main == ("ApPipe.yaml",)
    assert world.recorded == [(answer.outcome, (MESSAGE,))]
    assert world.observed == ["received", "accepted", "finished processed", "answered"]
    assert world.labels[0]["day_obs"] == 20260301


EARLY = MessagesMade(messages=(OutboxMessage(ALERT, "alerts", None, b"an alert"),), made_unix=0.0)


def test_alerts_leave_before_the_result(world: World) -> None:
    timings = Timings(image_to_alert=1.0)
    outcome = VisitOutcome(result=Result.PROCESSED, alerts=2, timings=timings)
    world.result = Finished(outcome=outcome, outbox=(MESSAGE,))
    world.early = [EARLY, EARLY]
    answer = world.admission().handle(visit())
    assert [messages for messages, _ in world.sent] == [EARLY.messages] * 2
    # Once: not with the result again.
    assert world.recorded == [(answer.outcome, (MESSAGE,))]
    assert world.calls[-1] == "finish"
    assert answer.outcome.alerts == 2
    assert answer.outcome.timings.image_to_alert is not None and answer.outcome.timings.image_to_alert > 1.0


def test_a_slot_that_dies_takes_no_alert_back(world: World) -> None:
    world.early = [EARLY]
    world.result = NotRetriable("the slot died while it exported")
    answer = world.admission().handle(visit())
    assert (answer.outcome.result, answer.outcome.alerts) == (Result.NOT_RETRIABLE, 1)
    assert len(world.sent) == 1
    assert world.recorded == [(answer.outcome, ())]


def test_alerts_of_a_visit_that_another_has_go_with_the_result(world: World) -> None:
    world.early, world.ours = [EARLY], False
    world.result = Finished(outcome=VisitOutcome(result=Result.PROCESSED), outbox=(MESSAGE,))
    answer = world.admission().handle(visit())
    assert world.recorded == [(answer.outcome, (*EARLY.messages, MESSAGE))]


def test_alerts_that_cannot_be_stored_are_stored_before_the_result(world: World) -> None:
    world.early, world.send_failures = [EARLY], [TemporarilyUnavailable("away")] * 3
    admission = world.admission(record_timeout=60.0)
    assert admission.handle(visit()).outcome.result is Result.PROCESSED
    assert world.calls[-2:] == ["send", "finish"]
    assert [messages for messages, _ in world.sent] == [EARLY.messages]
    assert admission.ledger_trouble is None


def test_alerts_that_can_never_be_stored_are_in_the_log(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.early, world.send_failures = [EARLY], [TemporarilyUnavailable("away")] * 99
    answer = world.admission(record_timeout=0.0).handle(visit())
    assert answer.outcome.result is Result.NOT_RETRIABLE
    (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.CRITICAL]
    assert "an alert" in line


def test_metrics_go_out_after_the_result_is_recorded(world: World) -> None:
    bundle = MeasuredBundle(id="0", dataset_type="m", run="r", data_id={}, values={}, unix_time=0.0)
    world.result = Finished(outcome=VisitOutcome(result=Result.PROCESSED), measurements=(bundle,))
    offered: list[tuple[Sequence[MeasuredBundle], int]] = []

    class Metrics:
        def offer(self, bundles: Sequence[MeasuredBundle]) -> None:
            offered.append((bundles, len(world.recorded)))

    world.admission(metrics=Metrics()).handle(visit())
    assert offered == [((bundle,), 1)]


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"private_sndStamp": NOW - 3601}, StaleVisit),
        ({"instrument": "Other"}, UnusableVisit),
        ({"detector": 2}, UnusableVisit),
        ({"coordinateSystem": 4}, UnusableVisit),
        ({"rotationSystem": 3}, UnusableVisit),
    ],
)
def test_not_ours(world: World, fields: dict[str, Any], error: type[Rejected]) -> None:
    with pytest.raises(error):
        world.admission().handle(visit(**fields))
    assert world.calls == []
    assert world.observed == ["received", f"refused {error.__name__}", "answered"]


def test_just_not_stale(world: World) -> None:
    assert world.admission().handle(visit(private_sndStamp=NOW - 3599)).outcome.result is Result.PROCESSED


def test_camera_without_instrument_file(world: World) -> None:
    world.admission(detectors=None).handle(visit(detector=77))
    assert "subscribe Fake-Cam 77 None" in world.calls


def test_nothing_to_run_leaves_no_row(world: World) -> None:
    world.nothing = NoPipelineApplies("says to run nothing")
    with pytest.raises(NoPipelineApplies):
        world.admission().handle(visit())
    assert world.calls == []


def test_no_slot_ever_leaves_no_row(world: World) -> None:
    world.no_slot = TemporarilyUnavailable("no slot is ready yet")
    with pytest.raises(TemporarilyUnavailable):
        world.admission().handle(visit())
    assert world.calls == []


@pytest.mark.parametrize("result", [Result.PROCESSED, Result.NOT_RETRIABLE])
def test_final_result_is_repeated(world: World, result: Result) -> None:
    world.claims = [Claim(granted=False, outcome=VisitOutcome(result=result, detail="earlier"))]
    answer = world.admission().handle(visit())
    assert answer.repeated
    assert answer.outcome.detail == "earlier"
    assert not world.requests


def test_claimed_by_another(world: World) -> None:
    world.claims = [Claim(granted=False)]
    with pytest.raises(AlreadyInProgress):
        world.admission().handle(visit())


def test_duplicates_within_the_process_even_without_ledger(world: World) -> None:
    world.claims = [TemporarilyUnavailable("away")]
    world.hold = threading.Event()
    admission = world.admission()
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(admission.handle, visit(groupId="same"))
        while not world.requests:
            pass
        with pytest.raises(AlreadyInProgress):
            admission.handle(visit(groupId="same"))
        world.hold.set()
        assert first.result().outcome.result is Result.PROCESSED
    assert admission.handle(visit(groupId="same")).outcome.result is Result.PROCESSED


def test_processing_goes_on_without_the_ledger(world: World) -> None:
    world.claims = [TemporarilyUnavailable("away")]
    admission = world.admission()
    answer = admission.handle(visit())
    assert answer.outcome.result is Result.PROCESSED
    assert len(world.recorded) == 1
    assert admission.ledger_trouble is None


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (ServiceBusy("no slot became free"), Result.INTERRUPTED),
        (Interrupted("the slot died"), Result.INTERRUPTED),
        (NotRetriable("the slot died late"), Result.NOT_RETRIABLE),
        (KeyError("a bug of ours"), Result.NOT_RETRIABLE),
    ],
)
def test_every_accepted_visit_gets_its_row(world: World, error: Exception, result: Result) -> None:
    world.result = error
    answer = world.admission().handle(visit())
    assert answer.outcome.result is result
    assert [outcome.result for outcome, _ in world.recorded] == [result]
    assert "unsubscribe" in world.calls


def test_recording_is_tried_again(world: World) -> None:
    world.failures = [TemporarilyUnavailable("away")]
    admission = world.admission()
    answer = admission.handle(visit())
    assert answer.outcome.result is Result.PROCESSED
    assert world.calls.count("finish") == 2
    assert admission.ledger_trouble is None


@pytest.mark.parametrize(
    ("before", "outbox", "after"),
    [
        (Result.PROCESSED, (MESSAGE,), Result.NOT_RETRIABLE),
        (Result.PROCESSED, (), Result.NOT_RETRIABLE),
        (Result.FAILED, (MESSAGE,), Result.NOT_RETRIABLE),
        (Result.FAILED, (), Result.FAILED),
        (Result.INTERRUPTED, (), Result.INTERRUPTED),
        (Result.NOT_RETRIABLE, (MESSAGE,), Result.NOT_RETRIABLE),
    ],
)
def test_result_that_cannot_be_recorded(
    world: World,
    caplog: pytest.LogCaptureFixture,
    before: Result,
    outbox: tuple[OutboxMessage, ...],
    after: Result,
) -> None:
    world.result = Finished(outcome=VisitOutcome(result=before, detail="all of it"), outbox=outbox)
    world.failures = [TemporarilyUnavailable("still away")] * 99
    admission = world.admission(record_timeout=0.0)
    assert admission.handle(visit()).outcome.result is after
    assert admission.ledger_trouble == "still away"
    (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.CRITICAL]
    assert "all of it" in line
    assert all(repr(message.payload) in line for message in outbox)


def test_stopping_service_does_not_wait_for_the_ledger(world: World) -> None:
    world.failures = [TemporarilyUnavailable("away")] * 99
    admission = world.admission(record_timeout=3600.0)
    admission.stop_waiting()
    assert admission.handle(visit()).outcome.result is Result.NOT_RETRIABLE


def test_result_that_can_never_be_recorded_ends_the_visit_all_the_same(world: World) -> None:
    """Else its row would say for ever that it is being processed."""
    world.result = Finished(outcome=VisitOutcome(result=Result.PROCESSED), outbox=(MESSAGE,))
    world.failures = [ValueError("a string cannot contain NUL")]
    assert world.admission(record_timeout=0.0).handle(visit()).outcome.result is Result.NOT_RETRIABLE
    ((outcome, outbox),) = world.recorded
    assert (outcome.result, outbox) == (Result.NOT_RETRIABLE, ())


def test_claim_is_refreshed_while_the_visit_runs_whatever_the_ledger_does(world: World) -> None:
    world.hold = threading.Event()
    first = visit()
    admission = world.admission(refresh_interval=0.01)
    assert admission.handle(first).outcome.result is Result.PROCESSED
    assert world.refreshed[:3] == [first] * 3
    held = len(world.refreshed)
    time.sleep(0.1)
    assert len(world.refreshed) <= held + 1
    world.hold = None
    world.refreshed.clear()
    assert admission.handle(visit()).outcome.result is Result.PROCESSED


def test_writing_off(world: World) -> None:
    answer = world.admission().write_off(visit(), "delivered twice")
    assert (answer.outcome.result, answer.outcome.detail) == (Result.FAILED, "delivered twice")
    assert [outcome for outcome, _ in world.recorded] == [answer.outcome]
    assert world.requests == []


def test_writing_off_respects_a_result_that_stands(world: World) -> None:
    world.claims = [Claim(granted=False, outcome=VisitOutcome(result=Result.PROCESSED))]
    answer = world.admission().write_off(visit(), "delivered twice")
    assert (answer.outcome.result, answer.repeated) == (Result.PROCESSED, True)
    assert world.recorded == []


@pytest.mark.parametrize(
    ("claim", "error"),
    [
        (Claim(granted=False), AlreadyInProgress),
        (TemporarilyUnavailable("away"), TemporarilyUnavailable),
    ],
)
def test_not_written_off(world: World, claim: Claim | Exception, error: type[Exception]) -> None:
    world.claims = [claim]
    with pytest.raises(error):
        world.admission().write_off(visit(), "delivered twice")
    assert world.recorded == []


def test_images_of_the_past_are_passed_on(world: World) -> None:
    key = "Fake-Cam/0/g/0/1/r/raw.fits"
    world.image = FoundImage(raw=parse_raw_key(key), location=key)
    world.admission().handle(visit())
    assert world.images == [world.image]


def test_deaf_listener_is_no_obstacle(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def deaf(*arguments: object) -> None:
        raise OSError("too many watches")

    monkeypatch.setattr(world, "subscribe", deaf)
    assert world.admission().handle(visit()).outcome.result is Result.PROCESSED


@pytest.mark.parametrize(
    ("result", "word"),
    [
        (Result.PROCESSED, "Success"),
        (Result.FAILED, "Error"),
        (Result.NOT_RETRIABLE, "Error"),
        (Result.INTERRUPTED, "Interrupted"),
    ],
)
def test_last_line_says_the_result(
    world: World, caplog: pytest.LogCaptureFixture, result: Result, word: str
) -> None:
    caplog.set_level(logging.INFO, logger="services.admission")
    world.result = Finished(outcome=VisitOutcome(result=result))
    world.admission().handle(visit())
    last = caplog.records[-1].getMessage()
    assert last.startswith(f"{word} after ")
    assert " s: " in last


def test_last_line_of_a_visit_that_is_not_ours(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="services.admission")
    with pytest.raises(UnusableVisit):
        world.admission().handle(visit(instrument="Other"))
    assert caplog.records[-1].getMessage().startswith("Ignore after ")
