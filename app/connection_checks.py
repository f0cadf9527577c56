"""What can be checked of brokers and servers, for each component."""

from __future__ import annotations

__all__ = ["fan_out_checks", "service_connection_checks", "worker_checks", "writer_checks"]

from functools import partial
from urllib.parse import urlsplit

from app.checks import Check
from app.kafka_access import alerts_access, notifications_access, writer_access
from config.fan_out_settings import FanOutSettings
from config.instrument_routes import Platform, load_instrument_routes
from config.settings import ServiceSettings
from config.stream_settings import RedisAddress, StreamSettings
from config.writer_settings import WriterSettings
from models.kafka_access import KafkaAccess
from repos.probes import probe_bucket, probe_datastore, probe_http, probe_place, probe_stream, probe_topics
from repos.sasquatch import SasquatchClient
from repos.visit_stream import RedisAccess


def service_connection_checks(settings: ServiceSettings) -> list[Check]:
    """Return the checks of brokers and servers that the service is told of."""
    checks = []
    if settings.image_bucket:
        validate = not settings.lsst_disable_bucket_validation
        checks.append(
            Check(
                f"image bucket {settings.image_bucket}",
                partial(probe_bucket, settings.s3_endpoint_url, settings.image_bucket, validate=validate),
            )
        )
    if settings.raw_microservice:
        checks.append(Check("raw microservice", partial(probe_http, settings.raw_microservice)))
    clusters = (
        ("bucket notifications", notifications_access(settings), settings.bucket_topic),
        ("messages to the writer", writer_access(settings), settings.butler_writer_kafka_topic),
        ("alerts", alerts_access(settings), settings.ap_kafka_topic),
    )
    checks += [_topics(purpose, access, topic) for purpose, access, topic in clusters if access is not None]
    if settings.sasquatch_url:
        checks.append(Check(f"Sasquatch {settings.sasquatch_url}", partial(_check_sasquatch, settings)))
    return checks


def worker_checks(settings: StreamSettings) -> list[Check]:
    """Return the checks of what a stream worker needs besides a service."""
    access = RedisAccess(
        host=settings.redis_stream_host.host,
        port=settings.redis_stream_host.port,
        username=settings.redis_stream_username,
        password=settings.redis_stream_password.get_secret_value() or None,
        tls=settings.redis_stream_tls,
    )
    name = f"Redis {settings.redis_stream_host}, stream {settings.redis_stream_name}"
    return [Check(name, partial(probe_stream, access, settings.redis_stream_name))]


def fan_out_checks(settings: FanOutSettings) -> list[Check]:
    """Return the checks of what the fan-out needs."""
    access = KafkaAccess(
        settings.kafka_cluster,
        settings.sasl_username,
        settings.sasl_password.get_secret_value() or None,
        settings.security_protocol,
        settings.sasl_mechanism,
        verify=settings.kafka_verify_tls,
    )
    checks = [
        Check("routes of the instruments", partial(_check_routes, settings)),
        _topics("nextVisits", access, settings.next_visit_topic),
    ]
    if settings.kafka_schema_registry_url:
        registry = settings.kafka_schema_registry_url
        checks.append(
            Check("schema registry", partial(probe_http, registry, path="/subjects", must_know=True))
        )
    if settings.platform is Platform.KEDA and settings.redis_host is not None:
        host: RedisAddress = settings.redis_host
        redis = RedisAccess(
            host=host.host,
            port=host.port,
            username=settings.redis_username,
            password=settings.redis_password.get_secret_value() or None,
            tls=settings.redis_tls,
        )
        checks.append(Check(f"Redis {host}", partial(probe_stream, redis)))
    return checks


def writer_checks(settings: WriterSettings) -> list[Check]:
    """Return the checks of what the writer needs."""
    access = KafkaAccess(
        settings.kafka_cluster,
        settings.kafka_username,
        settings.kafka_password.get_secret_value() or None,
        settings.kafka_security_protocol,
        verify=settings.kafka_verify_tls,
    )
    topics = settings.kafka_topic, settings.kafka_output_topic, settings.dead_letters
    repo = settings.butler_repository
    return [
        _topics("the writer", access, *topics),
        Check(f"central repo {repo}, for the writer", partial(_check_writers_repo, repo), middleware=True),
        Check(
            "lists of datasets",
            partial(probe_place, "OUTPUT_DATASET_LIST_DIRECTORY", settings.output_dataset_list_directory),
            middleware=True,
        ),
    ]


def _topics(purpose: str, access: KafkaAccess, *topics: str | None) -> Check:
    wanted = [topic for topic in topics if topic]
    return Check(f"Kafka {access.bootstrap}, {purpose}", partial(probe_topics, access, wanted))


def _check_sasquatch(settings: ServiceSettings) -> list[str]:
    client = SasquatchClient(
        settings.sasquatch_url or "",
        token=settings.sasquatch_token.get_secret_value(),
        namespace=settings.daf_butler_sasquatch_namespace,
    )
    try:
        client.check()
    finally:
        client.close()
    return []


def _check_routes(settings: FanOutSettings) -> list[str]:
    routes = load_instrument_routes(
        settings.instrument_config_file,
        instruments=settings.supported_instruments,
        platform=settings.platform,
    )
    if settings.platform is Platform.KEDA:
        return []
    # Whoever answers there need not be us; that somebody does is enough.
    places = dict.fromkeys(
        f"{parts.scheme}://{parts.netloc}" for route in routes.values() for parts in map(urlsplit, route.urls)
    )
    return [fault for place in places for fault in probe_http(place, path="/health")]


def _check_writers_repo(uri: str) -> list[str]:
    from repos.central import open_butler

    open_butler(uri, writeable=True).close()
    return probe_datastore(uri)
