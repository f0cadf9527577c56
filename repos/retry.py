"""Retries of central-repo operations after connection trouble."""

from __future__ import annotations

__all__ = ["is_connection_error", "is_outage", "retry_connections"]

import errno
from collections.abc import Callable
from typing import TypeVar

import botocore.exceptions
import sqlalchemy.exc
import stamina

T = TypeVar("T")

#: Errors of the operating system that pass: a full disk is emptied, a mount
#: comes back.
_PASSING = frozenset(
    {
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EDQUOT,
        errno.EHOSTUNREACH,
        errno.EIO,
        errno.EMFILE,
        errno.ENETUNREACH,
        errno.ENFILE,
        errno.ENOSPC,
        errno.EROFS,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)


#: Errors that mean "the server could not be reached", of databases and S3.
_CONNECTION_ERRORS = (
    sqlalchemy.exc.InterfaceError,
    sqlalchemy.exc.OperationalError,
    sqlalchemy.exc.TimeoutError,
    botocore.exceptions.ClientError,
    botocore.exceptions.ConnectionError,
    botocore.exceptions.HTTPClientError,
)


def is_connection_error(error: BaseException) -> bool:
    """Say whether an error means that a database or S3 server could not be
    reached, or went away while it was being talked to.
    """
    # A driver does not always have a better name for a broken connection.
    broken = isinstance(error, sqlalchemy.exc.DBAPIError) and error.connection_invalidated
    return broken or isinstance(error, _CONNECTION_ERRORS)


def is_outage(error: BaseException) -> bool:
    """Say whether an error, or one that caused it, means that something we
    depend on cannot be used for now: a server is away, a disk is full.
    """
    cause: BaseException | None = error
    while cause is not None:
        if is_connection_error(cause) or isinstance(cause, (ConnectionError, TimeoutError)):
            return True
        if isinstance(cause, OSError) and cause.errno in _PASSING:
            return True
        cause = cause.__cause__
    return False


def retry_connections(action: Callable[[], T], *, delay: float, attempts: int = 2) -> T:
    """Run an action, again after a pause if a connection failed.

    Parameters
    ----------
    action : callable
        Takes no arguments; must be safe to repeat.
    delay : `float`
        Mean pause before a repetition, seconds; varied by 25 % either way so
        that many workers do not come back at once.
    attempts : `int`
        Times the action is run at most.

    Returns
    -------
    result
        What the action returned.
    """
    for attempt in stamina.retry_context(
        on=is_connection_error,
        attempts=attempts,
        timeout=None,
        wait_initial=0.75 * delay,
        wait_exp_base=1,
        wait_jitter=0.5 * delay,
        wait_max=1.25 * delay,
    ):
        with attempt:
            return action()
    raise AssertionError("stamina ran no attempt")
