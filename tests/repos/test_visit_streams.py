"""Writing visits to Redis streams."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
import redis

from models.errors import TemporarilyUnavailable
from models.stream_entries import from_stream_entry
from models.visits import FannedOutVisit, SummitVisit
from repos.visit_streams import RedisVisitStreams
from simulator.servers.redis import RedisServer
from tests.models.test_visits import summit_message
from tests.servers import unique_name

pytestmark = pytest.mark.servers

COPIES = [SummitVisit.parse(summit_message()).fan_out(n) for n in (0, 4, 94)]


def append(server: RedisServer, stream: str, visits: Sequence[FannedOutVisit], **options: Any) -> None:
    host, _, port = server.host_port.partition(":")

    async def run() -> None:
        streams = RedisVisitStreams(
            host=host, port=int(port), retry_delay=0.01, retry_delay_cap=0.02, **options
        )
        try:
            await streams.append(stream, visits)
        finally:
            await streams.close()

    asyncio.run(run())


@pytest.fixture
def client(redis_server: RedisServer) -> redis.Redis:
    host, _, port = redis_server.host_port.partition(":")
    return redis.Redis(host=host, port=int(port))


def test_one_entry_for_each_copy(redis_server: RedisServer, client: redis.Redis) -> None:
    stream = unique_name()
    append(redis_server, stream, COPIES)
    append(redis_server, stream, COPIES[:1])
    entries: Any = client.xrange(stream)
    assert [from_stream_entry(fields) for _, fields in entries] == [*COPIES, COPIES[0]]


def test_nothing_is_ever_trimmed(redis_server: RedisServer, client: redis.Redis) -> None:
    stream = unique_name()
    for _ in range(60):
        append(redis_server, stream, COPIES)
    assert client.xlen(stream) == 180


def test_a_key_that_is_no_stream_is_named(redis_server: RedisServer, client: redis.Redis) -> None:
    name = unique_name()
    client.set(name, "taken")
    with pytest.raises(TemporarilyUnavailable, match=rf"the stream {name} of Redis .* cannot be written"):
        append(redis_server, name, COPIES)


def test_a_wrong_password_is_named(redis_server: RedisServer) -> None:
    with pytest.raises(TemporarilyUnavailable, match="cannot be written"):
        append(redis_server, unique_name(), COPIES, username="nobody", password="wrong")


def test_redis_may_go_away_and_come_back(redis_server: RedisServer, client: redis.Redis) -> None:
    stream = unique_name()
    redis_server.stop()
    try:
        with pytest.raises(TemporarilyUnavailable, match="check REDIS_HOST"):
            append(redis_server, stream, COPIES, retry_count=1)
    finally:
        redis_server.start()
    append(redis_server, stream, COPIES)
    assert client.xlen(stream) >= 3
