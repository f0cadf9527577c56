"""Reads what a topic holds, as those who wait for alerts do."""

from __future__ import annotations

__all__ = ["TopicMessage", "read_topic"]

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kafka import KafkaConsumer


@dataclass(frozen=True)
class TopicMessage:
    """A message.

    Attributes
    ----------
    key : `bytes` or `None`
    value : `bytes`
    sent_unix : `float`
        UTC unix time that its sender put on it.
    """

    key: bytes | None
    value: bytes
    sent_unix: float


def read_topic(
    bootstrap: str, topic: str, *, enough: Callable[[Sequence[TopicMessage]], bool], timeout: float
) -> list[TopicMessage]:
    """Read a topic from its beginning; messages of transactions that were not
    committed are left out.

    Parameters
    ----------
    bootstrap : `str`
        Addresses of brokers, ``host:port`` separated by commas.
    topic : `str`
    enough : callable
        Told what has been read; says whether that is all.
    timeout : `float`
        Seconds after which to give up waiting for more.

    Returns
    -------
    messages : `list` [`TopicMessage`]
    """
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=bootstrap.split(","),
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level="read_committed",
    )
    messages: list[TopicMessage] = []
    deadline = time.monotonic() + timeout
    try:
        while not enough(messages) and time.monotonic() < deadline:
            for records in consumer.poll(timeout_ms=200).values():
                messages += [TopicMessage(r.key, r.value, r.timestamp / 1000) for r in records]
        return messages
    finally:
        consumer.close()
