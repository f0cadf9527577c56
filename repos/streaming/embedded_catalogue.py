"""A catalogue of datasets in a database of our own."""

from __future__ import annotations

__all__ = ["EmbeddedCatalogue"]

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from models.errors import InvalidMessage
from models.streaming.datasets import CatalogueFile, DatasetId
from repos.ledger_database import reading, writing
from repos.streaming.catalogue_tables import CATALOGUE_DATASETS, CATALOGUE_FILES

#: Names in one question to the database.
_HANDFUL = 1000


class EmbeddedCatalogue:
    """Knows datasets and their files, which stay where they are; a
    `services.streaming.catalogue.Catalogue`.

    Parameters
    ----------
    engine : `sqlalchemy.Engine`
        See `repos.streaming.database`.
    now : callable, optional
        Returns the present time, aware.
    """

    def __init__(self, engine: sa.Engine, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._engine = engine
        self._now = now
        self._insert = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert

    def create_dataset(self, dataset: DatasetId, *, lifetime: float) -> None:
        """Make a dataset, open, if it is not there; one that is stays as it is.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        created = self._now()
        row = {
            "scope": dataset.scope,
            "name": dataset.name,
            "open": True,
            "created": created,
            "expires": created + timedelta(seconds=lifetime),
        }
        with writing(self._engine) as connection:
            connection.execute(self._insert(CATALOGUE_DATASETS).values(row).on_conflict_do_nothing())

    def add_files(self, dataset: DatasetId, files: Sequence[CatalogueFile]) -> None:
        """Register files once each and attach them.

        Raises
        ------
        models.errors.InvalidMessage
            Raised if there is no such dataset, it is closed, or there is a
            file of the same name that differs. Files before it were added.
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached; none was added.
        """
        refused: str | None = None
        new: dict[str, CatalogueFile] = {}
        with writing(self._engine) as connection:
            # Whoever closes the dataset waits until the files are in it.
            open_ = connection.execute(
                sa.select(CATALOGUE_DATASETS.c.open).where(_is(dataset)).with_for_update()
            ).scalar_one_or_none()
            known = self._known(connection, dataset.scope, [file.name for file in files])
            for file in files:
                there = known.get(file.name) or _facts(dataset, new.get(file.name))
                if there == (dataset.name, file.size_bytes, file.adler32):
                    continue
                if there is not None:
                    refused = f"{dataset.scope}:{file.name} is there with other content or in another dataset"
                elif open_ is None:
                    refused = f"{file.name}: there is no dataset {dataset}"
                elif not open_:
                    refused = f"{file.name}: the dataset {dataset} is closed"
                else:
                    new[file.name] = file
                    continue
                break
            if new:
                added = self._now()
                connection.execute(
                    CATALOGUE_FILES.insert(), [_row(dataset, file, added) for file in new.values()]
                )
        if refused is not None:
            raise InvalidMessage(refused)

    def files(self, dataset: DatasetId, *, after: int = 0) -> list[CatalogueFile]:
        """Return the files of a dataset in the order in which they were
        attached, less the first `after`.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        query = (
            sa.select(CATALOGUE_FILES)
            .where(CATALOGUE_FILES.c.scope == dataset.scope, CATALOGUE_FILES.c.dataset == dataset.name)
            .order_by(CATALOGUE_FILES.c.id)
            .offset(after)
        )
        if after and self._engine.dialect.name == "sqlite":
            query = query.limit(-1)
        with reading(self._engine) as connection:
            return [_file(row) for row in connection.execute(query).mappings()]

    def close_dataset(self, dataset: DatasetId) -> None:
        """Have a dataset accept no more files.

        Raises
        ------
        models.errors.InvalidMessage
            Raised if there is no such dataset.
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        closing = CATALOGUE_DATASETS.update().where(_is(dataset), CATALOGUE_DATASETS.c.open)
        with writing(self._engine) as connection:
            changed = connection.execute(closing.values(open=False, closed=self._now())).rowcount
        if not changed and self.is_open(dataset) is None:
            raise InvalidMessage(f"there is no dataset {dataset}")

    def is_open(self, dataset: DatasetId) -> bool | None:
        """Say whether a dataset is open; None if there is none.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        with reading(self._engine) as connection:
            open_: bool | None = connection.execute(
                sa.select(CATALOGUE_DATASETS.c.open).where(_is(dataset))
            ).scalar_one_or_none()
        return open_

    def _known(
        self, connection: sa.Connection, scope: str, names: Sequence[str]
    ) -> dict[str, tuple[str, int, str]]:
        columns = CATALOGUE_FILES.c
        found: dict[str, tuple[str, int, str]] = {}
        for start in range(0, len(names), _HANDFUL):
            query = sa.select(columns.name, columns.dataset, columns.size_bytes, columns.adler32).where(
                columns.scope == scope, columns.name.in_(names[start : start + _HANDFUL])
            )
            found.update((name, (of, size, adler)) for name, of, size, adler in connection.execute(query))
        return found


def _is(dataset: DatasetId) -> sa.ColumnElement[bool]:
    return sa.and_(CATALOGUE_DATASETS.c.scope == dataset.scope, CATALOGUE_DATASETS.c.name == dataset.name)


def _facts(dataset: DatasetId, file: CatalogueFile | None) -> tuple[str, int, str] | None:
    return None if file is None else (dataset.name, file.size_bytes, file.adler32)


def _row(dataset: DatasetId, file: CatalogueFile, added: datetime) -> dict[str, object]:
    return {
        "scope": dataset.scope,
        "name": file.name,
        "dataset": dataset.name,
        "path": str(file.path),
        "size_bytes": file.size_bytes,
        "adler32": file.adler32,
        "guid": file.guid,
        "metadata": file.metadata,
        "added": added,
    }


def _file(row: sa.RowMapping) -> CatalogueFile:
    return CatalogueFile(
        name=row["name"],
        path=Path(row["path"]),
        size_bytes=row["size_bytes"],
        adler32=row["adler32"],
        guid=row["guid"],
        metadata=dict(row["metadata"]),
    )
