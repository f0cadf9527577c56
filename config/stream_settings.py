"""Settings of the worker that takes its visits from a Redis stream."""

from __future__ import annotations

__all__ = ["RedisAddress", "StreamSettings", "load_stream_settings", "parse_redis_address"]

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlsplit

from pydantic import BeforeValidator, SecretStr

from config.loading import setting
from config.settings import ServiceSettings, load_visit_settings
from config.values import OptionalText, Seconds, Text

#: Port of Redis if none is named.
_REDIS_PORT = 6379


class RedisAddress(NamedTuple):
    """Where a Redis server listens."""

    host: str
    port: int = _REDIS_PORT

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_redis_address(text: str) -> RedisAddress:
    """Read ``host`` or ``host:port``; an IPv6 address stands in brackets.

    Raises
    ------
    ValueError
        Raised if it is neither.
    """
    parts = urlsplit(f"//{text.strip()}")
    odd = parts.username is not None or parts.netloc != text.strip() or any(map(str.isspace, parts.netloc))
    if not parts.hostname or odd:
        raise ValueError(f"{text!r} is neither host nor host:port")
    try:
        port = parts.port
    except ValueError:
        raise ValueError(f"{text!r} has no valid port") from None
    return RedisAddress(parts.hostname, _REDIS_PORT if port is None else port)


def _parse_address(value: Any) -> Any:
    return parse_redis_address(value) if isinstance(value, str) else value


class StreamSettings(ServiceSettings):
    """Settings of the stream worker: those of the service and of its stream."""

    redis_stream_host: Annotated[RedisAddress, BeforeValidator(_parse_address)] = setting(
        "REDIS_STREAM_HOST", purpose="Redis that has the stream, host or host:port", example="redis:6379"
    )
    redis_stream_name: Text = setting(
        "REDIS_STREAM_NAME", purpose="stream of the fanned-out visits", example="instrument:democam"
    )
    redis_stream_consumer_group: Text = setting(
        "REDIS_STREAM_CONSUMER_GROUP",
        purpose="consumer group that the workers share",
        example="democam_consumer_group",
    )
    redis_stream_username: OptionalText = setting(
        "PP_REDIS_STREAM_USERNAME",
        None,
        purpose="user at this Redis, if not the default one",
        example="worker",
    )
    redis_stream_password: SecretStr = setting(
        "PP_REDIS_STREAM_PASSWORD", SecretStr(""), purpose="password at this Redis", example="..."
    )
    redis_stream_tls: bool = setting(
        "PP_REDIS_STREAM_TLS", False, purpose="whether to speak TLS with this Redis", example="1"
    )
    redis_retry_delay: Seconds = setting(
        "REDIS_RETRY_DELAY", 30.0, purpose="seconds between two tries of Redis", example="30"
    )
    redis_claim_idle: float = setting(
        "REDIS_CLAIM_IDLE",
        60.0,
        purpose="seconds without a sign of life after which a worker's visit is taken over",
        example="60",
        ge=1,
        allow_inf_nan=False,
    )
    fanned_out_msg_listen_timeout: Seconds = setting(
        "FANNED_OUT_MSG_LISTEN_TIMEOUT",
        300.0,
        purpose="seconds without a visit after which the worker ends",
        example="300",
    )


def load_stream_settings(
    env: Mapping[str, str] | None = None, file: str | Path | None = None
) -> StreamSettings:
    """Read the settings of the stream worker from the environment and a file.

    Parameters and errors are those of `config.settings.load_service_settings`;
    in the file, the section ``service`` holds for this worker, too.
    """
    return load_visit_settings(StreamSettings, env=env, file=file)
