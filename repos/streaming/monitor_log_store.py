"""Logs of agents."""

from __future__ import annotations

__all__ = ["LogStore"]

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from models.streaming.strict_json import LONGEST_NAME, storable_text
from repos.ledger_database import reading, writing
from repos.streaming.monitor_rows import Page, Resource, Row, window
from repos.streaming.monitor_tables import LOGS


class LogStore(Resource):
    """Lines of agents' logs."""

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(
            engine,
            LOGS,
            title="app log",
            newest_first=True,
            order=LOGS.c.timestamp,
            age=LOGS.c.timestamp,
        )

    def add(self, values: Mapping[str, Any]) -> Row:
        """Keep a line."""
        return super().add(_with_execution(values))

    def add_all(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep lines, in one transaction; all have the same columns."""
        if rows:
            with writing(self.engine) as connection:
                connection.execute(LOGS.insert(), [_with_execution(row) for row in rows])

    def listed(
        self,
        *,
        app_name: str | None = None,
        instance_name: str | None = None,
        execution_id: str | None = None,
        level: int | None = None,
        search: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> Page:
        """Return lines, the newest first.

        Parameters
        ----------
        app_name, instance_name, execution_id : `str`, optional
        level : `int`, optional
            The least, as in `logging`.
        search : `str`, optional
            What the message contains, whatever the case.
        start, end : `datetime.datetime`, optional
            Between which they were written; aware.
        limit, offset : `int`, optional
        """
        wanted = {"app_name": app_name, "instance_name": instance_name, "execution_id": execution_id}
        conditions = [LOGS.c[name] == value for name, value in wanted.items() if value is not None]
        if level is not None:
            conditions.append(LOGS.c.level >= level)
        if search:
            conditions.append(LOGS.c.message.icontains(search, autoescape=True))
        return self.page(*conditions, *window(LOGS.c.timestamp, start, end), limit=limit, offset=offset)

    def summary(self) -> list[Row]:
        """Return for each writer how many lines of each level it wrote, and
        when the last.
        """
        query = (
            sa.select(
                LOGS.c.app_name,
                LOGS.c.instance_name,
                LOGS.c.levelname,
                sa.func.count().label("count"),
                sa.func.max(LOGS.c.timestamp, type_=LOGS.c.timestamp.type).label("latest"),
            )
            .group_by(LOGS.c.app_name, LOGS.c.instance_name, LOGS.c.levelname)
            .order_by(LOGS.c.app_name, LOGS.c.instance_name, LOGS.c.levelname)
        )
        writers: dict[tuple[str, str], Row] = {}
        with reading(self.engine) as connection:
            for app_name, instance_name, levelname, count, latest in connection.execute(query):
                row = writers.setdefault(
                    (app_name, instance_name),
                    {
                        "app_name": app_name,
                        "instance_name": instance_name,
                        "total": 0,
                        "levels": {},
                        "latest_timestamp": latest,
                    },
                )
                row["levels"][levelname] = count
                row["total"] += count
                row["latest_timestamp"] = max(row["latest_timestamp"], latest)
        return [*writers.values()]


def _with_execution(values: Mapping[str, Any]) -> Row:
    extra = values.get("extra_data")
    execution_id = extra.get("execution_id") if isinstance(extra, Mapping) else None
    text = None if execution_id is None else storable_text(str(execution_id), longest=LONGEST_NAME)
    return {**values, "execution_id": text}
