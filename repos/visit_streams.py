"""Writing fanned-out visits to Redis streams."""

from __future__ import annotations

__all__ = ["RedisVisitStreams"]

from collections.abc import Sequence

import redis.asyncio
from redis import exceptions as trouble
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from models.errors import TemporarilyUnavailable
from models.stream_entries import to_stream_entry
from models.visits import FannedOutVisit

#: Seconds within which a connection must come about, and an answer.
_CONNECT_TIMEOUT = 5.0
_ANSWER_TIMEOUT = 10.0


class RedisVisitStreams:
    """A `services.visit_delivery.VisitStreams`.

    Entries are never trimmed: the autoscaler reads the lag.

    Parameters
    ----------
    host, port
        Of the Redis server.
    username, password : `str`, optional
    tls : `bool`, optional
    retry_delay : `float`, optional
        First pause in seconds between two tries; each is twice the last.
    retry_delay_cap : `float`, optional
        Longest such pause.
    retry_count : `int`, optional
        Further tries.
    health_check_interval : `float`, optional
        Seconds after which an idle connection is checked before use.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int = 6379,
        username: str | None = None,
        password: str | None = None,
        tls: bool = False,
        retry_delay: float = 1.0,
        retry_delay_cap: float = 5.0,
        retry_count: int = 3,
        health_check_interval: float = 3.0,
    ) -> None:
        self._where = f"Redis at {host}:{port}"
        self._redis = redis.asyncio.Redis(
            host=host,
            port=port,
            username=username,
            password=password,
            ssl=tls,
            socket_connect_timeout=_CONNECT_TIMEOUT,
            socket_timeout=_ANSWER_TIMEOUT,
            retry=Retry(ExponentialBackoff(cap=retry_delay_cap, base=retry_delay), retry_count),
            retry_on_error=[trouble.ConnectionError, trouble.TimeoutError, trouble.BusyLoadingError],
            # Redis checks in whole numbers as well as in others.
            health_check_interval=health_check_interval,  # type: ignore[arg-type]
        )

    async def append(self, stream: str, visits: Sequence[FannedOutVisit]) -> None:
        """Append visits to a stream, all or none.

        If the connection breaks before Redis answers, they may be there and
        are written again: a visit that comes twice is processed once.

        Parameters
        ----------
        stream : `str`
        visits : sequence of `models.visits.FannedOutVisit`

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if it is not known that they are there.
        """
        try:
            async with self._redis.pipeline(transaction=True) as pipeline:
                for visit in visits:
                    pipeline.xadd(stream, to_stream_entry(visit))  # type: ignore[arg-type]
                await pipeline.execute()
        except (trouble.RedisError, OSError) as error:
            raise TemporarilyUnavailable(
                f"the stream {stream} of {self._where} cannot be written: {error}; "
                "check REDIS_HOST, that it runs and that the key is a stream"
            ) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()
