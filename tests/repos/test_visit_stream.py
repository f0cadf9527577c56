"""The stream on a real Redis: what each consumer gets, and what stays."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from models.errors import InvalidConfiguration, TemporarilyUnavailable
from models.stream_claims import ClaimedEntry
from repos.visit_stream import RedisAccess, RedisVisitStream
from simulator.servers.process import free_port

#: Seconds after which an entry may be taken over here: none of these tests
#: takes so long, so time passes for an entry when `Stream.leave_idle` says so.
IDLE = 300.0
GROUP = "workers"

MakeStream = Callable[..., RedisVisitStream]


class Stream:
    """A stream with a plain client to look at it from outside."""

    def __init__(self, host_port: str) -> None:
        host, _, port = host_port.partition(":")
        self.access = RedisAccess(host=host, port=int(port))
        self.client: Any = redis.Redis(host=host, port=int(port), decode_responses=True)
        self.name = uuid.uuid4().hex
        self.opened: list[RedisVisitStream] = []

    def consumer(self, name: str, **changes: Any) -> RedisVisitStream:
        arguments: dict[str, Any] = {
            "access": self.access,
            "stream": self.name,
            "group": GROUP,
            "claim_idle": IDLE,
        }
        made = RedisVisitStream(consumer=name, **arguments | changes)
        self.opened.append(made)
        return made

    def add(self, **fields: str) -> str:
        entry_id: str = self.client.xadd(self.name, fields or {"groupId": "g"})
        return entry_id

    def pending(self) -> list[tuple[str, str, int]]:
        found = self.client.xpending_range(self.name, GROUP, "-", "+", 100)
        return [(f["message_id"], f["consumer"], f["times_delivered"]) for f in found]

    def idle(self, entry_id: str) -> float:
        """Seconds for which there was no sign of life for a pending entry."""
        [found] = self.client.xpending_range(self.name, GROUP, entry_id, entry_id, 1)
        return float(found["time_since_delivered"]) / 1000

    def leave_idle(self, entry_id: str, seconds: float = IDLE) -> None:
        """Have nothing heard of a pending entry for some time."""
        [found] = self.client.xpending_range(self.name, GROUP, entry_id, entry_id, 1)
        idle = round(seconds * 1000)
        self.client.xclaim(self.name, GROUP, found["consumer"], 0, [entry_id], idle=idle, justid=True)

    def wait_blocked(self) -> None:
        """Wait until somebody waits for an entry."""
        deadline = time.monotonic() + 60
        while not self.client.info("clients")["blocked_clients"]:
            assert time.monotonic() < deadline, "nobody waits"
            time.sleep(0.01)

    def consumers(self) -> set[str]:
        return {c["name"] for c in self.client.xinfo_consumers(self.name, GROUP)}


@pytest.fixture
def stream(redis_server: Any) -> Iterator[Stream]:
    made = Stream(redis_server.host_port)
    yield made
    for consumer in made.opened:
        consumer.close()
    made.client.delete(made.name)


def _opened(stream: Stream, *names: str) -> list[RedisVisitStream]:
    consumers = [stream.consumer(name) for name in names]
    for consumer in consumers:
        consumer.open()
    return consumers


def test_a_new_group_begins_at_the_end_of_the_stream(stream: Stream) -> None:
    stream.add()
    (ours,) = _opened(stream, "ours")
    assert ours.read(0.01) is None
    ours.open()
    entry_id = stream.add(groupId="new")
    assert ours.read(0.01) == ClaimedEntry(entry_id=entry_id, fields={b"groupId": b"new"}, deliveries=1)


def test_the_group_can_come_before_the_stream(stream: Stream) -> None:
    (ours,) = _opened(stream, "ours")
    assert stream.client.xlen(stream.name) == 0
    assert ours.read(0.01) is None


def test_each_entry_goes_to_one_consumer_and_stays_in_the_stream(stream: Stream) -> None:
    one, two = _opened(stream, "one", "two")
    first, second = stream.add(), stream.add()
    got = [one.read(0.01), two.read(0.01), one.read(0.01)]
    assert [entry and entry.entry_id for entry in got] == [first, second, None]
    one.acknowledge(first)
    assert stream.pending() == [(second, "two", 1)]
    assert stream.client.xlen(stream.name) == 2


def test_waiting_ends_with_an_entry(stream: Stream) -> None:
    (ours,) = _opened(stream, "ours")
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(lambda: next(entry for _ in range(100) if (entry := ours.read(0.9))))
        stream.wait_blocked()
        entry_id = stream.add()
        assert waiting.result().entry_id == entry_id


def test_what_was_idle_for_long_is_taken_over_once(stream: Stream) -> None:
    dead, one, two = _opened(stream, "dead", "one", "two")
    entry_id = stream.add(groupId="g")
    dead.read(0.01)
    assert one.take_over() is None
    stream.leave_idle(entry_id)
    taken = [one.take_over(), two.take_over()]
    assert taken == [ClaimedEntry(entry_id=entry_id, fields={b"groupId": b"g"}, deliveries=2), None]
    # Nothing of the dead consumer is left.
    assert stream.consumers() == {"one"}


def test_a_consumer_with_other_entries_stays(stream: Stream) -> None:
    dead, one = _opened(stream, "dead", "one")
    for entry_id in (stream.add(), second := stream.add()):
        dead.read(0.01)
        stream.leave_idle(entry_id)
    dead.refresh(second)
    assert one.take_over() is not None
    assert stream.consumers() == {"dead", "one"}


def test_signs_of_life_keep_a_claim_and_do_not_count_as_deliveries(stream: Stream) -> None:
    alive, other = _opened(stream, "alive", "other")
    entry_id = stream.add()
    alive.read(0.01)
    stream.leave_idle(entry_id)
    assert alive.refresh(entry_id)
    assert stream.idle(entry_id) < IDLE
    assert other.take_over() is None
    assert stream.pending() == [(entry_id, "alive", 1)]


def test_a_lost_claim_is_not_taken_back(stream: Stream) -> None:
    slow, other = _opened(stream, "slow", "other")
    entry_id = stream.add()
    slow.read(0.01)
    stream.leave_idle(entry_id)
    other.take_over()
    assert not slow.refresh(entry_id)
    slow.put_back(entry_id, deliveries=0, again_in=0)
    assert stream.pending() == [(entry_id, "other", 2)]
    # Its result counts all the same.
    slow.acknowledge(entry_id)
    assert stream.pending() == []
    assert not other.refresh(entry_id)


def test_what_is_put_back_comes_when_it_is_to(stream: Stream) -> None:
    one, two = _opened(stream, "one", "two")
    entry_id = stream.add()
    one.read(0.01)
    one.put_back(entry_id, deliveries=0, again_in=IDLE / 2)
    assert stream.pending() == [(entry_id, "one", 0)]
    assert two.take_over() is None
    assert IDLE / 2 <= stream.idle(entry_id) < IDLE
    stream.leave_idle(entry_id)
    taken = two.take_over()
    assert taken is not None
    assert taken.deliveries == 1
    two.put_back(entry_id, deliveries=1, again_in=0)
    taken = one.take_over()
    assert taken is not None
    assert taken.deliveries == 2


def test_an_answer_that_was_lost_is_recovered(stream: Stream) -> None:
    (ours,) = _opened(stream, "ours")
    known, lost = stream.add(groupId="known"), stream.add(groupId="lost")
    entry = ours.read(0.01)
    assert entry is not None
    stream.client.xreadgroup(GROUP, "ours", {stream.name: ">"}, count=1)
    assert ours.recover({known: 1}) == ClaimedEntry(entry_id=lost, fields={b"groupId": b"lost"}, deliveries=1)
    assert ours.recover({known: 1, lost: 1}) is None
    # Delivered once more, in an answer that was lost.
    stream.client.xclaim(stream.name, GROUP, "ours", 0, [known])
    again = ours.recover({known: 1, lost: 1})
    assert again is not None
    assert (again.entry_id, again.deliveries) == (known, 2)


def test_deleted_entries_are_dropped(stream: Stream) -> None:
    dead, other = _opened(stream, "dead", "other")
    first, second, third = stream.add(), stream.add(), stream.add()
    for _ in range(3):
        dead.read(0.01)
    stream.client.xdel(stream.name, first, second)
    assert dead.recover({second: 1, third: 1}) is None
    assert [entry_id for entry_id, _, _ in stream.pending()] == [second, third]
    for entry_id in (second, third):
        stream.leave_idle(entry_id)
    taken = other.take_over()
    assert taken is not None
    assert taken.entry_id == third
    assert [entry_id for entry_id, _, _ in stream.pending()] == [third]


def test_a_consumer_leaves_when_nothing_of_it_is_pending(stream: Stream) -> None:
    one, two = _opened(stream, "one", "two")
    entry_id = stream.add()
    one.read(0.01)
    two.read(0.01)
    assert two.leave()
    assert stream.consumers() == {"one"}
    assert not one.leave()
    assert stream.pending() == [(entry_id, "one", 1)]
    one.acknowledge(entry_id)
    assert one.leave()
    assert one.leave()
    assert stream.consumers() == set()


def test_a_group_that_is_gone_is_made_anew(stream: Stream, caplog: pytest.LogCaptureFixture) -> None:
    (ours,) = _opened(stream, "ours")
    for use in (
        lambda: ours.read(0.01),
        ours.take_over,
        lambda: ours.recover({}),
        lambda: ours.refresh("1-1"),
        lambda: ours.put_back("1-1", deliveries=1, again_in=0),
        lambda: ours.acknowledge("1-1"),
        ours.leave,
    ):
        stream.client.delete(stream.name)
        use()
    stream.client.delete(stream.name)
    assert ours.read(0.01) is None
    assert "is gone; it is made anew" in caplog.text
    entry_id = stream.add()
    entry = ours.read(0.01)
    assert entry is not None
    assert entry.entry_id == entry_id


def test_a_stream_that_goes_while_it_is_waited_for_is_made_anew(stream: Stream) -> None:
    (ours,) = _opened(stream, "ours")
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(ours.read, 5.0)
        stream.wait_blocked()
        stream.client.delete(stream.name)
        assert waiting.result() is None
    entry_id = stream.add()
    entry = ours.read(0.01)
    assert entry is not None
    assert entry.entry_id == entry_id


def test_a_redis_that_is_away_is_temporary(stream: Stream) -> None:
    port = free_port()
    ours = stream.consumer("ours", access=RedisAccess(host="127.0.0.1", port=port))
    for use in (ours.open, ours.take_over, ours.leave, lambda: ours.read(0.01), lambda: ours.refresh("1-1")):
        with pytest.raises(TemporarilyUnavailable, match=f"127.0.0.1:{port} .REDIS_STREAM_HOST. cannot be"):
            use()


def test_a_redis_that_does_not_answer_is_temporary(stream: Stream) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        ours = stream.consumer("ours", access=RedisAccess(host="127.0.0.1", port=port), claim_idle=1.0)
        with pytest.raises(TemporarilyUnavailable):
            ours.read(0.01)


def test_a_host_that_nobody_knows_is_named(stream: Stream) -> None:
    ours = stream.consumer("ours", access=RedisAccess(host="no-such-host.invalid"))
    with pytest.raises(
        TemporarilyUnavailable, match=r"no-such-host\.invalid:6379.*(is the name right|resol)"
    ):
        ours.open()


def test_wrong_credentials_are_no_matter_of_time(stream: Stream) -> None:
    stream.client.acl_setuser(
        f"user-{stream.name}", enabled=True, passwords=["+right"], categories=["+@all"], keys=["*"]
    )
    host, port = stream.access.host, stream.access.port
    try:
        for user, password in ((f"user-{stream.name}", "wrong"), ("nobody", "right")):
            access = RedisAccess(host=host, port=port, username=user, password=password)
            with pytest.raises(InvalidConfiguration, match="PP_REDIS_STREAM_PASSWORD"):
                stream.consumer("ours", access=access).open()
        access = RedisAccess(host=host, port=port, username=f"user-{stream.name}", password="right")
        stream.consumer("ours", access=access).open()
        assert "right" not in repr(access)
    finally:
        stream.client.acl_deluser(f"user-{stream.name}")


def test_a_user_who_may_not_is_no_matter_of_time(stream: Stream) -> None:
    stream.client.acl_setuser(
        f"user-{stream.name}", enabled=True, passwords=["+right"], commands=["+get"], keys=["*"]
    )
    access = RedisAccess(stream.access.host, stream.access.port, f"user-{stream.name}", "right")
    try:
        with pytest.raises(InvalidConfiguration, match="refuses this worker"):
            stream.consumer("ours", access=access).open()
    finally:
        stream.client.acl_deluser(f"user-{stream.name}")


def test_a_name_that_is_no_stream_is_told(stream: Stream) -> None:
    stream.client.set(stream.name, "text")
    ours = stream.consumer("ours")
    for use in (ours.open, lambda: ours.read(0.01)):
        with pytest.raises(InvalidConfiguration, match="REDIS_STREAM_NAME"):
            use()


def test_an_open_redis_takes_no_notice_of_a_password(stream: Stream) -> None:
    """That is a fault too: someone believes it to be protected."""
    access = RedisAccess(host=stream.access.host, port=stream.access.port, password="something")
    with pytest.raises(InvalidConfiguration):
        stream.consumer("ours", access=access).open()
