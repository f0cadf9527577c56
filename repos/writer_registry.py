"""The writer's end of a central repo: what is a message's fault, and what passes."""

from __future__ import annotations

__all__ = ["WriterRegistry"]

from collections.abc import Sequence
from functools import cached_property
from uuid import UUID

import sqlalchemy.exc

from models.errors import InvalidConfiguration, InvalidMessage, TemporarilyUnavailable
from repos.central import open_butler, sqlite_lock
from repos.registry_writer import Outputs, RegistryWriter
from repos.retry import is_outage
from repos.writer_messages import MessageReader


class WriterRegistry:
    """Reads messages and inserts them into a central repo.

    The repo is opened when it is first needed, and anew if that failed.

    Parameters
    ----------
    uri : `str`
        The repo.
    register_dataset_types : `bool`
        Whether dataset types that messages define may be registered.
    """

    def __init__(self, uri: str, *, register_dataset_types: bool = False) -> None:
        self._uri = uri
        self._register = register_dataset_types

    @cached_property
    def _opened(self) -> tuple[MessageReader, RegistryWriter]:
        butler = open_butler(self._uri, writeable=True)

        def dataset_type(name: str) -> object:
            if not butler.registry.queryDatasetTypes(name):
                # It may have been registered since.
                butler.registry.refresh()
            return butler.get_dataset_type(name)

        writer = RegistryWriter(
            butler,
            lock=sqlite_lock(self._uri),
            # Whoever calls knows how to wait.
            attempts=1,
            register_dataset_types=self._register,
        )
        return MessageReader(butler.dimensions, dataset_type), writer

    def open(self) -> None:
        """Open the repo.

        Raises
        ------
        models.errors.InvalidConfiguration
            Raised if there is no such repo, or outputs cannot be registered in
            it.
        models.errors.TemporarilyUnavailable
            Raised if its database cannot be reached.
        """
        try:
            _ = self._opened
        except Exception as error:
            if is_outage(error):
                raise self._away(error) from error
            raise

    def read(self, payload: bytes) -> Outputs:
        """Read a message.

        Raises
        ------
        models.errors.InvalidMessage
            Raised if it cannot be used.
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        self.open()
        try:
            return self._opened[0].read(payload)
        except Exception as error:
            if _is_ours(error):
                raise self._away(error) from error
            if isinstance(error, InvalidMessage):
                raise
            raise InvalidMessage(f"{type(error).__name__}: {error}") from error

    def ingest(self, outputs: Sequence[Outputs]) -> list[UUID]:
        """Insert outputs, all or none; return their distinct datasets.

        Raises
        ------
        models.errors.InvalidMessage
            Raised if something in them contradicts the repo or itself.
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached, or refuses all that we
            do.
        """
        self.open()
        try:
            return list(self._opened[1].ingest(outputs))
        except Exception as error:
            if _is_ours(error):
                raise self._away(error) from error
            raise InvalidMessage(f"{type(error).__name__}: {error}") from error

    def _away(self, error: BaseException) -> TemporarilyUnavailable:
        if isinstance(error, InvalidConfiguration):
            return TemporarilyUnavailable(str(error))
        # Without the statement and its parameters.
        cause = getattr(error, "orig", None) or error
        return TemporarilyUnavailable(f"the central repo {self._uri}: {type(error).__name__}: {cause}")


def _is_ours(error: BaseException) -> bool:
    """Say whether an error has nothing to do with what was to be inserted:
    then every message would meet it, and none must be set aside for it.
    """
    if is_outage(error):
        return True
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError | OSError):
            return True
        if isinstance(cause, sqlalchemy.exc.DBAPIError):
            about_values = isinstance(cause, sqlalchemy.exc.IntegrityError | sqlalchemy.exc.DataError)
            # What the server says besides: permissions, schema, read-only.
            # Values that not even the driver takes have no code.
            return not about_values and getattr(cause.orig, "pgcode", None) is not None
        cause = cause.__cause__
    return False
