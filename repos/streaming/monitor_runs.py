"""Runs, and how they stand."""

from __future__ import annotations

__all__ = ["RunStateStore", "RunStore", "StateEventStore"]

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from repos.ledger_database import reading, writing
from repos.streaming.monitor_rows import Page, Resource, Row, insert_new, page_of, window
from repos.streaming.monitor_tables import MESSAGES, RUN_STATES, RUNS, STATE_EVENTS, STF_FILES


class RunStore(Resource):
    """Runs; ``run_id`` is the monitor's key, ``run_number`` the run's."""

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(engine, RUNS, title="run", newest_first=True, order=RUNS.c.run_number)

    def settle(self, before: Row, values: Row) -> Row:
        """Keep the first end that was told."""
        new = dict(values)
        if "end_time" in new and before["end_time"] is not None:
            del new["end_time"]
        return new

    def by_number(self, run_number: int) -> Row | None:
        """Return the run of this number."""
        rows = self.find(RUNS.c.run_number == run_number)
        return rows[0] if rows else None

    def open(
        self, run_number: int, *, start_time: datetime, run_conditions: Mapping[str, Any] | None = None
    ) -> Row:
        """Return the run of this number; it is made if there is none."""
        values = {
            "run_number": run_number,
            "start_time": start_time,
            "run_conditions": dict(run_conditions or {}),
        }
        with writing(self.engine) as connection:
            if (row := insert_new(connection, RUNS, values)) is not None:
                return row
            query = sa.select(RUNS).where(RUNS.c.run_number == run_number)
            return dict(connection.execute(query).mappings().one())

    def listed(
        self,
        *,
        run_number: int | None = None,
        execution_id: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> Page:
        """Return runs, the highest number first.

        Each has ``files``, the number of its files by status, besides its
        columns, and of its state ``phase``, ``state`` and ``substate``.

        Parameters
        ----------
        run_number : `int`, optional
        execution_id : `str`, optional
            Runs that this execution's messages are about.
        start, end : `datetime.datetime`, optional
            Between which they began; aware.
        limit, offset : `int`, optional
        """
        query = (
            sa.select(RUNS, RUN_STATES.c.phase, RUN_STATES.c.state, RUN_STATES.c.substate)
            .outerjoin(RUN_STATES, RUN_STATES.c.run_number == RUNS.c.run_number)
            .where(*window(RUNS.c.start_time, start, end))
            .order_by(*self.order)
        )
        if run_number is not None:
            query = query.where(RUNS.c.run_number == run_number)
        if execution_id is not None:
            numbers = sa.select(MESSAGES.c.run_id).where(MESSAGES.c.execution_id == execution_id)
            query = query.where(sa.cast(RUNS.c.run_number, sa.Text).in_(numbers))
        page = page_of(self.engine, query, limit=limit, offset=offset)
        counts = self._file_counts({row["run_id"] for row in page.items})
        for row in page.items:
            row["files"] = counts.get(row["run_id"], {})
        return page

    def _file_counts(self, ids: Collection[int]) -> dict[int, dict[str, int]]:
        query = (
            sa.select(STF_FILES.c.run, STF_FILES.c.status, sa.func.count())
            .where(STF_FILES.c.run.in_(ids))
            .group_by(STF_FILES.c.run, STF_FILES.c.status)
        )
        counts: dict[int, dict[str, int]] = {}
        with reading(self.engine) as connection:
            for run, status, count in connection.execute(query):
                counts.setdefault(run, {})[status] = count
        return counts


class RunStateStore(Resource):
    """How runs stand."""

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(engine, RUN_STATES, title="run state", newest_first=True)

    def ensure(self, values: Mapping[str, Any]) -> Row:
        """Return how a run stands; made so if nobody has told yet."""
        now = datetime.now(UTC)
        with writing(self.engine) as connection:
            defaults = {"state_changed_at": now, "updated_at": now}
            row = insert_new(connection, RUN_STATES, {**defaults, **values})
            if row is not None:
                return row
            query = sa.select(RUN_STATES).where(RUN_STATES.c.run_number == values["run_number"])
            return dict(connection.execute(query).mappings().one())


class StateEventStore(Resource):
    """What happened to the system, as agents tell."""

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(engine, STATE_EVENTS, title="system state event", newest_first=True)
