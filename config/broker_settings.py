"""Settings of the brokers and servers outside that the service talks to."""

from __future__ import annotations

__all__ = ["BrokerSettings"]

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, SecretStr, TypeAdapter, ValidationError

from config.loading import Settings, setting
from config.values import OptionalBrokers, OptionalNumber, OptionalText, Text, lower_case

SecurityProtocol = Annotated[
    Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] | None, BeforeValidator(lower_case)
]

AlertFraming = Annotated[Literal["confluent", "plain", "container"], BeforeValidator(lower_case)]


class BrokerSettings(Settings):
    """Settings of brokers and servers; all may be left unset on one machine."""

    s3_endpoint_url: OptionalText = setting(
        "S3_ENDPOINT_URL", None, purpose="S3 server", example="https://s3.example.org"
    )
    lsst_disable_bucket_validation: bool = setting(
        "LSST_DISABLE_BUCKET_VALIDATION",
        False,
        purpose="whether bucket names may name a tenant",
        example="1",
    )
    kafka_cluster: OptionalBrokers = setting(
        "KAFKA_CLUSTER", None, purpose="Kafka of the bucket notifications", example="kafka:9092"
    )
    bucket_topic: Text = setting(
        "BUCKET_TOPIC",
        "rubin-prompt-processing",
        purpose="topic of the bucket notifications",
        example="rubin-prompt-processing",
    )
    bucket_notification_kafka_offset_reset: Literal["latest", "earliest"] = setting(
        "BUCKET_NOTIFICATION_KAFKA_OFFSET_RESET",
        "latest",
        purpose="where to go on in that topic when the place to go on from has expired: latest or earliest",
        example="latest",
    )
    bucket_kafka_username: OptionalText = setting(
        "PP_BUCKET_KAFKA_USERNAME", None, purpose="user at that Kafka", example="worker"
    )
    bucket_kafka_password: SecretStr = setting(
        "PP_BUCKET_KAFKA_PASSWORD", SecretStr(""), purpose="that user's password", example="..."
    )
    bucket_kafka_security_protocol: SecurityProtocol = setting(
        "PP_BUCKET_KAFKA_SECURITY_PROTOCOL",
        None,
        purpose="protocol of that Kafka instead of the usual one",
        example="sasl_ssl",
    )
    use_kafka_butler_writer: bool = setting(
        "USE_KAFKA_BUTLER_WRITER", False, purpose="whether the writer registers outputs", example="1"
    )
    butler_writer_kafka_cluster: OptionalBrokers = setting(
        "BUTLER_WRITER_KAFKA_CLUSTER", None, purpose="Kafka of the writer", example="kafka:9092"
    )
    butler_writer_kafka_topic: OptionalText = setting(
        "BUTLER_WRITER_KAFKA_TOPIC", None, purpose="topic that the writer reads", example="butler-writer"
    )
    butler_writer_kafka_username: OptionalText = setting(
        "BUTLER_WRITER_KAFKA_USERNAME", None, purpose="user at the writer's Kafka", example="worker"
    )
    butler_writer_kafka_password: SecretStr = setting(
        "BUTLER_WRITER_KAFKA_PASSWORD", SecretStr(""), purpose="that user's password", example="..."
    )
    butler_writer_kafka_security_protocol: SecurityProtocol = setting(
        "BUTLER_WRITER_KAFKA_SECURITY_PROTOCOL",
        None,
        purpose="protocol of the writer's Kafka instead of the usual one",
        example="sasl_ssl",
    )
    kafka_verify_tls: bool = setting(
        "PP_KAFKA_VERIFY_TLS",
        True,
        purpose="whether the TLS certificates of Kafka brokers are verified",
        example="0",
    )
    ap_kafka_server: OptionalBrokers = setting(
        "AP_KAFKA_SERVER", None, purpose="Kafka of the alerts", example="alerts:9092"
    )
    ap_kafka_topic: OptionalText = setting(
        "AP_KAFKA_TOPIC", None, purpose="topic of the alerts", example="alerts"
    )
    ap_kafka_producer_username: OptionalText = setting(
        "AP_KAFKA_PRODUCER_USERNAME", None, purpose="user at the alerts' Kafka", example="producer"
    )
    ap_kafka_producer_password: SecretStr = setting(
        "AP_KAFKA_PRODUCER_PASSWORD", SecretStr(""), purpose="that user's password", example="..."
    )
    alert_security_protocol: SecurityProtocol = setting(
        "PP_ALERT_SECURITY_PROTOCOL",
        None,
        purpose="protocol of the alerts' Kafka instead of the usual one",
        example="sasl_ssl",
    )
    alert_framing: AlertFraming = setting(
        "PP_ALERT_FRAMING",
        "confluent",
        purpose="what is around an alert in a message: confluent, plain or container",
        example="confluent",
    )
    alert_schema_id: OptionalNumber = setting(
        "PP_ALERT_SCHEMA_ID",
        None,
        purpose="id of the alerts' schema in a registry",
        example="1101",
        ge=0,
        lt=2**31,
    )
    sasquatch_url: OptionalText = setting(
        "SASQUATCH_URL",
        None,
        purpose="where metrics are sent; empty for nowhere",
        example="https://sasquatch",
    )
    sasquatch_token: SecretStr = setting(
        "SASQUATCH_TOKEN", SecretStr(""), purpose="token for it", example="..."
    )
    daf_butler_sasquatch_namespace: Text = setting(
        "DAF_BUTLER_SASQUATCH_NAMESPACE",
        "lsst.prompt",
        purpose="namespace of the metrics",
        example="lsst.prompt",
    )

    @classmethod
    def check_together(cls, values: Mapping[str, Any]) -> list[str]:
        """Return what is wrong with the variables taken together."""
        needs = {"IMAGE_BUCKET": ["KAFKA_CLUSTER"], "AP_KAFKA_SERVER": ["AP_KAFKA_TOPIC"]}
        if _is_on(values.get("USE_KAFKA_BUTLER_WRITER", False)):
            needs["USE_KAFKA_BUTLER_WRITER"] = ["BUTLER_WRITER_KAFKA_CLUSTER", "BUTLER_WRITER_KAFKA_TOPIC"]
        for user in ("PP_BUCKET_KAFKA", "BUTLER_WRITER_KAFKA", "AP_KAFKA_PRODUCER"):
            needs[f"{user}_USERNAME"] = [f"{user}_PASSWORD"]
            needs[f"{user}_PASSWORD"] = [f"{user}_USERNAME"]
        return cls.explain_missing(values, needs)


def _is_on(value: Any) -> bool:
    try:
        return TypeAdapter(bool).validate_python(value)
    except ValidationError:
        return False
