"""The bus against Artemis, which the field runs: what it does in its own way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from models.errors import TemporarilyUnavailable
from models.streaming.bus import ReceivedMessage
from repos.streaming.stomp_bus import StompBus
from repos.streaming.stomp_connection import Broker
from simulator.servers.artemis import ArtemisServer
from tests.servers import unique_name

pytestmark = [pytest.mark.servers, pytest.mark.slow]

MakeBus = Callable[..., StompBus]


def wait_until(true: Callable[[], object], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


@pytest.fixture
def make_bus(artemis: ArtemisServer) -> Iterator[MakeBus]:
    """Make a bus of a client; it ends with the test."""
    buses: list[StompBus] = []

    def make(client_id: str = "") -> StompBus:
        client_id = client_id or unique_name()
        broker = Broker(artemis.host, artemis.port, "admin", "admin", client_id=client_id, heart_beat=2.0)
        buses.append(StompBus(broker))
        return buses[-1]

    yield make
    for bus in buses:
        bus.stop(5.0)


def started(bus: StompBus) -> StompBus:
    bus.start()
    wait_until(lambda: bus.connected)
    return bus


def test_topics_go_to_all_and_queues_to_one(make_bus: MakeBus) -> None:
    topic, queue = f"/topic/{unique_name()}", f"/queue/{unique_name()}"
    heard: list[list[ReceivedMessage]] = [[], []]
    commands: list[ReceivedMessage] = []
    sender = started(make_bus())
    sender.send(queue, "early")
    for messages in heard:
        bus = make_bus()
        bus.subscribe(topic, messages.append)
        bus.subscribe(queue, commands.append)
        started(bus)
    for number in range(20):
        sender.send(topic, f'{{"number": {number}, "Ä": "ö"}}')
        sender.send(queue, str(number))
    wait_until(lambda: len(heard[0]) == len(heard[1]) == 20 and len(commands) == 21)
    assert [m.text for m in heard[0]] == [m.text for m in heard[1]]
    assert [m.text for m in heard[0]] == [f'{{"number": {number}, "Ä": "ö"}}' for number in range(20)]
    assert {m.text for m in commands} == {"early", *map(str, range(20))}
    assert heard[0][0].destination == topic
    assert commands[0].destination == queue


def test_a_durable_subscription_waits_and_ids_stay_the_same(
    artemis: ArtemisServer, make_bus: MakeBus
) -> None:
    topic = f"/topic/{unique_name()}"
    refused: list[ReceivedMessage] = []
    taken: list[ReceivedMessage] = []

    def refuse(message: ReceivedMessage) -> None:
        refused.append(message)
        raise TemporarilyUnavailable("the disk is full")

    first = make_bus("data")
    first.subscribe(topic, refuse, durable="runs")
    started(first)
    sender = started(make_bus())
    sender.send(topic, "here")
    wait_until(lambda: refused)
    first.stop(5.0)
    sender.send(topic, "away")
    artemis.kill()
    artemis.start()
    again = make_bus("data")
    again.subscribe(topic, taken.append, durable="runs")
    started(again)
    wait_until(lambda: sender.connected)
    sender.send(topic, "back")
    wait_until(lambda: len(taken) == 3)
    assert [message.text for message in taken] == ["here", "away", "back"]
    assert taken[0].message_id == refused[0].message_id, "the journal knows it by that"
    assert len({message.message_id for message in taken}) == 3
