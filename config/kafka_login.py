"""How to log in at the Kafka that has the nextVisits."""

from __future__ import annotations

__all__ = ["KafkaLogin", "load_kafka_login"]

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from config.broker_settings import SecurityProtocol
from config.loading import Settings, load_settings, merge_variables, setting
from config.values import OptionalText, Text


class KafkaLogin(Settings):
    """Who we are at this Kafka, and how it is spoken to; the fan-out and the
    simulator, which writes what the fan-out reads, share it.
    """

    sasl_username: OptionalText = setting(
        "SASL_USERNAME", None, purpose="user at this Kafka", example="fan-out"
    )
    sasl_password: SecretStr = setting(
        "SASL_PASSWORD", SecretStr(""), purpose="that user's password", example="..."
    )
    sasl_mechanism: Text = setting(
        "SASL_MECHANISM", "SCRAM-SHA-512", purpose="how that user logs in", example="SCRAM-SHA-512"
    )
    security_protocol: SecurityProtocol = setting(
        "SECURITY_PROTOCOL",
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

    @classmethod
    def check_together(cls, values: Mapping[str, Any]) -> list[str]:
        """Return what is wrong with the variables taken together."""
        needs = {"SASL_USERNAME": ["SASL_PASSWORD"], "SASL_PASSWORD": ["SASL_USERNAME"]}
        if str(values.get("SECURITY_PROTOCOL") or "").strip().lower().startswith("sasl"):
            needs["SECURITY_PROTOCOL"] = ["SASL_USERNAME"]
        return cls.explain_missing(values, needs)


def load_kafka_login(env: Mapping[str, str] | None = None, file: str | Path | None = None) -> KafkaLogin:
    """Read how to log in from the environment and a file.

    Parameters
    ----------
    env : mapping, optional
        The environment; that of the process by default.
    file : path-like, optional
        The settings file, of which the section ``fan-out`` holds; by default
        what ``PP_SETTINGS_FILE`` names.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if a setting is wrong; the text names every one.
    """
    environment, from_file = merge_variables("fan-out", env=env, file=file)
    # What else the file holds is none of this one's business.
    return load_settings(KafkaLogin, environment=environment, from_file=from_file, known=from_file)
