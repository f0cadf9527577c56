"""The writer's transactions on Kafka: offsets, events and messages set aside."""

from __future__ import annotations

__all__ = ["GROUP", "TRANSACTIONAL_ID", "Transactions", "described", "is_fenced"]

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from kafka import KafkaProducer, TopicPartition
from kafka.errors import (
    InvalidProducerEpochError,
    KafkaError,
    MessageSizeTooLargeError,
    ProducerFencedError,
    RecordListTooLargeError,
)
from kafka.structs import ConsumerGroupMetadata, OffsetAndMetadata

from models.batches import QueuedMessage, SetAside
from models.errors import TemporarilyUnavailable
from models.kafka_access import KafkaAccess
from repos.kafka_clients import create_producer

GROUP = "butler-writer"
TRANSACTIONAL_ID = "butler-writer-output"

#: Milliseconds after which the broker gives up a transaction by itself.
_BROKERS_MS = 60_000
#: Seconds in which a transaction should be through.
_OURS_S = 30.0
#: Milliseconds to wait for metadata and for the start of a producer.
_BLOCK_MS = 20_000


class Transactions:
    """A transactional producer, replaced whenever its state is in doubt.

    Parameters
    ----------
    access : `models.kafka_access.KafkaAccess`
    output_topic : `str`
        Topic of the events.
    dead_letter_topic : `str`
        Topic of messages that are set aside.
    """

    def __init__(self, access: KafkaAccess, *, output_topic: str, dead_letter_topic: str) -> None:
        self._access = access
        self._output_topic = output_topic
        self._dead_letter_topic = dead_letter_topic
        self._producer: KafkaProducer | None = None
        #: Places of messages that do not fit into the topic of those set aside.
        self._too_large: set[str] = set()

    def open(self) -> None:
        """Connect, and have the broker end what an earlier producer of this
        name left open.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the cluster cannot be reached.
        """
        if self._producer is not None:
            return
        producer = create_producer(
            self._access,
            transactional_id=TRANSACTIONAL_ID,
            transaction_timeout_ms=_BROKERS_MS,
            max_block_ms=_BLOCK_MS,
            # How large a message may be is for the broker to say; what is set
            # aside must not grow beyond that by its headers.
            max_request_size=1 << 30,
            compression_type="gzip",
        )
        try:
            producer.init_transactions()
        except KafkaError as error:
            _close(producer)
            raise TemporarilyUnavailable(
                f"Kafka at {self._access.bootstrap} begins no transactions as {TRANSACTIONAL_ID}: "
                f"{described(error)}"
            ) from error
        self._producer = producer

    def run(
        self,
        offsets: Mapping[TopicPartition, int],
        group: ConsumerGroupMetadata,
        *,
        event: bytes | None,
        set_aside: Sequence[SetAside],
    ) -> None:
        """Commit all or nothing.

        Raises
        ------
        kafka.errors.KafkaError
            Raised if it failed, or may have; the next `open` makes it certain.
        """
        begin = time.monotonic()
        try:
            self._within_time(lambda: self._run(offsets, group, event, set_aside))
        except KafkaError as error:
            self.close()
            # A transaction that the broker gave up for its age looks as if
            # someone had taken over.
            if is_fenced(error) and time.monotonic() - begin > 0.9 * _BROKERS_MS / 1000:
                raise KafkaError(f"the broker gave it up: {described(error)}") from None
            raise

    def close(self) -> None:
        """Let go of the producer; what is open is ended by the next one."""
        producer, self._producer = self._producer, None
        if producer is not None:
            _close(producer)

    def _run(
        self,
        offsets: Mapping[TopicPartition, int],
        group: ConsumerGroupMetadata,
        event: bytes | None,
        set_aside: Sequence[SetAside],
    ) -> None:
        producer = self._producer
        assert producer is not None, "not open"
        producer.begin_transaction()
        sent: list[tuple[QueuedMessage, Any]] = []
        try:
            for one in set_aside:
                sent.append((one.message, self._send_aside(producer, one)))
            if event is not None:
                producer.send(self._output_topic, event)
            commits = {partition: OffsetAndMetadata(end, "", -1) for partition, end in offsets.items()}
            producer.send_offsets_to_transaction(commits, group)
            producer.commit_transaction()
        except KafkaError:
            # The next attempt does without what the broker will never take.
            self._too_large |= {message.place for message, future in sent if _is_too_large(future.exception)}
            raise
        self._too_large.clear()

    def _send_aside(self, producer: KafkaProducer, one: SetAside) -> Any:
        message = one.message
        key, value = message.key, message.payload
        headers = [
            ("reason", one.reason[:2000].encode(errors="backslashreplace")),
            ("kind", one.kind.encode()),
            ("topic", message.topic.encode()),
            ("partition", str(message.partition).encode()),
            ("offset", str(message.offset).encode()),
        ]
        if message.place in self._too_large:
            # It stays in the log and, for a while, in its own topic.
            headers.append(("left-out", str(len(value)).encode()))
            key, value = None, b""
        return producer.send(self._dead_letter_topic, value, key=key, headers=headers)

    @staticmethod
    def _within_time(action: Callable[[], None]) -> None:
        # The library waits without end for a broker that is away.
        failure: list[BaseException] = []

        def run() -> None:
            try:
                action()
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=run, name="transaction", daemon=True)
        thread.start()
        thread.join(_OURS_S)
        if thread.is_alive():
            raise KafkaError(f"not through within {_OURS_S:g} s")
        if failure:
            raise failure[0]


def _close(producer: KafkaProducer) -> None:
    # It may complain of what it could not send, which we know.
    with contextlib.suppress(KafkaError):
        producer.close(timeout=0)


def _is_too_large(error: BaseException | None) -> bool:
    return isinstance(error, MessageSizeTooLargeError | RecordListTooLargeError)


def is_fenced(error: BaseException) -> bool:
    """Say whether another producer of the same name has begun."""
    fences = (ProducerFencedError, InvalidProducerEpochError)
    return any(isinstance(cause, fences) or "ProducerFenced" in str(cause) for cause in _causes(error))


def described(error: BaseException) -> str:
    """Return an error with its class, which often is all that Kafka says."""
    return f"{type(error).__name__}: {error}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        yield from (a for a in cause.args if isinstance(a, BaseException))
        cause = cause.__cause__
