"""Topics as a subscriber sees them."""

from __future__ import annotations

import time
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from tests.waiting import PATIENCE


def committed(bootstrap: str, topic: str) -> list[Any]:
    """Return what a reader of committed messages sees of the first partition,
    read to its end.
    """
    place = TopicPartition(topic, 0)
    everything = KafkaConsumer(bootstrap_servers=bootstrap)
    end = everything.end_offsets([place])[place]
    everything.close()
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed")
    consumer.assign([place])
    consumer.seek_to_beginning(place)
    found: list[Any] = []
    # What was committed just now is marked as such a moment later.
    deadline = time.monotonic() + PATIENCE
    while consumer.position(place) < end and time.monotonic() < deadline:
        found += consumer.poll(timeout_ms=100).get(place, [])
    consumer.close()
    return found
