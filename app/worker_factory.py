"""Wiring of the worker that takes visits from a Redis stream."""

from __future__ import annotations

__all__ = ["StreamWorker", "build_worker"]

import logging
import os
import signal
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType

from app.service_factory import build_service
from app.stream.driver import DriverConfig, StreamDriver
from app.web.service import PromptService
from config.stream_settings import StreamSettings
from repos.visit_stream import RedisAccess, RedisVisitStream

_log = logging.getLogger(__name__)

#: Part of the time after which an entry may be taken over for which the ledger
#: holds a dead worker's claim: it must be gone by then, although its last
#: renewal may be a third younger than the stream's.
_LEASE_PART = 2 / 3

_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class StreamWorker:
    """The service with a stream in front.

    Parameters
    ----------
    service : `app.web.service.PromptService`
    stream : `repos.visit_stream.RedisVisitStream`
    driver : `app.stream.driver.StreamDriver`
    """

    def __init__(self, *, service: PromptService, stream: RedisVisitStream, driver: StreamDriver) -> None:
        self.service = service
        self._stream = stream
        self._driver = driver

    def run(self) -> None:
        """Work until there is no more to do, or a signal comes; only in the
        main thread.

        Raises
        ------
        models.errors.InvalidConfiguration, models.errors.TemporarilyUnavailable
            Raised if the worker cannot go on.
        """
        with self._signals():
            try:
                self._driver.check()
                self.service.start()
                self._driver.run()
            finally:
                self.service.close()
                self._stream.close()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Let signals stop the visit."""
        wakeup = os.eventfd(0, os.EFD_CLOEXEC)

        def on_signal(number: int, _frame: FrameType | None) -> None:
            # Whatever the main thread is in the middle of, it may hold a lock.
            os.eventfd_write(wakeup, 1)
            if number == signal.SIGINT:
                # A second Ctrl-C does not wait.
                signal.signal(signal.SIGINT, signal.default_int_handler)

        def wait() -> None:
            os.eventfd_read(wakeup)
            self._driver.stop()
            self.service.begin_shutdown()

        before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
        waiter = threading.Thread(target=wait, name="signals", daemon=True)
        waiter.start()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            os.eventfd_write(wakeup, 1)
            waiter.join()
            os.close(wakeup)


def build_worker(settings: StreamSettings) -> StreamWorker:
    """Wire the worker; nothing runs yet, and nothing is asked of Redis.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if something cannot be used as it is configured.
    """
    if settings.worker_count > 1:
        _log.warning("A stream worker has one slot; WORKER_COUNT=%d is ignored.", settings.worker_count)
    # The whole worker is renewed after so many visits, not its slot.
    alone = settings.model_copy(update={"worker_count": 1, "worker_restart_freq": 0})
    claim_idle = settings.redis_claim_idle
    service = build_service(alone, lease=timedelta(seconds=_LEASE_PART * claim_idle))
    stream = RedisVisitStream(
        access=RedisAccess(
            host=settings.redis_stream_host.host,
            port=settings.redis_stream_host.port,
            username=settings.redis_stream_username,
            password=settings.redis_stream_password.get_secret_value() or None,
            tls=settings.redis_stream_tls,
        ),
        stream=settings.redis_stream_name,
        group=settings.redis_stream_consumer_group,
        consumer=f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}",
        claim_idle=claim_idle,
    )
    driver = StreamDriver(
        config=DriverConfig(
            claim_idle=claim_idle,
            retry_delay=settings.redis_retry_delay,
            listen_timeout=settings.fanned_out_msg_listen_timeout,
            max_visits=settings.worker_restart_freq,
        ),
        stream=stream,
        visits=service.admission,
        ready=service.slots.wait_free,
        malformed=lambda detail: service.metrics.rejected("invalid-message", detail),
    )
    return StreamWorker(service=service, stream=stream, driver=driver)
