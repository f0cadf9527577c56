"""Settings of the fan-out."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.fan_out_settings import load_fan_out_settings
from config.instrument_routes import Platform
from models.errors import InvalidConfiguration

NEEDED = {
    "SUPPORTED_INSTRUMENTS": "LATISS LSSTCam",
    "INSTRUMENT_CONFIG_FILE": "/etc/instruments.yaml",
    "KAFKA_CLUSTER": "kafka:9092",
    "CONSUMER_GROUP": "fan-out",
    "NEXT_VISIT_TOPIC": "next-visit",
}


def test_defaults_are_those_of_the_contract() -> None:
    settings = load_fan_out_settings(env=NEEDED)
    assert settings.supported_instruments == ("LATISS", "LSSTCam")
    assert settings.platform is Platform.KNATIVE
    assert settings.max_fan_out_messages == 1024
    assert settings.message_expiration == 3600
    assert settings.redis_retry_delay_cap == 5
    assert settings.redis_retry_initial_delay == 1
    assert settings.redis_retry_count == 3
    assert settings.redis_health_check_interval == 3
    assert settings.metrics_port == 8000
    assert settings.retry_knative_requests is False
    assert (
        settings.log_levels["services"]
        > load_fan_out_settings(env={**NEEDED, "DEBUG_LOGS": "true"}).log_levels["services"]
    )


def test_brokers_and_registries() -> None:
    clusters = ["kafka", "kafka:9092", "a:1, b:2", "[::1]:9092,10.0.0.1:9092"]
    for cluster in clusters:
        assert load_fan_out_settings(env={**NEEDED, "KAFKA_CLUSTER": cluster}).kafka_cluster == cluster
    for url in ("http://registry:8081", "https://user:secret@registry/api/"):
        settings = load_fan_out_settings(env={**NEEDED, "KAFKA_SCHEMA_REGISTRY_URL": url})
        assert settings.kafka_schema_registry_url == url
        assert "secret" not in repr(settings)


def test_a_wrong_registry_is_named_without_its_password() -> None:
    with pytest.raises(InvalidConfiguration, match="KAFKA_SCHEMA_REGISTRY_URL: ") as refusal:
        load_fan_out_settings(env={**NEEDED, "KAFKA_SCHEMA_REGISTRY_URL": "http://user:secret@registry:port"})
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("name", NEEDED)
def test_what_is_not_set_is_named_with_an_example(name: str) -> None:
    with pytest.raises(InvalidConfiguration, match=rf"{name}: is not set .*for example {name}="):
        load_fan_out_settings(env={k: v for k, v in NEEDED.items() if k != name})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SUPPORTED_INSTRUMENTS", " "),
        ("PLATFORM", "argo"),
        ("OFFSET", "beginning"),
        ("MAX_FAN_OUT_MESSAGES", "0"),
        ("RETRY_KNATIVE_REQUESTS", "perhaps"),
        ("REDIS_HOST", "redis:port"),
        ("SECURITY_PROTOCOL", "tls"),
        ("KAFKA_CLUSTER", "kafka:port"),
        ("KAFKA_CLUSTER", "kafka:9092,"),
        ("KAFKA_CLUSTER", "[::1"),
        ("KAFKA_SCHEMA_REGISTRY_URL", "registry:8081"),
        ("KAFKA_SCHEMA_REGISTRY_URL", "http://registry:port"),
        ("MESSAGE_EXPIRATION", "-1"),
    ],
)
def test_what_is_wrong_is_named(name: str, value: str) -> None:
    with pytest.raises(InvalidConfiguration, match=f"{name}: "):
        load_fan_out_settings(env={**NEEDED, name: value})


def test_what_belongs_together() -> None:
    with pytest.raises(InvalidConfiguration, match="REDIS_HOST: is not set but PLATFORM is keda"):
        load_fan_out_settings(env={**NEEDED, "PLATFORM": "keda"})
    with pytest.raises(InvalidConfiguration, match="SASL_PASSWORD: is not set but SASL_USERNAME is"):
        load_fan_out_settings(env={**NEEDED, "SASL_USERNAME": "me"})
    settings = load_fan_out_settings(env={**NEEDED, "PLATFORM": "Keda", "REDIS_HOST": "redis"})
    assert str(settings.redis_host) == "redis:6379"


def test_one_file_for_all_components(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    lines = [f"{name}: {value}" for name, value in NEEDED.items()]
    file.write_text("\n".join([*lines, "RUBIN_INSTRUMENT: LATISS", "fan-out:", "  OFFSET: EARLIEST"]))
    assert load_fan_out_settings(env={}, file=file).offset == "earliest"
