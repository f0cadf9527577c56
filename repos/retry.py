"""Retries of central-repo operations after connection trouble."""

from __future__ import annotations

__all__ = ["connection_errors", "retry_connections"]

from collections.abc import Callable
from typing import TypeVar

import botocore.exceptions
import sqlalchemy.exc
import stamina

T = TypeVar("T")


def connection_errors() -> tuple[type[Exception], ...]:
    """Return the errors that mean "the server could not be reached", for
    databases and S3.
    """
    return (
        sqlalchemy.exc.InterfaceError,
        sqlalchemy.exc.OperationalError,
        sqlalchemy.exc.TimeoutError,
        botocore.exceptions.ClientError,
        botocore.exceptions.ConnectionError,
        botocore.exceptions.HTTPClientError,
    )


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
        on=connection_errors(),
        attempts=attempts,
        timeout=None,
        wait_initial=0.75 * delay,
        wait_max=0.75 * delay,
        wait_jitter=0.5 * delay,
    ):
        with attempt:
            return action()
    raise AssertionError("stamina ran no attempt")
