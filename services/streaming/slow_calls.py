"""Calls that may take long, made beside an agent's work.

An agent does its work in one thread, so that nothing of what it keeps is
changed from two sides. What it asks of others is asked in threads of its own:
an answer that does not come for one run holds up no other.
"""

from __future__ import annotations

__all__ = ["LOOK", "SlowCalls", "StillBusy"]

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

#: Seconds between looks whether an answer has come.
LOOK = 0.1
#: Calls that are made at once.
_AT_ONCE = 4
#: Seconds for which an answer is waited for at once.
_PATIENCE = 0.2
#: Seconds of a call after which the next one of its key is doubtful.
_HANGING = 10.0

_Answer = TypeVar("_Answer")


class StillBusy(Exception):
    """The answer has not come yet. It is kept when it does: ask again."""


@dataclass(eq=False)
class _Call:
    """A call.

    Attributes
    ----------
    doubtful : `bool`
        Whether the last one of its key hung.
    begun : `float` or `None`
        When it was begun; None: it waits for its turn.
    """

    key: str
    what: str
    do: Callable[[], Any]
    doubtful: bool
    begun: float | None = None
    ended: bool = False
    answer: Any = None
    error: BaseException | None = field(default=None, repr=False)


class SlowCalls:
    """Makes calls, one at a time for each key, and some at once in all.

    Keys whose last call hung get all threads but one: those that are answered
    do not wait for them.

    Parameters
    ----------
    at_once : `int`, optional
        Calls that are made at once.
    patience : `float`, optional
        Seconds for which an answer is waited for where it is asked for.
    hanging : `float`, optional
        Seconds of a call after which the next one of its key is doubtful.
    """

    def __init__(
        self, *, at_once: int = _AT_ONCE, patience: float = _PATIENCE, hanging: float = _HANGING
    ) -> None:
        self._at_once = at_once
        self._patience = patience
        self._hanging = hanging
        self._calls: dict[str, _Call] = {}
        self._waiting: deque[_Call] = deque()
        self._running: set[_Call] = set()
        self._doubtful: set[str] = set()
        self._ending = False
        self._changed = threading.Condition()

    def ask(self, key: str, what: str, do: Callable[[], _Answer]) -> _Answer:
        """Return what a call answers.

        Parameters
        ----------
        key : `str`
            A run, for example. There is one call at a time.
        what : `str`
            Which call it is: the answer of one that was begun earlier is as
            good. The answer of another, for which nobody came back, is
            dropped.
        do : callable
            Makes the call, in another thread.

        Raises
        ------
        StillBusy
            Raised if there is no answer yet.
        BaseException
            Raised if the call raised it.
        """
        with self._changed:
            call = self._calls.get(key)
            if call is None or (call.ended and call.what != what):
                if self._ending:
                    raise StillBusy
                call = self._calls[key] = _Call(key, what, do, doubtful=key in self._doubtful)
                self._waiting.append(call)
                self._hand_out()
            if call.what != what or not self._has_ended(call):
                raise StillBusy
            del self._calls[key]
            if call.error is not None:
                raise call.error
            answer: _Answer = call.answer
            return answer

    def what(self, key: str) -> str | None:
        """Return which call of a key is under way, or has an answer that
        nobody came for; None if there is none.
        """
        with self._changed:
            call = self._calls.get(key)
            return call.what if call else None

    def is_busy(self, key: str) -> bool:
        """Say whether a call of a key has no answer yet."""
        with self._changed:
            call = self._calls.get(key)
            return call is not None and not call.ended

    def drop(self, key: str) -> None:
        """Forget a call that nobody will come back for."""
        with self._changed:
            call = self._calls.pop(key, None)
            if call is not None and call in self._waiting:
                self._waiting.remove(call)

    def finish(self, timeout: float) -> None:
        """Begin nothing any more, and wait for answers that are under way."""
        with self._changed:
            self._ending = True
            for call in self._waiting:
                del self._calls[call.key]
            self._waiting.clear()
            self._changed.wait_for(lambda: not self._running, timeout)

    def _has_ended(self, call: _Call) -> bool:
        """Wait for a call as long as it may be waited for."""
        # One that waits for its turn, waits for others that are slow.
        while not call.ended and call.begun is not None:
            left = call.begun + self._patience - time.monotonic()
            if left <= 0:
                return False
            self._changed.wait(min(left, threading.TIMEOUT_MAX))
        return call.ended

    def _hand_out(self) -> None:
        """Begin calls whose turn it is."""
        while len(self._running) < self._at_once:
            doubtful = sum(call.doubtful for call in self._running)
            full = doubtful >= max(1, self._at_once - 1)
            call = next((call for call in self._waiting if not (call.doubtful and full)), None)
            if call is None:
                return
            self._waiting.remove(call)
            self._running.add(call)
            call.begun = time.monotonic()
            # A thread for each: none is left over when an agent has gone.
            name = f"{call.what} {call.key}"
            thread = threading.Thread(target=self._make, args=(call,), name=name, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                # There are as many threads as there may be.
                call.error, call.ended = error, True
                self._running.discard(call)

    def _make(self, call: _Call) -> None:
        answer: Any = None
        error: BaseException | None = None
        try:
            answer = call.do()
        except SystemExit as left:
            # Where it was asked, this would end a thread, and nobody would know.
            error = RuntimeError(f"{call.what}: it ended its thread, with {left.code}")
        except BaseException as raised:  # it is raised where it was asked for
            error = raised
        with self._changed:
            call.answer, call.error, call.ended = answer, error, True
            if call.begun is not None and time.monotonic() - call.begun > self._hanging:
                self._doubtful.add(call.key)
            else:
                self._doubtful.discard(call.key)
            self._running.discard(call)
            if not self._ending:
                self._hand_out()
            self._changed.notify_all()
