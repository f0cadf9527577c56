"""Alerts: which outputs are sent, and what is known of it afterwards."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest

from models.events import ALERT, OutboxMessage
from models.visits import FannedOutVisit
from services.alerts import AlertPublisher, CopyingAlertSink, Outlet, PublishedAlerts
from tests.services.world import ALERTS, IMAGE, Ref
from tests.visits import make_visit

MESSAGE = OutboxMessage(kind=ALERT, topic="alerts", key=None, payload=b"x")
VISIT = make_visit()


class Sink:
    """Takes alerts."""

    def __init__(self, place: str = "", messages: tuple[OutboxMessage, ...] = ()) -> None:
        self.place, self.messages = place, messages
        self.sent: list[Any] = []
        self.fails: Exception | None = None

    def send(self, packets: Any, visit: FannedOutVisit, exposure: int, outlet: Outlet) -> str:
        if self.fails is not None:
            raise self.fails
        self.sent.append((packets, visit, exposure))
        outlet(self.messages)
        return self.place


def test_alerts_are_known_by_their_storage_class() -> None:
    alerts = Ref(ALERTS, "r", 7)
    assert AlertPublisher.alert_refs([Ref(IMAGE), alerts, Ref(IMAGE)]) == [alerts]


class Broker:
    """Takes messages, and notes when."""

    def __init__(self) -> None:
        self.messages: list[OutboxMessage] = []
        self.times: list[float] = []

    def __call__(self, messages: Sequence[OutboxMessage]) -> None:
        self.times.append(time.time())
        self.messages.extend(messages)


@pytest.fixture
def broker() -> Broker:
    return Broker()


def test_into_files(broker: Broker) -> None:
    sink, published = Sink("/alerts/7.avro"), PublishedAlerts()
    before = time.time()
    AlertPublisher(sink=sink).publish(["a", "b"], VISIT, 7, published, broker)
    assert sink.sent == [(["a", "b"], VISIT, 7)]
    assert (published.begun, published.count, published.files) == (True, 2, ["/alerts/7.avro"])
    assert published.last_unix is not None and before <= published.last_unix <= time.time()
    assert broker.times == []


def test_to_a_broker(broker: Broker) -> None:
    publisher, published = AlertPublisher(sink=Sink("", (MESSAGE, MESSAGE))), PublishedAlerts()
    publisher.publish(["a", "b"], VISIT, 7, published, broker)
    assert (published.begun, published.count, published.files) == (True, 2, [])
    publisher.publish(["c", "d"], VISIT, 8, published, broker)
    assert (published.count, broker.messages) == (4, [MESSAGE] * 4)
    assert published.last_unix is not None and broker.times[0] <= published.last_unix <= broker.times[1]


def test_alerts_and_a_copy(broker: Broker) -> None:
    topic, files, published = Sink("", (MESSAGE,)), Sink("/alerts/7.avro"), PublishedAlerts()
    sink = CopyingAlertSink(topic, copies=files)
    AlertPublisher(sink=sink).publish(["a"], VISIT, 7, published, broker)
    assert topic.sent == files.sent == [(["a"], VISIT, 7)]
    assert (published.begun, broker.messages, published.files) == (True, [MESSAGE], ["/alerts/7.avro"])
    # What must go counts, and not the copy.
    assert published.last_unix is not None and published.last_unix <= broker.times[0]


def test_a_copy_that_fails_keeps_no_alert_back(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    topic, files, published = Sink("", (MESSAGE,)), Sink("/alerts/7.avro"), PublishedAlerts()
    files.fails = OSError("disk")
    AlertPublisher(sink=CopyingAlertSink(topic, copies=files)).publish(["a"], VISIT, 7, published, broker)
    assert (broker.messages, published.files) == ([MESSAGE], [])
    assert "no copy of the 1 alerts of exposure 7" in caplog.text


def test_alerts_that_fail_leave_no_copy(broker: Broker) -> None:
    topic, files = Sink("", (MESSAGE,)), Sink("/alerts/7.avro")
    topic.fails = ValueError("no such field")
    with pytest.raises(ValueError, match="no such field"):
        CopyingAlertSink(topic, copies=files).send(["a"], VISIT, 7, broker)
    assert files.sent == broker.messages == []


def test_nothing_to_tell_is_told(broker: Broker) -> None:
    sink, published = Sink("/alerts/7.avro"), PublishedAlerts()
    AlertPublisher(sink=sink).publish([], VISIT, 7, published, broker)
    assert sink.sent == [([], VISIT, 7)]
    assert (published.begun, published.count, published.files) == (False, 0, ["/alerts/7.avro"])
    # That nothing will come is known from now on.
    assert published.last_unix is not None


def test_a_broker_is_not_told_of_nothing(broker: Broker) -> None:
    published = PublishedAlerts()
    AlertPublisher(sink=Sink()).publish([], VISIT, 7, published, broker)
    assert (broker.times, published.begun, published.last_unix) == ([], False, None)


@pytest.mark.parametrize(("packets", "begun"), [(["a"], True), ([], False)])
def test_a_sending_that_fails_may_have_sent(packets: list[str], begun: bool) -> None:
    sink, published = Sink(), PublishedAlerts()
    sink.fails = OSError("disk")
    with pytest.raises(OSError, match="disk"):
        AlertPublisher(sink=sink).publish(packets, VISIT, 7, published, Broker())
    assert (published.begun, published.count, published.last_unix) == (begun, 0, None)


def test_an_empty_exposure_does_not_unsay_another() -> None:
    publisher, published = AlertPublisher(sink=Sink()), PublishedAlerts()
    publisher.publish(["a"], VISIT, 7, published, Broker())
    publisher.publish([], VISIT, 8, published, Broker())
    assert published.begun
