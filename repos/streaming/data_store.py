"""Keeps what the data agent knows."""

from __future__ import annotations

__all__ = ["DataStore"]

import json
from collections.abc import Collection
from dataclasses import fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from models.streaming.bus import STOMP
from models.streaming.data_runs import Changes, DataFile, DataRun, FileState
from models.streaming.messages import RUN_TOPIC
from repos.ledger_database import reading, writing
from repos.streaming.data_tables import DATA_FILES, DATA_RUNS
from repos.streaming.journal import add_to_outbox
from repos.streaming.tables import OUTBOX

#: Names in one question to the database.
_HANDFUL = 1000

_RUN_COLUMNS = [DATA_RUNS.c[field.name] for field in fields(DataRun)]
_FILE_COLUMNS = [DATA_FILES.c[field.name] for field in fields(DataFile)]


class DataStore:
    """Runs and files of one namespace; a `services.streaming.data_runs.RunStore`.

    Parameters
    ----------
    engine : `sqlalchemy.Engine`
        See `repos.streaming.database`.
    namespace : `str`
    agent : `str`
        Role and namespace, as the agent's journal has it.
    destination : `str`, optional
        Where its messages go.
    """

    def __init__(
        self, engine: sa.Engine, *, namespace: str, agent: str, destination: str = RUN_TOPIC
    ) -> None:
        self._engine = engine
        self._namespace = namespace
        self._agent = agent
        self._destination = destination
        self._insert = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert

    def runs(self, run_ids: Collection[str]) -> dict[str, DataRun]:
        """Return the runs of these that are known.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        found: dict[str, DataRun] = {}
        ids = sorted(set(run_ids))
        with reading(self._engine) as connection:
            for start in range(0, len(ids), _HANDFUL):
                query = self._runs().where(DATA_RUNS.c.run_id.in_(ids[start : start + _HANDFUL]))
                found.update((run.run_id, run) for run in map(_run, connection.execute(query).mappings()))
        return found

    def unfinished(self) -> list[DataRun]:
        """Return runs that are not finished, the oldest first.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        query = self._runs().where(DATA_RUNS.c.finished.is_(None)).order_by(DATA_RUNS.c.first_seen)
        with reading(self._engine) as connection:
            return [_run(row) for row in connection.execute(query).mappings()]

    def latest(self, limit: int) -> list[DataRun]:
        """Return runs, the newest first.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        query = self._runs().order_by(DATA_RUNS.c.first_seen.desc()).limit(limit)
        with reading(self._engine) as connection:
            return [_run(row) for row in connection.execute(query).mappings()]

    def files(
        self, run_id: str, state: FileState, *, due: datetime | None = None, limit: int | None = None
    ) -> list[DataFile]:
        """Return files of a run in order of their sequence; of a state, and
        if `due` is given only those to be looked at by then.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        query = (
            sa.select(*_FILE_COLUMNS)
            .where(self._of(run_id), DATA_FILES.c.state == state)
            .order_by(DATA_FILES.c.sequence, DATA_FILES.c.filename)
            .limit(limit)
        )
        if due is not None:
            query = query.where(sa.or_(DATA_FILES.c.due.is_(None), DATA_FILES.c.due <= due))
        with reading(self._engine) as connection:
            return [_file(row) for row in connection.execute(query).mappings()]

    def known(self, run_id: str) -> dict[str, FileState]:
        """Return the names of all files of a run that are known.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        query = sa.select(DATA_FILES.c.filename, DATA_FILES.c.state).where(self._of(run_id))
        with reading(self._engine) as connection:
            return {name: FileState(state) for name, state in connection.execute(query)}

    def named(self, run_id: str, filenames: Collection[str]) -> dict[str, DataFile]:
        """Return the files of a run that are known, of these, by name.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        names = sorted(set(filenames))
        found: dict[str, DataFile] = {}
        with reading(self._engine) as connection:
            for start in range(0, len(names), _HANDFUL):
                query = sa.select(*_FILE_COLUMNS).where(
                    self._of(run_id), DATA_FILES.c.filename.in_(names[start : start + _HANDFUL])
                )
                found.update((row["filename"], _file(row)) for row in connection.execute(query).mappings())
        return found

    def counts(self, run_id: str) -> dict[FileState, int]:
        """Return how many files of a run are in each state.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        query = (
            sa.select(DATA_FILES.c.state, sa.func.count())
            .where(self._of(run_id))
            .group_by(DATA_FILES.c.state)
        )
        with reading(self._engine) as connection:
            return {FileState(state): count for state, count in connection.execute(query)}

    def in_hand(self) -> int:
        """Return how many files are on their way, of all runs that are not
        finished.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        runs = sa.select(DATA_RUNS.c.run_id).where(
            DATA_RUNS.c.namespace == self._namespace, DATA_RUNS.c.finished.is_(None)
        )
        query = sa.select(sa.func.count()).where(
            DATA_FILES.c.namespace == self._namespace,
            DATA_FILES.c.run_id.in_(runs),
            DATA_FILES.c.state.in_([FileState.ANNOUNCED, FileState.CATALOGUED]),
        )
        with reading(self._engine) as connection:
            return int(connection.execute(query).scalar_one())

    def next_due(self, run_id: str) -> datetime | None:
        """Return when the next announced file of a run is to be looked at;
        None if there is none that waits for a time.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        query = (
            sa.select(DATA_FILES.c.due)
            .where(self._of(run_id), DATA_FILES.c.state == FileState.ANNOUNCED, DATA_FILES.c.due.is_not(None))
            .order_by(DATA_FILES.c.due)
            .limit(1)
        )
        with reading(self._engine) as connection:
            due: datetime | None = connection.execute(query).scalar_one_or_none()
        return due

    def save(self, changes: Changes) -> None:
        """Store changes, all or none.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        with writing(self._engine) as connection:
            if changes.runs:
                statement = self._insert(DATA_RUNS)
                mutable = {c.name: statement.excluded[c.name] for c in DATA_RUNS.c if not c.primary_key}
                connection.execute(
                    statement.on_conflict_do_update(
                        index_elements=[*DATA_RUNS.primary_key.columns], set_=mutable
                    ),
                    [self._row(run) for run in changes.runs],
                )
            if changes.new_files:
                connection.execute(
                    self._insert(DATA_FILES).on_conflict_do_nothing(),
                    [self._row(file) for file in changes.new_files],
                )
            if changes.corrected:
                connection.execute(
                    _update(_CORRECTED), [self._update(file, _CORRECTED) for file in changes.corrected]
                )
            if changes.files:
                connection.execute(_update(_FOUND), [self._update(file, _FOUND) for file in changes.files])
            add_to_outbox(connection, self._destination, changes.send, agent=self._agent)
            if changes.heard:
                self._drop_ready(connection, changes.heard)

    def forget(self, before: datetime) -> int:
        """Delete files of runs that finished before a time; return how many.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        old = sa.select(DATA_RUNS.c.run_id).where(
            DATA_RUNS.c.namespace == self._namespace, DATA_RUNS.c.finished < before
        )
        statement = DATA_FILES.delete().where(
            DATA_FILES.c.namespace == self._namespace, DATA_FILES.c.run_id.in_(old)
        )
        with writing(self._engine) as connection:
            return connection.execute(statement).rowcount

    def _runs(self) -> sa.Select[Any]:
        return sa.select(*_RUN_COLUMNS).where(DATA_RUNS.c.namespace == self._namespace)

    def _of(self, run_id: str) -> sa.ColumnElement[bool]:
        return sa.and_(DATA_FILES.c.namespace == self._namespace, DATA_FILES.c.run_id == run_id)

    def _row(self, value: DataRun | DataFile) -> dict[str, Any]:
        return {"namespace": self._namespace, **_plain(value)}

    def _update(self, file: DataFile, columns: Collection[str]) -> dict[str, Any]:
        row = self._row(file)
        return {name: row[name] for name in columns} | {f"b_{name}": row[name] for name in _FILE_KEY}

    def _drop_ready(self, connection: sa.Connection, run_ids: Collection[str]) -> None:
        ours = sa.select(OUTBOX.c.id, OUTBOX.c.payload).where(
            OUTBOX.c.kind == STOMP, OUTBOX.c.topic == self._destination, OUTBOX.c.key == self._agent
        )
        heard = [
            id_
            for id_, payload in connection.execute(ours)
            if (body := json.loads(payload)).get("msg_type") == "stf_ready" and body.get("run_id") in run_ids
        ]
        if heard:
            connection.execute(OUTBOX.delete().where(OUTBOX.c.id.in_(heard)))


_FILE_KEY = [column.name for column in DATA_FILES.primary_key.columns]
#: What messages say of a file, which may come while it is looked at.
_ANNOUNCED = ("expected_size", "expected_checksum")
_CORRECTED = (*_ANNOUNCED, "due", "attempts")
_FOUND = [c.name for c in DATA_FILES.c if not c.primary_key and c.name not in _ANNOUNCED]


def _update(columns: Collection[str]) -> sa.Update:
    this = (DATA_FILES.c[name] == sa.bindparam(f"b_{name}") for name in _FILE_KEY)
    return DATA_FILES.update().where(*this).values({name: sa.bindparam(name) for name in columns})


def _plain(value: DataRun | DataFile) -> dict[str, Any]:
    # Not `asdict`, which copies what it finds, many times slower.
    row = dict(vars(value))
    if "state" in row:
        row["state"] = str(row["state"])
    return row


def _run(row: sa.RowMapping) -> DataRun:
    return DataRun(**row)


def _file(row: sa.RowMapping) -> DataFile:
    return DataFile(**{**row, "state": FileState(row["state"])})
