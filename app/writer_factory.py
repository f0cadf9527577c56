"""Wiring of the writer service."""

from __future__ import annotations

__all__ = ["WriterService", "build_writer"]

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from app.metrics_port import MetricsPort
from app.writer_metrics import WriterMetrics
from config.writer_settings import WriterSettings
from models.kafka_access import KafkaAccess
from repos.writer_batches import BatchFiles
from repos.writer_queue import WriterQueue
from repos.writer_registry import WriterRegistry
from services.writer import BatchWriter

_log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class WriterService:
    """The writer with its metrics.

    Parameters
    ----------
    writer : `services.writer.BatchWriter`
    queue : `repos.writer_queue.WriterQueue`
    metrics_port : `app.metrics_port.MetricsPort`
    """

    def __init__(self, *, writer: BatchWriter, queue: WriterQueue, metrics_port: MetricsPort) -> None:
        self._writer = writer
        self._queue = queue
        self._metrics_port = metrics_port

    def run(self) -> None:
        """Write until a signal comes; only in the main thread.

        Raises
        ------
        models.errors.Superseded
            Raised if another writer has taken over.
        models.errors.InvalidConfiguration
            Raised if the repo cannot be used.
        """
        with self._signals():
            self._metrics_port.start()
            try:
                self._writer.run()
            finally:
                self._queue.close()
                self._metrics_port.stop()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def on_signal(number: int, _frame: FrameType | None) -> None:
            self._writer.stop()
            # A second one does not wait for the batch in hand.
            signal.signal(number, signal.SIG_DFL)

        before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def build_writer(settings: WriterSettings) -> WriterService:
    """Wire the writer; nothing is connected yet.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if something cannot be used as it is configured.
    """
    access = KafkaAccess(
        settings.kafka_cluster,
        settings.kafka_username,
        settings.kafka_password.get_secret_value(),
        settings.kafka_security_protocol,
        verify=settings.kafka_verify_tls,
    )
    queue = WriterQueue(
        access,
        topic=settings.kafka_topic,
        output_topic=settings.kafka_output_topic,
        dead_letter_topic=settings.dead_letters,
    )
    metrics = WriterMetrics()
    writer = BatchWriter(
        queue=queue,
        registry=WriterRegistry(
            settings.butler_repository, register_dataset_types=settings.register_dataset_types
        ),
        files=BatchFiles(settings.output_dataset_list_directory),
        observer=metrics,
        batch_size=settings.batch_size,
        batch_wait=settings.batch_wait,
    )
    return WriterService(
        writer=writer, queue=queue, metrics_port=MetricsPort(settings.metrics_port, metrics.registry)
    )
