"""Settings of the writer service."""

from __future__ import annotations

__all__ = ["WriterSettings", "load_writer_settings"]

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, SecretStr

from config.broker_settings import SecurityProtocol
from config.environment import OTHER_VARIABLES
from config.loading import Settings, load_settings, merge_variables, setting
from config.settings import ServiceSettings
from config.values import (
    LOG_LEVELS,
    Brokers,
    LogLevels,
    OptionalText,
    Seconds,
    Text,
    logging_levels,
)


def _level(value: Any) -> Any:
    name = str(value).strip().upper()
    if name not in LOG_LEVELS:
        raise ValueError(f"is no level of a logger; known are {', '.join(LOG_LEVELS)}")
    return name


class WriterSettings(Settings):
    """Settings of the writer service."""

    butler_repository: Text = setting(
        "BUTLER_REPOSITORY",
        purpose="central repo that it writes to",
        example="/repo/main",
    )
    kafka_cluster: Brokers = setting(
        "KAFKA_CLUSTER", purpose="Kafka of messages and events", example="kafka:9092"
    )
    kafka_topic: Text = setting(
        "KAFKA_TOPIC", purpose="topic of the services' messages", example="butler-writer"
    )
    kafka_output_topic: Text = setting(
        "KAFKA_OUTPUT_TOPIC", purpose="topic of its own events", example="butler-writer-ingestion-events"
    )
    kafka_username: OptionalText = setting(
        "KAFKA_USERNAME", None, purpose="user at this Kafka", example="writer"
    )
    kafka_password: SecretStr = setting(
        "KAFKA_PASSWORD", SecretStr(""), purpose="that user's password", example="..."
    )
    kafka_security_protocol: SecurityProtocol = setting(
        "KAFKA_SECURITY_PROTOCOL",
        None,
        purpose="protocol of this Kafka instead of the usual one",
        example="sasl_ssl",
    )
    kafka_verify_tls: bool = setting(
        "PP_KAFKA_VERIFY_TLS",
        True,
        purpose="whether the TLS certificates of Kafka brokers are verified",
        example="0",
    )
    dead_letter_topic: OptionalText = setting(
        "PP_WRITER_DEAD_LETTER_TOPIC",
        None,
        purpose="topic for messages that are set aside; by default KAFKA_TOPIC with -dead-letter",
        example="butler-writer-dead-letter",
    )
    output_dataset_list_directory: Text = setting(
        "OUTPUT_DATASET_LIST_DIRECTORY",
        purpose="where the lists of the batches' datasets go, a directory or an s3:// prefix",
        example="s3://lists/prompt",
    )
    batch_size: int = setting(
        "PP_WRITER_BATCH_SIZE", 500, purpose="messages in a batch at most", example="500", ge=1
    )
    batch_wait: Seconds = setting(
        "PP_WRITER_BATCH_WAIT",
        0.5,
        purpose="seconds that a message waits for company in its batch",
        example="0.5",
    )
    register_dataset_types: bool = setting(
        "REGISTER_DATASET_TYPES",
        False,
        purpose="whether dataset types that messages define are registered",
        example="1",
    )
    metrics_port: int = setting(
        "PP_METRICS_PORT",
        8000,
        purpose="port of metrics and health, 0 for none",
        example="8000",
        ge=0,
        le=65535,
    )
    kafka_debug: bool = setting(
        "KAFKA_DEBUG", False, purpose="whether the Kafka client logs all that it does", example="1"
    )
    writer_debug_level: Annotated[str, BeforeValidator(_level)] = setting(
        "WRITER_DEBUG_LEVEL", "INFO", purpose="level of the writer's own log", example="DEBUG"
    )
    service_log_levels: LogLevels = setting(
        "SERVICE_LOG_LEVELS",
        default_factory=dict,
        purpose="levels of loggers, '.' for the root; the others keep theirs",
        example="'.=WARNING lsst=INFO'",
    )

    @classmethod
    def check_together(cls, values: Mapping[str, Any]) -> list[str]:
        """Return what is wrong with the variables taken together."""
        needs = {"KAFKA_USERNAME": ["KAFKA_PASSWORD"], "KAFKA_PASSWORD": ["KAFKA_USERNAME"]}
        return cls.explain_missing(values, needs)

    @property
    def dead_letters(self) -> str:
        """The topic for messages that are set aside."""
        return self.dead_letter_topic or f"{self.kafka_topic}-dead-letter"

    @property
    def log_levels(self) -> dict[str, int]:
        """Level by logger ("" is the root), the defaults included."""
        theirs = {"kafka": "DEBUG" if self.kafka_debug else "WARNING", "lsst": "WARNING"}
        return logging_levels(self.writer_debug_level, theirs, self.service_log_levels)


def load_writer_settings(
    env: Mapping[str, str] | None = None, file: str | Path | None = None
) -> WriterSettings:
    """Read the settings of the writer from the environment and a file.

    Parameters
    ----------
    env : mapping, optional
        The environment; that of the process by default.
    file : path-like, optional
        The settings file, of which the section ``writer`` holds for it; by
        default what ``PP_SETTINGS_FILE`` names.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if anything is missing or wrong; the text has a line for each
        variable.
    """
    environment, from_file = merge_variables("writer", env=env, file=file)
    known = {*OTHER_VARIABLES, *ServiceSettings.variables()}
    return load_settings(WriterSettings, environment=environment, from_file=from_file, known=known)
