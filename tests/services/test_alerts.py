"""Alerts: which outputs are sent, and what is known of it afterwards."""

from __future__ import annotations

import time
from typing import Any

import pytest

from models.events import ALERT, OutboxMessage
from models.visits import FannedOutVisit
from services.alerts import AlertPublisher, CopyingAlertSink, PublishedAlerts
from tests.services.world import ALERTS, IMAGE, Ref
from tests.visits import make_visit

MESSAGE = OutboxMessage(kind=ALERT, topic="alerts", key=None, payload=b"x")
VISIT = make_visit()


class Sink:
    """Takes alerts."""

    def __init__(self, place: str = "", messages: tuple[OutboxMessage, ...] = ()) -> None:
        self.answer = place, messages
        self.immediate = not messages
        self.sent: list[Any] = []
        self.fails: Exception | None = None

    def send(
        self, packets: Any, visit: FannedOutVisit, exposure: int
    ) -> tuple[str, tuple[OutboxMessage, ...]]:
        if self.fails is not None:
            raise self.fails
        self.sent.append((packets, visit, exposure))
        return self.answer


def test_alerts_are_known_by_their_storage_class() -> None:
    alerts = Ref(ALERTS, "r", 7)
    assert AlertPublisher.alert_refs([Ref(IMAGE), alerts, Ref(IMAGE)]) == [alerts]


def test_into_files() -> None:
    sink, published = Sink("/alerts/7.avro"), PublishedAlerts()
    before = time.time()
    AlertPublisher(sink=sink).publish(["a", "b"], VISIT, 7, published)
    assert sink.sent == [(["a", "b"], VISIT, 7)]
    assert (published.begun, published.count, published.files) == (True, 2, ["/alerts/7.avro"])
    assert published.last_unix is not None and before <= published.last_unix <= time.time()


def test_into_the_outbox() -> None:
    publisher, published = AlertPublisher(sink=Sink("", (MESSAGE, MESSAGE))), PublishedAlerts()
    publisher.publish(["a", "b"], VISIT, 7, published)
    publisher.publish(["c"], VISIT, 8, published)
    assert (published.count, published.files) == (3, [])
    assert published.messages == [MESSAGE] * 4
    # Nobody can have seen them, and they are not durable yet.
    assert not published.begun
    assert published.last_unix is None


def test_alerts_and_a_copy() -> None:
    topic, files, published = Sink("", (MESSAGE,)), Sink("/alerts/7.avro"), PublishedAlerts()
    sink = CopyingAlertSink(topic, copies=files)
    AlertPublisher(sink=sink).publish(["a"], VISIT, 7, published)
    assert topic.sent == files.sent == [(["a"], VISIT, 7)]
    assert (published.begun, published.messages, published.files) == (True, [MESSAGE], ["/alerts/7.avro"])
    assert published.last_unix is not None


def test_a_copy_that_fails_keeps_no_alert_back(caplog: pytest.LogCaptureFixture) -> None:
    topic, files, published = Sink("", (MESSAGE,)), Sink("/alerts/7.avro"), PublishedAlerts()
    files.fails = OSError("disk")
    AlertPublisher(sink=CopyingAlertSink(topic, copies=files)).publish(["a"], VISIT, 7, published)
    assert (published.messages, published.files) == ([MESSAGE], [])
    assert "no copy of the 1 alerts of exposure 7" in caplog.text


def test_alerts_that_fail_leave_no_copy() -> None:
    topic, files = Sink("", (MESSAGE,)), Sink("/alerts/7.avro")
    topic.fails = ValueError("no such field")
    with pytest.raises(ValueError, match="no such field"):
        CopyingAlertSink(topic, copies=files).send(["a"], VISIT, 7)
    assert files.sent == []


def test_nothing_to_tell_is_told() -> None:
    sink, published = Sink("/alerts/7.avro"), PublishedAlerts()
    AlertPublisher(sink=sink).publish([], VISIT, 7, published)
    assert sink.sent == [([], VISIT, 7)]
    assert (published.begun, published.count, published.files) == (False, 0, ["/alerts/7.avro"])
    # That nothing will come is known from now on.
    assert published.last_unix is not None


@pytest.mark.parametrize(("packets", "begun"), [(["a"], True), ([], False)])
def test_a_sending_that_fails_may_have_sent(packets: list[str], begun: bool) -> None:
    sink, published = Sink(), PublishedAlerts()
    sink.fails = OSError("disk")
    with pytest.raises(OSError, match="disk"):
        AlertPublisher(sink=sink).publish(packets, VISIT, 7, published)
    assert (published.begun, published.count, published.last_unix) == (begun, 0, None)


def test_an_empty_exposure_does_not_unsay_another() -> None:
    publisher, published = AlertPublisher(sink=Sink()), PublishedAlerts()
    publisher.publish(["a"], VISIT, 7, published)
    publisher.publish([], VISIT, 8, published)
    assert published.begun
