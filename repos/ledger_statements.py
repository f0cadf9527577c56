"""The statements in which the ledger's rules are.

Each decides in the database itself, in one step, so that any number of
processes may ask at once. They are made once a process: a survey camera's
visits are all claimed in the same half second.
"""

from __future__ import annotations

__all__ = ["FINAL_RESULTS", "Statements"]

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from models.ledger import RUNNING
from models.outcomes import Result
from repos.ledger_tables import VISITS

#: Results that stand: the visit is answered so again without another run.
FINAL_RESULTS = (Result.PROCESSED, Result.NOT_RETRIABLE)

_ABOUT_AN_ATTEMPT = ("day_obs", "state", "owner", "leased_until", "started", "finished", "outcome", "visit")
_ABOUT_MESSAGES = ("state", "owner", "leased_until", "outcome")
_ABOUT_A_RESULT = ("state", "owner", "leased_until", "finished", "outcome")


class Statements:
    """Statements to be executed with a whole row of `VISITS`.

    Each returns the number of attempts if it did something, and no row
    otherwise.

    Parameters
    ----------
    dialect : `sqlalchemy.Dialect`
        Of SQLite or PostgreSQL.

    Attributes
    ----------
    claim : `sqlalchemy.Compiled`
        Inserts the row, or begins another attempt if the last one failed or
        its lease has run out; not if messages of that one were sent.
    send : `sqlalchemy.Compiled`
        Inserts the row of a visit whose messages are sent, or notes what its
        result is if no other is recorded: for the process that has the claim,
        and once for each such result.
    """

    def __init__(self, dialect: sa.Dialect) -> None:
        self._insert = postgresql.insert if dialect.name == "postgresql" else sqlite.insert
        # SQLAlchemy does not remember compiled statements of this kind.
        compiled = [
            statement.compile(dialect=dialect, column_keys=VISITS.columns.keys())
            for statement in (
                self._make_claim(),
                self._make_send(),
                self._make_record(stands=True),
                self._make_record(stands=False),
            )
        ]
        self.claim, self.send, self._record_final, self._record_other = compiled

    def record(self, *, stands: bool) -> Any:
        """Return the statement that records a result.

        One result is recorded once: outcomes hold timings, so an equal one is
        the same one. Of a visit that another process has taken over, only a
        result that stands is recorded, and only the first; none once messages
        of the other were sent, for ours would say the same again.

        Parameters
        ----------
        stands : `bool`
            Whether the result is one of `FINAL_RESULTS`.
        """
        return self._record_final if stands else self._record_other

    def _make_claim(self) -> Any:
        insert = self._insert(VISITS)
        new = insert.excluded
        # A comparison with null, a claim without lease, holds never.
        abandoned = VISITS.c.state == RUNNING, VISITS.c.leased_until < new.started
        claimable = sa.or_(
            _is_none_of((RUNNING, *FINAL_RESULTS)), sa.and_(*abandoned, VISITS.c.outcome.is_(None))
        )
        changes = {name: new[name] for name in _ABOUT_AN_ATTEMPT} | {"attempts": VISITS.c.attempts + 1}
        return insert.on_conflict_do_update(
            index_elements=VISITS.primary_key.columns, set_=changes, where=claimable
        ).returning(VISITS.c.attempts)

    def _make_send(self) -> Any:
        insert = self._insert(VISITS)
        new = insert.excluded
        ours = sa.and_(
            VISITS.c.state == RUNNING,
            VISITS.c.owner == new.owner,
            VISITS.c.outcome.is_distinct_from(new.outcome),
        )
        return insert.on_conflict_do_update(
            index_elements=VISITS.primary_key.columns,
            set_={name: new[name] for name in _ABOUT_MESSAGES},
            # A claim that could not be recorded left the row of an earlier one.
            where=sa.or_(ours, _is_none_of((RUNNING, *FINAL_RESULTS))),
        ).returning(VISITS.c.attempts)

    def _make_record(self, *, stands: bool) -> Any:
        insert = self._insert(VISITS)
        new = insert.excluded
        others = _is_none_of((RUNNING, *FINAL_RESULTS))
        if stands:
            others = sa.or_(others, sa.and_(VISITS.c.state == RUNNING, VISITS.c.outcome.is_(None)))
        recordable = sa.and_(
            sa.or_(VISITS.c.owner == new.owner, others), VISITS.c.outcome.is_distinct_from(new.outcome)
        )
        return insert.on_conflict_do_update(
            index_elements=VISITS.primary_key.columns,
            set_={name: new[name] for name in _ABOUT_A_RESULT},
            where=recordable,
        ).returning(VISITS.c.attempts)


def _is_none_of(states: Iterable[str]) -> sa.ColumnElement[bool]:
    # IN would be put together anew for each execution.
    return sa.and_(*(VISITS.c.state != str(state) for state in states))
