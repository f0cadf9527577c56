"""Wiring of the fan-out service, and its life from start to end."""

from __future__ import annotations

__all__ = ["FanOutService", "build_fan_out", "run_fan_out"]

import asyncio
import gc
import logging
import resource
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from app.fan_out_metrics import FanOutMetrics
from app.logging import configure_logging
from app.metrics_port import MetricsPort
from config.fan_out_settings import FanOutSettings
from config.instrument_routes import InstrumentRoute, Platform, load_instrument_routes
from models.errors import InvalidConfiguration
from models.fan_out import NextVisitRecord
from models.kafka_access import KafkaAccess
from repos.next_visit_topic import NextVisitTopic
from repos.schema_registry import NextVisitReader, SchemaRegistry
from repos.visit_posts import CloudEventPoster
from repos.visit_streams import RedisVisitStreams
from services.fan_out import FanOut, VisitDelivery
from services.visit_delivery import PostDelivery, StreamDelivery

_log = logging.getLogger(__name__)

#: Files that the process has open besides its requests.
_OTHER_FILES = 256
#: Seconds that nextVisits in hand are given to go out when the fan-out ends.
_SENDING = 5.0


class _Delivery(VisitDelivery, Protocol):
    async def finish(self, grace: float) -> int:
        """Wait for answers; return how many were not waited for."""


class FanOutService:
    """The fan-out at work, in an event loop of its own.

    Parameters
    ----------
    topic : callable
        Makes the reader of the topic, given what takes its records.
    fan_out : `services.fan_out.FanOut`
    delivery : `services.visit_delivery.PostDelivery` or `StreamDelivery`
    port : callable
        Makes the port of the metrics, given what tells present faults.
    grace : `float`
        Seconds that open requests are given at the end.
    close : sequence of callables
        Close what was opened.
    """

    def __init__(
        self,
        *,
        topic: Callable[[Callable[[NextVisitRecord], None]], NextVisitTopic],
        fan_out: FanOut,
        delivery: _Delivery,
        port: Callable[[Callable[[], Sequence[str]]], MetricsPort],
        grace: float,
        close: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        self._topic = topic(self._arrived)
        self._fan_out = fan_out
        self._delivery = delivery
        self._port = port(self._faults)
        self._grace = grace
        self._close = close
        self._loop = asyncio.get_running_loop()
        self._in_hand: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Read nothing more and end; from a signal handler of the loop."""
        self._stopping.set()

    async def run(self) -> None:
        """Fan out until `stop`; then let what is under way come to its end."""
        self._port.start()
        self._topic.start()
        await self._stopping.wait()
        _log.info("Told to stop: no nextVisit is read any more.")
        self._topic.pause()
        if self._in_hand:
            await asyncio.wait(self._in_hand, timeout=_SENDING)
        # The next fan-out may begin now, while we wait for answers.
        await asyncio.to_thread(self._topic.close)
        abandoned = await self._delivery.finish(self._grace)
        if abandoned:
            _log.warning("%d visits are not answered after %g s; nobody reads on.", abandoned, self._grace)
        for task in [*self._in_hand]:
            task.cancel()
        for close in self._close:
            await close()
        self._port.stop()
        _log.info("Stopped.")

    def _faults(self) -> list[str]:
        return [self._topic.trouble] if self._topic.trouble else []

    def _arrived(self, record: NextVisitRecord) -> None:
        # In the reading thread.
        self._loop.call_soon_threadsafe(self._begin, record)

    def _begin(self, record: NextVisitRecord) -> None:
        task = self._loop.create_task(self._handle(record))
        self._in_hand.add(task)
        task.add_done_callback(self._in_hand.discard)

    async def _handle(self, record: NextVisitRecord) -> None:
        try:
            await self._fan_out.handle(record)
        except Exception:
            # It would fail the same way again, and must not stop the others.
            _log.exception("Skipped the %s: the fan-out itself failed.", record)
        self._topic.settle(record)


async def build_fan_out(settings: FanOutSettings, routes: Mapping[str, InstrumentRoute]) -> FanOutService:
    """Wire the fan-out in the running event loop; connect to nothing yet."""
    metrics = FanOutMetrics(instruments=routes)
    close: list[Callable[[], Awaitable[None]]] = []
    registry = None
    if settings.kafka_schema_registry_url:
        registry = SchemaRegistry(url=settings.kafka_schema_registry_url)
        close.append(registry.close)
    delivery: PostDelivery | StreamDelivery
    if settings.platform is Platform.KEDA:
        streams = _streams(settings)
        close.append(streams.close)
        delivery = StreamDelivery(streams=streams, observer=metrics, patience=settings.delivery_patience)
    else:
        delivery = PostDelivery(
            poster=CloudEventPoster(
                topic=settings.next_visit_topic,
                token=settings.token.get_secret_value() or None,
                answer_timeout=settings.answer_timeout,
            ),
            routes=routes,
            observer=metrics,
            max_requests=settings.max_fan_out_messages,
            retry=settings.retry_knative_requests,
            patience=settings.delivery_patience,
        )
    fan_out = FanOut(
        decoder=NextVisitReader(registry=registry),
        routes=routes,
        delivery=delivery,
        observer=metrics,
        expiration=settings.message_expiration,
    )

    def topic(deliver: Callable[[NextVisitRecord], None]) -> NextVisitTopic:
        return NextVisitTopic(
            access=_access(settings),
            topic=settings.next_visit_topic,
            group=settings.consumer_group,
            offset_reset=settings.offset,
            deliver=deliver,
        )

    return FanOutService(
        topic=topic,
        fan_out=fan_out,
        delivery=delivery,
        port=lambda faults: MetricsPort(settings.metrics_port, metrics.registry, faults=faults),
        grace=settings.grace_period,
        close=close,
    )


def run_fan_out(settings: FanOutSettings) -> None:
    """Run the fan-out until SIGTERM, SIGHUP or SIGINT.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if the instrument file is missing or wrong.
    """
    configure_logging(settings.log_levels)
    routes = load_instrument_routes(
        settings.instrument_config_file,
        instruments=settings.supported_instruments,
        platform=settings.platform,
    )
    _access(settings).options()  # Tells now what is wrong with it.
    if settings.platform is Platform.KNATIVE:
        _allow_files(settings.max_fan_out_messages + _OTHER_FILES)
    asyncio.run(_run(settings, routes))


async def _run(settings: FanOutSettings, routes: Mapping[str, InstrumentRoute]) -> None:
    service = await build_fan_out(settings, routes)
    # What is there now stays; the collector need not look at it again while
    # a visit goes out.
    gc.freeze()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        loop.add_signal_handler(number, service.stop)
    await service.run()


def _access(settings: FanOutSettings) -> KafkaAccess:
    return KafkaAccess(
        bootstrap=settings.kafka_cluster,
        username=settings.sasl_username,
        password=settings.sasl_password.get_secret_value() or None,
        security_protocol=settings.security_protocol,
        mechanism=settings.sasl_mechanism,
        verify=settings.kafka_verify_tls,
    )


def _streams(settings: FanOutSettings) -> RedisVisitStreams:
    if settings.redis_host is None:
        raise InvalidConfiguration("REDIS_HOST is not set but PLATFORM is keda")
    return RedisVisitStreams(
        host=settings.redis_host.host,
        port=settings.redis_host.port,
        username=settings.redis_username,
        password=settings.redis_password.get_secret_value() or None,
        tls=settings.redis_tls,
        retry_delay=settings.redis_retry_initial_delay,
        retry_delay_cap=settings.redis_retry_delay_cap,
        retry_count=settings.redis_retry_count,
        health_check_interval=settings.redis_health_check_interval,
    )


def _allow_files(wanted: int) -> None:
    """Raise the limit of open files: each open request takes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        if allowed < wanted:
            _log.warning(
                "Only %d files may be open; MAX_FAN_OUT_MESSAGES asks for %d (raise the hard limit).",
                allowed,
                wanted,
            )
