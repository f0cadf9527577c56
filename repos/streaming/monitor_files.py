"""STF files."""

from __future__ import annotations

__all__ = ["FileStore"]

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from models.streaming.monitoring import FINAL_STATUSES, FileUpdate
from repos.ledger_database import reading, writing
from repos.streaming.monitor_rows import Page, RefusedField, Resource, Row, page_of, window
from repos.streaming.monitor_tables import RUNS, STF_FILES

#: Values in one statement; SQLite has a limit.
_AT_ONCE = 500
_NEWEST_FIRST = STF_FILES.c.created_at.desc(), STF_FILES.c.stf_filename.desc()
#: Looked up for the rows that are returned: a join would be of all that there are.
_RUN_NUMBER = (
    sa.select(RUNS.c.run_number).where(RUNS.c.run_id == STF_FILES.c.run).scalar_subquery().label("run_number")
)


class FileStore(Resource):
    """STF files; a name is registered once."""

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(engine, STF_FILES, title="stf file", newest_first=True, order=STF_FILES.c.created_at)

    def register(self, rows: Sequence[Row]) -> list[Row]:
        """Register files, in one transaction.

        Parameters
        ----------
        rows : sequence of `dict`
            By column; ``run`` is the monitor's key of the run.

        Returns
        -------
        files : `list` [`dict`]
            In the order of `rows`. Those whose names are there already are
            returned as they are.

        Raises
        ------
        repos.streaming.monitor_rows.RefusedField
            Raised if a run is not there; nothing is registered.
        """
        if not rows:
            return []
        defaults = {
            "created_at": datetime.now(UTC),
            "status": "registered",
            "machine_state": "physics",
            "metadata": {},
            "tf_count": 0,
        }
        # Every row with the same columns, so that one statement does for all.
        names = [c.name for c in STF_FILES.columns if any(c.name in row for row in rows)]
        empty = dict.fromkeys({*names, *defaults})
        full = [{**empty, **defaults, "file_id": uuid4(), **row} for row in rows]
        insert = postgresql.insert if self.engine.dialect.name == "postgresql" else sqlite.insert
        with writing(self.engine) as connection:
            for run in {row["run"] for row in full}:
                self.check_references(connection, {"run": run})
            connection.execute(insert(STF_FILES).on_conflict_do_nothing(), full)
            found = {
                row["stf_filename"]: row
                for row in _in_parts(
                    connection, STF_FILES.c.stf_filename, [row["stf_filename"] for row in full]
                )
            }
        return [found[row["stf_filename"]] for row in full]

    def of_run(self, run_number: int, *, statuses: Collection[str] | None = None) -> list[Row]:
        """Return files of a run by name."""
        query = (
            sa.select(STF_FILES)
            .join(RUNS, RUNS.c.run_id == STF_FILES.c.run)
            .where(RUNS.c.run_number == run_number)
            .order_by(STF_FILES.c.stf_filename)
        )
        if statuses is not None:
            query = query.where(STF_FILES.c.status.in_([str(status) for status in statuses]))
        with reading(self.engine) as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def update(self, updates: Iterable[FileUpdate]) -> None:
        """Change files, in one transaction; entries of their metadata that
        are not named stay.

        Raises
        ------
        repos.streaming.monitor_rows.RefusedField
            Raised if a file is not there; nothing is changed.
        """
        by_id: dict[UUID, list[FileUpdate]] = defaultdict(list)
        for update in updates:
            by_id[update.file_id].append(update)
        if not by_id:
            return
        with writing(self.engine) as connection:
            present = {
                row["file_id"]: row
                for row in _in_parts(connection, STF_FILES.c.file_id, sorted(by_id), lock=True)
            }
            if missing := [id_ for id_ in by_id if id_ not in present]:
                raise RefusedField("file_id", f"no file has the id {missing[0]} ({len(missing)} are missing)")
            changes = []
            for id_, several in by_id.items():
                status, metadata = present[id_]["status"], dict(present[id_]["metadata"] or {})
                for update in several:
                    # What comes late does not undo the end.
                    if not (status in FINAL_STATUSES and update.status not in FINAL_STATUSES):
                        status = str(update.status)
                    metadata |= update.metadata
                changes.append({"id_": id_, "status_": status, "metadata_": metadata})
            statement = (
                STF_FILES.update()
                .where(STF_FILES.c.file_id == sa.bindparam("id_"))
                .values(status=sa.bindparam("status_"), metadata=sa.bindparam("metadata_"))
            )
            connection.execute(statement, changes)

    def listed(
        self,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        limit: int | None = None,
        offset: int = 0,
        **wanted: Any,
    ) -> Page:
        """Return files, those registered last first, with their
        ``run_number``.

        Parameters
        ----------
        start, end : `datetime.datetime`, optional
            Between which they were registered; aware.
        limit, offset : `int`, optional
        **wanted
            ``run_number`` and columns, None for any: ``status``,
            ``machine_state``, ``stf_filename``, ``workflow_id``.
        """
        conditions = [*_conditions(**wanted), *window(STF_FILES.c.created_at, start, end)]
        query = sa.select(STF_FILES, _RUN_NUMBER).where(*conditions).order_by(*_NEWEST_FIRST)
        # Of the files alone, an index has the number.
        count = sa.select(sa.func.count()).select_from(STF_FILES).where(*conditions)
        return page_of(self.engine, query, limit=limit, offset=offset, count=count)

    def parts(self, size: int, **wanted: Any) -> Iterator[list[Row]]:
        """Return files as `listed` does, part by part, each in a transaction
        of its own: neither memory nor database is taken up by all of them.
        Those registered meanwhile are left out.

        Parameters
        ----------
        size : `int`
            Files in a part.
        **wanted
            As for `listed`.
        """
        return self._in_parts(size, sa.select(STF_FILES, _RUN_NUMBER).where(*_conditions(**wanted)))

    def names(self, size: int, run_number: int) -> Iterator[str]:
        """Yield the names of a run's files, read part by part as in `parts`."""
        columns = STF_FILES.c.created_at, STF_FILES.c.stf_filename
        query = sa.select(*columns).where(*_conditions(run_number=run_number))
        for rows in self._in_parts(size, query):
            yield from (row["stf_filename"] for row in rows)

    def _in_parts(self, size: int, query: sa.Select[Any]) -> Iterator[list[Row]]:
        query = query.order_by(*_NEWEST_FIRST)
        place = sa.tuple_(STF_FILES.c.created_at, STF_FILES.c.stf_filename)
        rest = query
        while True:
            with reading(self.engine) as connection:
                rows = [dict(row) for row in connection.execute(rest.limit(size)).mappings()]
            yield rows
            if len(rows) < size:
                return
            last = sa.tuple_(
                sa.literal(rows[-1]["created_at"], STF_FILES.c.created_at.type),
                sa.literal(rows[-1]["stf_filename"], STF_FILES.c.stf_filename.type),
            )
            rest = query.where(place < last)

    def newest(self, run_number: int, status: str) -> Row | None:
        """Return the file of a run and a status that was registered last."""
        conditions = _conditions(run_number=run_number, status=status)
        query = sa.select(STF_FILES).where(*conditions).order_by(*_NEWEST_FIRST).limit(1)
        with reading(self.engine) as connection:
            row = connection.execute(query).mappings().one_or_none()
            return None if row is None else dict(row)

    def run_counts(self, run_number: int) -> dict[str, int]:
        """Return how many files of each status a run has."""
        query = (
            sa.select(STF_FILES.c.status, sa.func.count())
            .where(*_conditions(run_number=run_number))
            .group_by(STF_FILES.c.status)
        )
        with reading(self.engine) as connection:
            return dict(connection.execute(query).tuples().all())

    def count(self, run_numbers: Collection[int]) -> int:
        """Return how many files some runs have."""
        query = (
            sa.select(sa.func.count())
            .select_from(STF_FILES.join(RUNS, RUNS.c.run_id == STF_FILES.c.run))
            .where(RUNS.c.run_number.in_(run_numbers))
        )
        with reading(self.engine) as connection:
            return int(connection.execute(query).scalar_one())


def _conditions(*, run_number: int | None = None, **wanted: Any) -> list[sa.ColumnElement[bool]]:
    conditions = [STF_FILES.c[name] == value for name, value in wanted.items() if value is not None]
    if run_number is not None:
        run = sa.select(RUNS.c.run_id).where(RUNS.c.run_number == run_number).scalar_subquery()
        conditions.append(STF_FILES.c.run == run)
    return conditions


def _in_parts(
    connection: sa.Connection, column: sa.Column[Any], values: Sequence[Any], *, lock: bool = False
) -> Iterable[Row]:
    for start in range(0, len(values), _AT_ONCE):
        query = sa.select(STF_FILES).where(column.in_(values[start : start + _AT_ONCE]))
        if lock:
            # In one order, so that two that change the same files do not wait
            # for each other.
            query = query.order_by(STF_FILES.c.file_id).with_for_update()
        for row in connection.execute(query).mappings():
            yield dict(row)
