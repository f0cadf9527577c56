"""Rows of the monitor's tables: found, added, changed, removed."""

from __future__ import annotations

__all__ = ["AlreadyThere", "Page", "RefusedField", "Resource", "insert_new", "page_of", "window"]

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from models.errors import InvalidMessage
from repos.ledger_database import reading, writing

Row = dict[str, Any]


class Page(NamedTuple):
    """Some of the rows that were asked for.

    Attributes
    ----------
    items : `list` [`dict`]
        By column. Times are aware.
    total : `int`
        How many there are in all.
    """

    items: list[Row]
    total: int


class RefusedField(InvalidMessage):
    """A field has a value that the monitor cannot take.

    Parameters
    ----------
    field : `str`
        ``non_field_errors`` for several together.
    text : `str`
        What is wrong with it.
    """

    def __init__(self, field: str, text: str) -> None:
        super().__init__(f"{field}: {text}")
        self.field = field
        self.text = text


class AlreadyThere(RefusedField):
    """There is a row already with a value that only one may have."""


class Resource:
    """The rows of one table.

    Every method raises `models.errors.TemporarilyUnavailable` while the
    database is away.

    Parameters
    ----------
    engine : `sqlalchemy.Engine`
        See `repos.streaming.database`.
    table : `sqlalchemy.Table`
    title : `str`
        What one row is called, in errors.
    key : `sqlalchemy.Column`, optional
        By what one row is named; the primary key by default.
    newest_first : `bool`, optional
        Whether rows are listed backwards.
    order : `sqlalchemy.Column`, optional
        By what they are listed; the primary key by default.
    age : `sqlalchemy.Column`, optional
        Since when a row is there, for rows that are not kept for ever.
    """

    def __init__(
        self,
        engine: sa.Engine,
        table: sa.Table,
        *,
        title: str,
        key: sa.Column[Any] | None = None,
        newest_first: bool = False,
        order: sa.Column[Any] | None = None,
        age: sa.Column[datetime] | None = None,
    ) -> None:
        self.engine = engine
        self.table = table
        self.title = title
        (primary,) = table.primary_key.columns
        self._primary = primary
        self._age = age
        self.key: sa.Column[Any] = primary if key is None else key
        column = primary if order is None else order
        keys = (column,) if column is primary else (column, primary)
        self.order = tuple(each.desc() if newest_first else each.asc() for each in keys)

    def find(
        self, *conditions: sa.ColumnElement[bool], limit: int | None = None, offset: int = 0
    ) -> list[Row]:
        """Return rows that meet all conditions, in the table's order."""
        query = sa.select(self.table).where(*conditions).order_by(*self.order).limit(limit).offset(offset)
        with reading(self.engine) as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def page(self, *conditions: sa.ColumnElement[bool], limit: int | None = None, offset: int = 0) -> Page:
        """Return rows that meet all conditions, and how many do."""
        query = sa.select(self.table).where(*conditions).order_by(*self.order)
        return page_of(self.engine, query, limit=limit, offset=offset)

    def tally(self, column: str) -> dict[Any, int]:
        """Return how many rows there are of each value of a column."""
        value = self.table.c[column]
        query = sa.select(value, sa.func.count()).group_by(value)
        with reading(self.engine) as connection:
            return dict(connection.execute(query).tuples().all())

    def get(self, key: Any) -> Row | None:
        """Return the row of this key."""
        rows = self.find(self.key == key, limit=1)
        return rows[0] if rows else None

    def add(self, values: Mapping[str, Any]) -> Row:
        """Add a row.

        Raises
        ------
        AlreadyThere
            Raised if there is one with a value that only one may have.
        RefusedField
            Raised if it refers to a row that is not there.
        """
        with writing(self.engine) as connection:
            self.check_references(connection, values)
            row = insert_new(connection, self.table, values)
            if row is None:
                raise self._conflict(connection, values)
            return row

    def change(self, key: Any, values: Mapping[str, Any]) -> Row | None:
        """Change a row; return it, or None if there is none of this key.

        Raises
        ------
        AlreadyThere
            Raised if another row has a value that only one may have.
        RefusedField
            Raised if it refers to a row that is not there.
        """
        with writing(self.engine) as connection:
            query = sa.select(self.table).where(self.key == key).with_for_update()
            found = connection.execute(query).mappings().one_or_none()
            if found is None:
                return None
            before = dict(found)
            new = self.settle(before, dict(values))
            self.check_references(connection, new)
            after = before | new
            if (conflict := self._find_conflict(connection, after, but=key)) is not None:
                raise conflict
            if new:
                connection.execute(self.table.update().where(self.key == key).values(new))
            return after

    def remove(self, key: Any) -> bool:
        """Remove a row; say whether there was one.

        Raises
        ------
        RefusedField
            Raised if other rows refer to it.
        """
        with writing(self.engine) as connection:
            for table in self.table.metadata.tables.values():
                for link in table.foreign_keys:
                    if link.column.table is self.table and _exists(connection, link.parent == key):
                        raise RefusedField("non_field_errors", f"{table.name} still refers to it.")
            return connection.execute(self.table.delete().where(self.key == key)).rowcount > 0

    def forget(self, before: datetime, *, at_most: int) -> int:
        """Remove rows from before a time, the oldest first; say how many.

        Parameters
        ----------
        before : `datetime.datetime`
            Aware.
        at_most : `int`
            Rows: others wait while they are removed.
        """
        if self._age is None:
            raise TypeError(f"{self.table.name} is kept for ever")
        old = sa.select(self._primary).where(self._age < before).order_by(self._age).limit(at_most)
        with writing(self.engine) as connection:
            return connection.execute(self.table.delete().where(self._primary.in_(old))).rowcount

    def settle(self, before: Row, values: Row) -> Row:
        """Return what is really changed in a row when this is asked for."""
        return values

    def check_references(self, connection: sa.Connection, values: Mapping[str, Any]) -> None:
        """See to it that rows that are referred to are there.

        Raises
        ------
        RefusedField
            Raised if one is not.
        """
        for link in self.table.foreign_keys:
            value = values.get(link.parent.name)
            if value is not None and not _exists(connection, link.column == value):
                raise RefusedField(link.parent.name, f'Invalid pk "{value}" - object does not exist.')

    def _conflict(self, connection: sa.Connection, values: Mapping[str, Any]) -> AlreadyThere:
        found = self._find_conflict(connection, values, but=None)
        return found or AlreadyThere("non_field_errors", f"{self.title} already exists.")

    def _find_conflict(
        self, connection: sa.Connection, values: Mapping[str, Any], *, but: Any
    ) -> AlreadyThere | None:
        sets = [c.columns for c in self.table.constraints if isinstance(c, sa.UniqueConstraint)]
        if but is None:
            sets.insert(0, self.table.primary_key.columns)
        for columns in sets:
            names = [column.name for column in columns]
            if any(values.get(name) is None for name in names):
                continue
            conditions = [column == values[column.name] for column in columns]
            if but is not None:
                conditions.append(self.key != but)
            if not _exists(connection, sa.and_(*conditions)):
                continue
            if len(names) > 1:
                return AlreadyThere(
                    "non_field_errors", f"The fields {', '.join(names)} must make a unique set."
                )
            label = names[0].replace("_", " ")
            return AlreadyThere(names[0], f"{self.title} with this {label} already exists.")
        return None


def insert_new(connection: sa.Connection, table: sa.Table, values: Mapping[str, Any]) -> Row | None:
    """Add a row; return it, or None if one that excludes it is there."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(table).values(dict(values)).on_conflict_do_nothing().returning(*table.columns)
    row = connection.execute(statement).mappings().one_or_none()
    return None if row is None else dict(row)


def page_of(
    engine: sa.Engine,
    query: sa.Select[Any],
    *,
    limit: int | None,
    offset: int = 0,
    count: sa.Select[Any] | None = None,
) -> Page:
    """Return some of a query's rows, and how many there are, as `count` tells
    if it is given.
    """
    if count is None:
        count = sa.select(sa.func.count()).select_from(query.order_by(None).subquery())
    with reading(engine) as connection:
        total = connection.execute(count).scalar_one()
        rows = connection.execute(query.limit(limit).offset(offset)).mappings()
        return Page([dict(row) for row in rows], total)


def window(
    column: sa.ColumnElement[Any], start: datetime | None, end: datetime | None
) -> Sequence[sa.ColumnElement[bool]]:
    """Return the conditions that a time is from `start` on and before `end`."""
    conditions = []
    if start is not None:
        conditions.append(column >= start)
    if end is not None:
        conditions.append(column < end)
    return conditions


def _exists(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> bool:
    return bool(connection.execute(sa.select(sa.exists().where(condition))).scalar_one())
