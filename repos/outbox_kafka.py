"""Sends messages of the outbox to a Kafka cluster."""

from __future__ import annotations

__all__ = ["KafkaSender"]

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

from kafka import KafkaProducer
from kafka.errors import (
    InvalidRecordError,
    InvalidTimestampError,
    InvalidTopicError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    RecordListTooLargeError,
    UnsupportedForMessageFormatError,
)

from models.errors import TemporarilyUnavailable
from models.events import ACKNOWLEDGED, Delivery, OutboxMessage
from models.kafka_access import KafkaAccess
from repos.kafka_clients import create_producer

_log = logging.getLogger(__name__)

#: Errors that the same message would meet again.
_FOR_GOOD = (
    InvalidRecordError,
    InvalidTimestampError,
    InvalidTopicError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    RecordListTooLargeError,
    UnsupportedForMessageFormatError,
    TypeError,
    ValueError,
)
#: Milliseconds to wait for a topic's partitions.
_TOPIC_MS = 10_000
#: Milliseconds for which the producer itself tries; it then knows whether what
#: it sent before the cluster went away had arrived, which a new one does not.
_DELIVERY_MS = 300_000
#: Seconds between signs of life while a cluster is away.
_SIGN = 5.0
#: Bytes sent in one request: some tens of alerts.
_BATCH = 1 << 18
#: Bytes; how large a message may be is for the broker to say.
_ANY_SIZE = 1 << 30


class KafkaSender:
    """A producer for all lanes of one cluster, made when it is first needed.

    Parameters
    ----------
    access : `models.kafka_access.KafkaAccess`
    """

    def __init__(self, access: KafkaAccess) -> None:
        self._access = access
        self._producer: KafkaProducer | None = None
        self._closed = False
        self._lock = threading.Lock()

    def send(self, messages: Sequence[OutboxMessage], *, waiting: Callable[[], object]) -> list[Delivery]:
        """Send messages, in their order, and wait for the acknowledgements.

        Parameters
        ----------
        messages : sequence of `models.events.OutboxMessage`
        waiting : callable
            Called every few seconds.

        Returns
        -------
        deliveries : `list` [`models.events.Delivery`]
            What became of each.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the cluster cannot be reached or refuses the credentials;
            nothing was sent.
        """
        producer = self._connect()
        sent: list[Any] = []
        for message in messages:
            key = None if message.key is None else message.key.encode()
            try:
                sent.append(producer.send(message.topic, message.payload, key=key))
            except _FOR_GOOD as error:
                sent.append(Delivery(refused=_text(error)))
            except KafkaError as error:
                if not isinstance(error, KafkaTimeoutError):
                    self._discard(producer)
                # Those after it must not overtake it.
                sent.append(Delivery(failed=f"{_text(error)}; does the topic exist, and may it be written?"))
                break
            waiting()
        outcomes = [self._outcome(producer, one, waiting) for one in sent]
        if all(outcome.refused is None for outcome in outcomes):
            return outcomes
        # After a refusal, an idempotent producer of this library refuses
        # everything: only a message that a new one sends alone is at fault.
        self._discard(producer)
        if len(messages) == 1:
            return outcomes
        return [
            self._alone(message, waiting) if outcome.refused is not None else outcome
            for message, outcome in zip(messages, outcomes, strict=False)
        ]

    def _alone(self, message: OutboxMessage, waiting: Callable[[], object]) -> Delivery:
        try:
            return self.send([message], waiting=waiting)[0]
        except TemporarilyUnavailable as error:
            return Delivery(failed=str(error))

    def close(self) -> None:
        """Close the producer; what is not acknowledged by now has failed."""
        self._closed = True
        producer = self._producer
        if producer is not None:
            self._discard(producer)

    def _connect(self) -> KafkaProducer:
        with self._lock:
            if self._closed:
                raise TemporarilyUnavailable("the producer was closed")
            if self._producer is None:
                self._producer = create_producer(
                    self._access,
                    max_block_ms=_TOPIC_MS,
                    delivery_timeout_ms=_DELIVERY_MS,
                    max_request_size=_ANY_SIZE,
                    batch_size=_BATCH,
                )
            return self._producer

    def _outcome(self, producer: KafkaProducer, sent: Any, waiting: Callable[[], object]) -> Delivery:
        if isinstance(sent, Delivery):
            return sent
        while True:
            try:
                sent.get(timeout=_SIGN)
            except _FOR_GOOD as error:
                return Delivery(refused=_text(error))
            except KafkaError as error:
                if not sent.is_done:
                    waiting()
                    continue
                # A producer that gave something up may not go on as if nothing were.
                self._discard(producer)
                return Delivery(failed=_text(error))
            return ACKNOWLEDGED

    def _discard(self, producer: KafkaProducer) -> None:
        with self._lock:
            if self._producer is producer:
                self._producer = None
        # It may complain of what it could not send, which its futures tell.
        with contextlib.suppress(KafkaError):
            producer.close(timeout=0)


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
