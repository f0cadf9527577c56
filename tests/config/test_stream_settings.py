from __future__ import annotations

import pytest

from config.settings import ServiceSettings, load_service_settings
from config.stream_settings import RedisAddress, StreamSettings, load_stream_settings, parse_redis_address
from models.errors import InvalidConfiguration

VARIABLES = {
    "RUBIN_INSTRUMENT": "DemoCam",
    "SKYMAP": "demo",
    "CENTRAL_REPO": "/data/central",
    "CONFIG_APDB": "apdb.yaml",
    "MAIN_PIPELINES_CONFIG": "- {pipelines: [A.yaml]}",
    "PREPROCESSING_PIPELINES_CONFIG": "- {pipelines: [P.yaml]}",
    "PP_IMAGE_DIRECTORY": "/data/images",
    "REDIS_STREAM_HOST": "redis",
    "REDIS_STREAM_NAME": "instrument:democam",
    "REDIS_STREAM_CONSUMER_GROUP": "workers",
}


def test_defaults_are_those_of_the_contract() -> None:
    settings = load_stream_settings(VARIABLES)
    assert settings.redis_stream_host == RedisAddress("redis", 6379)
    assert settings.redis_retry_delay == 30
    assert settings.redis_claim_idle == 60
    assert settings.fanned_out_msg_listen_timeout == 300
    # It is a service besides.
    assert settings.rubin_instrument == "DemoCam"
    assert settings.main_pipelines_config.entries[0].pipelines == ("A.yaml",)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("redis", ("redis", 6379)),
        ("redis:6380", ("redis", 6380)),
        ("10.0.0.7:1", ("10.0.0.7", 1)),
        ("[::1]", ("::1", 6379)),
        ("[::1]:7000", ("::1", 7000)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    parsed = parse_redis_address(text)
    assert parsed == address
    assert parse_redis_address(str(parsed)) == parsed


@pytest.mark.parametrize(
    "text",
    ["", ":6379", "redis:port", "redis:70000", "redis://redis", "redis/0", "user@redis", "redis?a", "red is"],
)
def test_what_is_no_address_is_told(text: str) -> None:
    with pytest.raises(
        InvalidConfiguration, match=r"REDIS_STREAM_HOST: .*for example REDIS_STREAM_HOST=redis:6379"
    ):
        load_stream_settings(VARIABLES | {"REDIS_STREAM_HOST": text})


@pytest.mark.parametrize("missing", [name for name in VARIABLES if name.startswith("REDIS")])
def test_what_is_missing_is_told_together_with_the_rest(missing: str) -> None:
    variables = {name: value for name, value in VARIABLES.items() if name not in (missing, "SKYMAP")}
    with pytest.raises(InvalidConfiguration, match=f"(?s)SKYMAP: is not set.*{missing}: is not set"):
        load_stream_settings(variables)


@pytest.mark.parametrize("value", ["0", "0.5", "nan", "inf", "-60"])
def test_a_claim_must_stand_for_a_while(value: str) -> None:
    with pytest.raises(InvalidConfiguration, match="REDIS_CLAIM_IDLE"):
        load_stream_settings(VARIABLES | {"REDIS_CLAIM_IDLE": value})


def test_one_file_serves_service_and_worker() -> None:
    assert set(StreamSettings.variables()) > set(ServiceSettings.variables())
    assert type(load_service_settings(VARIABLES)) is ServiceSettings


def test_passwords_are_not_shown() -> None:
    settings = load_stream_settings(VARIABLES | {"PP_REDIS_STREAM_PASSWORD": "a-secret"})
    assert settings.redis_stream_password.get_secret_value() == "a-secret"
    assert "a-secret" not in repr(settings)
