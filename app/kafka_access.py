"""Which Kafka clusters a service talks to, and how it logs in at each."""

from __future__ import annotations

__all__ = ["alerts_access", "notifications_access", "writer_access"]

from config.settings import ServiceSettings
from models.kafka_access import KafkaAccess


def notifications_access(settings: ServiceSettings) -> KafkaAccess | None:
    """Return the cluster that tells of new objects in the bucket, if any."""
    if not (settings.image_bucket and settings.kafka_cluster):
        return None
    return KafkaAccess(
        settings.kafka_cluster,
        settings.bucket_kafka_username,
        settings.bucket_kafka_password.get_secret_value() or None,
        settings.bucket_kafka_security_protocol,
        verify=settings.kafka_verify_tls,
    )


def writer_access(settings: ServiceSettings) -> KafkaAccess | None:
    """Return the cluster of messages to the writer, if there is one."""
    if not (settings.use_kafka_butler_writer and settings.butler_writer_kafka_cluster):
        return None
    return KafkaAccess(
        settings.butler_writer_kafka_cluster,
        settings.butler_writer_kafka_username,
        settings.butler_writer_kafka_password.get_secret_value() or None,
        settings.butler_writer_kafka_security_protocol,
        verify=settings.kafka_verify_tls,
    )


def alerts_access(settings: ServiceSettings) -> KafkaAccess | None:
    """Return the cluster that alerts are sent to, if any."""
    if not settings.ap_kafka_server:
        return None
    return KafkaAccess(
        settings.ap_kafka_server,
        settings.ap_kafka_producer_username,
        settings.ap_kafka_producer_password.get_secret_value() or None,
        settings.alert_security_protocol,
        verify=settings.kafka_verify_tls,
    )
