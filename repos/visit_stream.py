"""The Redis stream of fanned-out visits, as one consumer of its group sees it.

Redis keeps, for each entry that was handed out and not acknowledged, its
consumer, its idle time and how often it was delivered. Those three are the
whole state of a retry: whatever dies, they remain.
"""

from __future__ import annotations

__all__ = ["RedisAccess", "RedisVisitStream"]

import logging
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError
from redis.retry import Retry

from models.errors import InvalidConfiguration, TemporarilyUnavailable
from models.stream_claims import ClaimedEntry

_log = logging.getLogger(__name__)

#: Seconds that Redis may take to answer, at most and at least.
_LONGEST_ANSWER, _SHORTEST_ANSWER = 10.0, 1.0
#: Pending entries looked at in one go.
_PAGE = 16

# Scripts run as a whole: between a look at who holds the claim and the
# command, nobody else's command can come. XCLAIM alone would take the entry
# back from whoever has taken it over.
_IF_OURS = """
local found = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2])
if #found == 0 then return 0 end
"""
_REFRESH = _IF_OURS + "return #redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'JUSTID')"
_PUT_BACK = (
    _IF_OURS
    + """
return #redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3],
                   'IDLE', ARGV[4], 'RETRYCOUNT', ARGV[5], 'JUSTID')
"""
)
_FORGET = """
local found = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2])
if #found == 0 then return 1 + redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2]) end
return 0
"""


@dataclass(frozen=True)
class RedisAccess:
    """A Redis server and how to log in there.

    Attributes
    ----------
    host : `str`
    port : `int`
    username, password : `str` or `None`
        Credentials, if any.
    tls : `bool`
        Whether to speak TLS; certificates are verified.
    """

    host: str
    port: int = 6379
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False

    def client(self, timeout: float) -> redis.Redis:
        """Make a client; it connects when it is first used.

        Parameters
        ----------
        timeout : `float`
            Seconds that the server may take to answer.
        """
        return redis.Redis(
            host=self.host,
            port=self.port,
            username=self.username,
            password=self.password,
            ssl=self.tls,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            # A command whose answer was lost must not be sent again unseen:
            # its entry would be lost with it.
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )


class RedisVisitStream:
    """One consumer of a stream; safe to use from several threads.

    Every method raises `models.errors.TemporarilyUnavailable` if Redis cannot
    be reached, and `models.errors.InvalidConfiguration` if it refuses us.

    Parameters
    ----------
    access : `RedisAccess`
    stream, group, consumer : `str`
        Names; the consumer's must be this worker's alone.
    claim_idle : `float`
        Seconds without a sign of life after which an entry may be taken over.
    """

    def __init__(
        self, *, access: RedisAccess, stream: str, group: str, consumer: str, claim_idle: float
    ) -> None:
        self._access = access
        self._stream = stream
        self._group = group
        self._consumer = consumer
        self._claim_idle = claim_idle
        # The library's types leave open what is bytes and what is text.
        self._client: Any = access.client(min(max(claim_idle / 3, _SHORTEST_ANSWER), _LONGEST_ANSWER))
        scripts = (_REFRESH, _PUT_BACK, _FORGET)
        self._refresh, self._put_back, self._forget = map(self._client.register_script, scripts)

    def open(self) -> None:
        """Make the group, and with it the stream, if there is none.

        A new group begins at the present end of the stream.
        """
        with self._errors():
            try:
                self._client.xgroup_create(self._stream, self._group, id="$", mkstream=True)
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise
            else:
                _log.info("Made the consumer group %s of %s.", self._group, self._stream)

    def read(self, wait: float) -> ClaimedEntry | None:
        """Claim the next entry that nobody has had; wait for it.

        Parameters
        ----------
        wait : `float`
            Seconds, less than 1.
        """
        with self._errors():
            answer = self._client.xreadgroup(
                self._group,
                self._consumer,
                {self._stream: ">"},
                count=1,
                block=max(1, round(wait * 1000)),
            )
            for _stream, entries in answer or []:
                for entry_id, fields in entries:
                    return _entry(entry_id, fields, 1)
        return None

    def take_over(self) -> ClaimedEntry | None:
        """Claim an entry whose worker has given no sign of life."""
        idle = round(self._claim_idle * 1000)
        with self._errors():
            for found in self._pending(idle=idle):
                # Nothing comes back if another was faster.
                for entry_id, fields in self._client.xclaim(
                    self._stream, self._group, self._consumer, idle, [found["message_id"]]
                ):
                    if fields is None:
                        self._drop_deleted(entry_id)
                        continue
                    self._forget_consumer(found["consumer"])
                    return _entry(entry_id, fields, found["times_delivered"] + 1)
        return None

    def recover(self, known: Mapping[str, int]) -> ClaimedEntry | None:
        """Return an entry that Redis has handed to us, but that never came.

        Parameters
        ----------
        known : mapping [`str`, `int`]
            Deliveries, by entry, of those that did come.
        """
        with self._errors():
            for found in self._pending(consumername=self._consumer):
                entry_id = found["message_id"].decode()
                if found["times_delivered"] <= known.get(entry_id, 0) or not self.refresh(entry_id):
                    continue
                for _id, fields in self._client.xrange(self._stream, entry_id, entry_id):
                    return _entry(found["message_id"], fields, found["times_delivered"])
                self._drop_deleted(found["message_id"])
        return None

    def refresh(self, entry_id: str) -> bool:
        """Give a sign of life for an entry; return whether it is ours still."""
        with self._errors():
            return bool(self._refresh(keys=[self._stream], args=[self._group, self._consumer, entry_id]))
        return False

    def put_back(self, entry_id: str, *, deliveries: int, again_in: float) -> None:
        """Leave an entry to whoever looks for one, if it is ours still.

        Parameters
        ----------
        entry_id : `str`
        deliveries : `int`
            How many deliveries it shall count as having had.
        again_in : `float`
            Seconds after which it may be taken over.
        """
        idle = max(0, round((self._claim_idle - again_in) * 1000) + 1)
        with self._errors():
            arguments: list[str | int] = [self._group, self._consumer, entry_id, idle, max(0, deliveries)]
            self._put_back(keys=[self._stream], args=arguments)

    def acknowledge(self, entry_id: str) -> None:
        """Be done with an entry, whoever holds it now."""
        with self._errors():
            self._client.xack(self._stream, self._group, entry_id)

    def leave(self) -> bool:
        """Delete this consumer unless entries of it are pending; return
        whether it is gone.
        """
        with self._errors():
            return bool(self._forget_consumer(self._consumer))
        return True

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _pending(self, **filters: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._client.xpending_range(
            self._stream, self._group, min="-", max="+", count=_PAGE, **filters
        )
        return found

    def _forget_consumer(self, consumer: str | bytes) -> int:
        # One that is alive after all comes back with its next read.
        deleted: int = self._forget(keys=[self._stream], args=[self._group, consumer])
        return deleted

    def _drop_deleted(self, entry_id: bytes) -> None:
        _log.error("Entry %s of %s was deleted before it was done.", entry_id.decode(), self._stream)
        self._client.xack(self._stream, self._group, entry_id)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Translate the client's errors; the body is left off at a lost group."""
        where = f"Redis at {self._access.host}:{self._access.port} (REDIS_STREAM_HOST)"
        try:
            yield
        except (AuthenticationError, NoPermissionError) as error:
            raise InvalidConfiguration(
                f"{where} refuses this worker; check PP_REDIS_STREAM_USERNAME and PP_REDIS_STREAM_PASSWORD: "
                f"{error}"
            ) from error
        except ResponseError as error:
            if str(error).startswith("WRONGTYPE"):
                raise InvalidConfiguration(
                    f"REDIS_STREAM_NAME: {self._stream!r} is no stream in {where}"
                ) from error
            # UNBLOCKED is how a reader that waits learns of it: what is written
            # before there is a group again nobody would read.
            if "NOGROUP" not in str(error) and not str(error).startswith("UNBLOCKED"):
                raise TemporarilyUnavailable(f"{where}: {error}") from error
            _log.error("The consumer group %s of %s is gone; it is made anew.", self._group, self._stream)
            self.open()
        except RedisError as error:
            hint = "; is the name right?" if _unknown_host(error) else ""
            raise TemporarilyUnavailable(f"{where} cannot be reached: {error}{hint}") from error


def _entry(entry_id: bytes, fields: Mapping[bytes, bytes], deliveries: int) -> ClaimedEntry:
    return ClaimedEntry(entry_id=entry_id.decode(), fields=dict(fields), deliveries=deliveries)


def _unknown_host(error: BaseException) -> bool:
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, socket.gaierror):
        seen = seen.__cause__ or seen.__context__
    return isinstance(seen, socket.gaierror) and seen.errno == socket.EAI_NONAME
