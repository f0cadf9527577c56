"""Settings of the fan-out service."""

from __future__ import annotations

__all__ = ["FanOutSettings", "load_fan_out_settings"]

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr

from config.environment import OTHER_VARIABLES
from config.instrument_routes import Platform
from config.kafka_login import KafkaLogin
from config.loading import given, load_settings, merge_variables, setting
from config.settings import ServiceSettings
from config.stream_settings import RedisAddress, parse_redis_address
from config.values import (
    AbsolutePath,
    Brokers,
    LogLevels,
    OptionalText,
    OptionalUrl,
    Seconds,
    Text,
    logging_levels,
    lower_case,
)


def _words(value: Any) -> Any:
    return value.split() if isinstance(value, str) else value


def _address(value: Any) -> Any:
    if value == "":
        return None
    return parse_redis_address(value) if isinstance(value, str) else value


Names = Annotated[tuple[Text, ...], BeforeValidator(_words), Field(min_length=1)]
OptionalAddress = Annotated[RedisAddress | None, BeforeValidator(_address)]


class FanOutSettings(KafkaLogin):
    """Settings of the fan-out service."""

    supported_instruments: Names = setting(
        "SUPPORTED_INSTRUMENTS",
        purpose="instruments whose visits are fanned out, separated by spaces",
        example="'LATISS LSSTCam'",
    )
    instrument_config_file: AbsolutePath = setting(
        "INSTRUMENT_CONFIG_FILE",
        purpose="YAML file with the URLs or streams and the active detectors of each instrument",
        example="/etc/prompt-processing/instruments.yaml",
    )
    platform: Annotated[Platform, BeforeValidator(lower_case)] = setting(
        "PLATFORM",
        Platform.KNATIVE,
        purpose="how visits go out: knative (HTTP) or keda (Redis streams)",
        example="keda",
    )
    kafka_cluster: Brokers = setting(
        "KAFKA_CLUSTER", purpose="Kafka that has the nextVisits", example="kafka:9092"
    )
    next_visit_topic: Text = setting(
        "NEXT_VISIT_TOPIC", purpose="topic of the nextVisits", example="next-visit"
    )
    consumer_group: Text = setting(
        "CONSUMER_GROUP", purpose="consumer group of the fan-out", example="next-visit-fan-out"
    )
    offset: Annotated[Literal["latest", "earliest"], BeforeValidator(lower_case)] = setting(
        "OFFSET", "latest", purpose="where a new consumer group starts", example="latest"
    )
    kafka_schema_registry_url: OptionalUrl = setting(
        "KAFKA_SCHEMA_REGISTRY_URL",
        None,
        purpose="schema registry of Avro nextVisits",
        example="http://registry:8081",
        repr=False,
    )
    message_expiration: Seconds = setting(
        "MESSAGE_EXPIRATION",
        3600.0,
        purpose="age in seconds from which a nextVisit is skipped",
        example="3600",
    )
    max_fan_out_messages: int = setting(
        "MAX_FAN_OUT_MESSAGES",
        1024,
        purpose="requests that are open at once, all instruments together",
        example="1024",
        ge=1,
    )
    retry_knative_requests: bool = setting(
        "RETRY_KNATIVE_REQUESTS", False, purpose="whether a visit is sent once more after a 503", example="1"
    )
    token: SecretStr = setting(
        "PP_TOKEN",
        SecretStr(""),
        purpose="token that the service asks for; empty for none",
        example="9c1f...",
    )
    delivery_patience: Seconds = setting(
        "PP_DELIVERY_PATIENCE",
        60.0,
        purpose="seconds for which a visit that nobody accepts is offered again",
        example="60",
    )
    answer_timeout: float = setting(
        "PP_ANSWER_TIMEOUT", 1800.0, purpose="seconds to wait for an answer", example="1800", gt=0
    )
    grace_period: Seconds = setting(
        "PP_FAN_OUT_GRACE_PERIOD",
        30.0,
        purpose="seconds that open requests are given when the fan-out ends",
        example="30",
    )
    redis_host: OptionalAddress = setting(
        "REDIS_HOST", None, purpose="Redis that has the streams, host or host:port", example="redis:6379"
    )
    redis_username: OptionalText = setting(
        "PP_REDIS_USERNAME", None, purpose="user at this Redis, if not the default one", example="fan-out"
    )
    redis_password: SecretStr = setting(
        "PP_REDIS_PASSWORD", SecretStr(""), purpose="password at this Redis", example="..."
    )
    redis_tls: bool = setting(
        "PP_REDIS_TLS", False, purpose="whether to speak TLS with this Redis", example="1"
    )
    redis_retry_delay_cap: Seconds = setting(
        "REDIS_RETRY_DELAY_CAP", 5.0, purpose="longest pause between two tries of Redis, s", example="5"
    )
    redis_retry_initial_delay: Seconds = setting(
        "REDIS_RETRY_INITIAL_DELAY", 1.0, purpose="first such pause, s; each is twice the last", example="1"
    )
    redis_retry_count: int = setting(
        "REDIS_RETRY_COUNT", 3, purpose="further tries of Redis", example="3", ge=0
    )
    redis_health_check_interval: float = setting(
        "REDIS_HEALTH_CHECK_INTERVAL",
        3.0,
        purpose="seconds after which an idle connection to Redis is checked before use",
        example="3",
        ge=0,
    )
    metrics_port: int = setting(
        "PP_METRICS_PORT",
        8000,
        purpose="port of metrics and health, 0 for none",
        example="8000",
        ge=0,
        le=65535,
    )
    debug_logs: bool = setting(
        "DEBUG_LOGS", False, purpose="whether to log every copy and answer", example="1"
    )
    service_log_levels: LogLevels = setting(
        "SERVICE_LOG_LEVELS",
        default_factory=dict,
        purpose="levels of loggers, '.' for the root; the others keep theirs",
        example="'.=WARNING services=DEBUG'",
    )

    @classmethod
    def check_together(cls, values: Mapping[str, Any]) -> list[str]:
        """Return what is wrong with the variables taken together."""
        faults = super().check_together(values)
        if str(values.get("PLATFORM", "")).lower() == Platform.KEDA and "REDIS_HOST" not in given(values):
            faults.append(cls.explain("REDIS_HOST", "is not set but PLATFORM is keda"))
        return faults

    @property
    def log_levels(self) -> dict[str, int]:
        """Level by logger ("" is the root), the defaults included."""
        return logging_levels("DEBUG" if self.debug_logs else "INFO", self.service_log_levels)


def load_fan_out_settings(
    env: Mapping[str, str] | None = None, file: str | Path | None = None
) -> FanOutSettings:
    """Read the settings of the fan-out from the environment and a file.

    Parameters
    ----------
    env : mapping, optional
        The environment; that of the process by default.
    file : path-like, optional
        The settings file, of which the section ``fan-out`` holds for it; by
        default what ``PP_SETTINGS_FILE`` names.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if anything is missing or wrong; the text has a line for each
        variable.
    """
    environment, from_file = merge_variables("fan-out", env=env, file=file)
    known = {*OTHER_VARIABLES, *ServiceSettings.variables()}
    return load_settings(FanOutSettings, environment=environment, from_file=from_file, known=known)
