"""What the ledger tells of visits: the night so far."""

from __future__ import annotations

__all__ = ["LedgerHistory", "is_visit", "outcome_of"]

import sqlalchemy as sa

from models.ledger import RUNNING, VisitRecord
from models.outcomes import VisitOutcome
from models.visits import FannedOutVisit, VisitKey
from repos.ledger_database import reading
from repos.ledger_tables import VISITS


class LedgerHistory:
    """Reads the visits of a ledger.

    Parameters
    ----------
    engine : `sqlalchemy.Engine`
        See `repos.ledger_database`.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def visits(self, day_obs: int | None = None, limit: int | None = None) -> list[VisitRecord]:
        """Return the visits of a night, or of all, the last begun first.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        query = sa.select(VISITS).order_by(VISITS.c.started.desc(), VISITS.c.detector)
        if day_obs is not None:
            query = query.where(VISITS.c.day_obs == day_obs)
        if limit is not None:
            query = query.limit(limit)
        return self._records(query)

    def visit(self, key: VisitKey) -> VisitRecord | None:
        """Return the last record of a visit, of whatever deployment.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        query = sa.select(VISITS).where(*is_visit(key)).order_by(VISITS.c.started.desc()).limit(1)
        return next(iter(self._records(query)), None)

    def counts(self, day_obs: int) -> dict[str, int]:
        """Return how many visits of a night are in each state.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        query = (
            sa.select(VISITS.c.state, sa.func.count())
            .where(VISITS.c.day_obs == day_obs)
            .group_by(VISITS.c.state)
        )
        with reading(self._engine) as connection:
            return dict(connection.execute(query).tuples().all())

    def last_day(self) -> int | None:
        """Return the ``day_obs`` of the last night with visits, if any.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        with reading(self._engine) as connection:
            day: int | None = connection.execute(sa.select(sa.func.max(VISITS.c.day_obs))).scalar()
        return day

    def _records(self, query: sa.Select[tuple[object, ...]]) -> list[VisitRecord]:
        with reading(self._engine) as connection:
            return [_record(row) for row in connection.execute(query).mappings()]


def is_visit(key: VisitKey) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the conditions for the rows of a visit, of whatever deployment."""
    return tuple(VISITS.c[name] == value for name, value in key._asdict().items())


def outcome_of(row: sa.RowMapping) -> VisitOutcome | None:
    """Return the outcome in a row."""
    return None if row["outcome"] is None else VisitOutcome.model_validate_json(row["outcome"])


def _record(row: sa.RowMapping) -> VisitRecord:
    return VisitRecord(
        visit=FannedOutVisit.model_validate_json(row["visit"]),
        deployment_id=row["deployment_id"],
        day_obs=row["day_obs"],
        state=row["state"],
        attempts=row["attempts"],
        owner=row["owner"],
        created=row["created"],
        started=row["started"],
        finished=row["finished"],
        # That of one that runs is there for the case that it ends unheard.
        outcome=None if row["state"] == RUNNING else outcome_of(row),
    )
