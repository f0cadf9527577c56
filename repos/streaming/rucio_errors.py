"""What Rucio's errors mean to those who ask."""

from __future__ import annotations

__all__ = ["rucio_errors"]

from collections.abc import Iterator
from contextlib import contextmanager

import requests
from rucio.common import exception as rucio

from models.errors import InvalidMessage, TemporarilyUnavailable

#: What another try would not change. Everything else might: the server, or
#: the storage, is away or fails, or somebody sets right what we may do, or
#: makes the scope or the storage element that is not there.
_FOR_GOOD: tuple[type[BaseException], ...] = (
    rucio.DataIdentifierAlreadyExists,
    rucio.FileConsistencyMismatch,
    rucio.FileReplicaAlreadyExists,
    rucio.InputValidationError,
    rucio.InvalidObject,
    rucio.UnsupportedOperation,
    rucio.UnsupportedStatus,
)


@contextmanager
def rucio_errors(what: str) -> Iterator[None]:
    """Translate errors of Rucio's clients.

    Parameters
    ----------
    what : `str`
        What is being done, for the text.

    Raises
    ------
    models.errors.InvalidMessage
        Raised if Rucio refuses it for good.
    models.errors.TemporarilyUnavailable
        Raised for any other failure.
    """
    try:
        yield
    except _FOR_GOOD as error:
        raise InvalidMessage(f"Rucio refuses {what}: {_text(error)}") from error
    except (rucio.RucioException, requests.RequestException, OSError) as error:
        raise TemporarilyUnavailable(f"Rucio, {what}: {_text(error)}") from error


def _text(error: BaseException) -> str:
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said[:500]}" if said else type(error).__name__
