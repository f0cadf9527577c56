"""The visit ledger: who processes which visit, and what became of it."""

from __future__ import annotations

__all__ = ["Ledger"]

import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from models.errors import TemporarilyUnavailable
from models.events import OutboxMessage
from models.ledger import RUNNING, Claim, VisitRecord
from models.outcomes import Result, VisitOutcome
from models.visits import FannedOutVisit, VisitKey
from repos.ledger_database import ledger_errors, reading, single_statement, writing
from repos.ledger_statements import FINAL_RESULTS, Statements
from repos.ledger_tables import VISITS
from repos.outbox import Outbox

_log = logging.getLogger(__name__)


class Ledger:
    """Remembers what became of each visit of a deployment.

    Safe to use from many threads and, with a database on a server, from many
    processes.

    Parameters
    ----------
    engine : `sqlalchemy.Engine`
        See `repos.ledger_database`.
    owner : `str`, optional
        Names this process, and no other, in the rows that it claims.
    lease : `datetime.timedelta`, optional
        For how long a claim stands without being refreshed; after that the
        process is taken for dead, and another may claim the visit. By default
        a claim stands until its visit is finished.
    on_messages : callable, optional
        Called when `finish` has put messages into the outbox.
    now : callable, optional
        Returns the present time, aware.
    """

    def __init__(
        self,
        engine: sa.Engine,
        *,
        owner: str = "",
        lease: timedelta | None = None,
        on_messages: Callable[[], object] = lambda: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._engine = engine
        self._statements = Statements(engine.dialect)
        self._owner = owner
        self._lease = lease
        self._on_messages = on_messages
        self._now = now

    def claim(self, visit: FannedOutVisit, deployment_id: str, day_obs: int) -> Claim:
        """Ask to process a visit.

        Of any number that ask at once, one is granted the claim; it stands
        until `finish`, or until its lease runs out. Failed and interrupted
        visits may be claimed again.

        Parameters
        ----------
        visit : `models.visits.FannedOutVisit`
        deployment_id : `str`
        day_obs : `int`
            Day on which processing begins, YYYYMMDD.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        new = self._row(visit, deployment_id, day_obs)
        # A claim need not survive a power cut: without its row the visit may be
        # tried again, and the APDB tells whether it may be run.
        with single_statement(self._engine) as connection:
            attempt = connection.execute(self._statements.claim, new).scalar_one_or_none()
            if attempt is not None:
                return Claim(granted=True, attempt=attempt)
            row = connection.execute(_row(visit.key, deployment_id)).mappings().one()
        final = row["state"] in FINAL_RESULTS
        return Claim(granted=False, attempt=row["attempts"], outcome=_outcome(row) if final else None)

    def refresh(self, visit: FannedOutVisit, deployment_id: str) -> bool:
        """Extend the lease of a claim.

        Returns
        -------
        ours : `bool`
            Whether the claim still stands; if not, the lease had run out and
            another process has claimed the visit, or it is finished.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        mine = VISITS.c.owner == self._owner, VISITS.c.state == RUNNING
        extend = _update(visit.key, deployment_id).where(*mine).values(leased_until=self._leased_until())
        with single_statement(self._engine) as connection:
            return connection.execute(extend).rowcount == 1

    def finish(
        self,
        visit: FannedOutVisit,
        deployment_id: str,
        day_obs: int,
        outcome: VisitOutcome,
        outbox: Sequence[OutboxMessage] = (),
    ) -> None:
        """Record a result and its messages in one transaction.

        Safe to repeat when it is not known whether an earlier call got
        through. Whoever began while the ledger was away has no row yet and
        gets one. If the lease ran out and another has claimed the visit, only
        the first result that stands is recorded.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached; nothing is recorded.
        """
        now = self._now()
        values = {
            **self._row(visit, deployment_id, day_obs),
            "state": outcome.result.value,
            "finished": now,
            "outcome": outcome.model_dump_json(),
            "leased_until": None,
        }
        record = self._statements.record(stands=outcome.result in FINAL_RESULTS)
        with writing(self._engine, durable=True) as connection:
            if connection.execute(record, values).scalar_one_or_none() is None:
                _log.warning("The result of %s was recorded before, or another one stands.", visit)
                return
            Outbox.add(connection, outbox, visit.key, now)
        if outbox:
            self._on_messages()

    def rehearse(self) -> None:
        """Do once what takes longer the first time; nothing of it stays.

        A database that is away is no reason not to start.
        """
        nobody = {
            "instrument": "",
            "group": "",
            "detector": 0,
            "deployment_id": uuid.uuid4().hex,
            "visit": "",
        }
        begun = self._begun(nobody, 0)
        ended = begun | {"state": Result.FAILED.value, "outcome": ""}
        statements = self._statements
        with suppress(TemporarilyUnavailable), ledger_errors(), self._engine.connect() as connection:
            transaction = connection.begin()
            connection.execute(statements.claim, begun)
            for stands in (True, False):
                connection.execute(statements.record(stands=stands), ended)
            transaction.rollback()

    def recover_orphans(self) -> list[VisitKey]:
        """Mark as interrupted what a service that died was processing.

        Only for an embedded ledger, by the one that holds its
        `repos.ledger_database.LedgerLock`.

        Returns
        -------
        orphans : `list` [`models.visits.VisitKey`]

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        outcome = VisitOutcome(
            result=Result.INTERRUPTED,
            title="Interrupted",
            detail="the service ended while it processed this visit",
        )
        key = (VISITS.c.instrument, VISITS.c.group, VISITS.c.detector)
        orphaned = VISITS.c.state == RUNNING
        values = {
            "state": Result.INTERRUPTED.value,
            "finished": self._now(),
            "outcome": outcome.model_dump_json(),
            "leased_until": None,
        }
        with writing(self._engine) as connection:
            orphans = [VisitKey(*row) for row in connection.execute(sa.select(*key).where(orphaned))]
            connection.execute(VISITS.update().where(orphaned).values(values))
        for orphan in orphans:
            _log.warning("%s group %s detector %s was left behind by a service that ended.", *orphan)
        return orphans

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
        query = sa.select(VISITS).where(*_is(key)).order_by(VISITS.c.started.desc()).limit(1)
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

    def _row(self, visit: FannedOutVisit, deployment_id: str, day_obs: int) -> dict[str, object]:
        what = {**visit.key._asdict(), "deployment_id": deployment_id, "visit": visit.model_dump_json()}
        return self._begun(what, day_obs)

    def _begun(self, what: Mapping[str, object], day_obs: int) -> dict[str, object]:
        """Return the row of a visit that begins now."""
        now = self._now()
        return {
            **what,
            "day_obs": day_obs,
            "state": RUNNING,
            "attempts": 1,
            "owner": self._owner,
            "leased_until": self._leased_until(),
            "created": now,
            "started": now,
            "finished": None,
            "outcome": None,
        }

    def _leased_until(self) -> datetime | None:
        return None if self._lease is None else self._now() + self._lease

    def _records(self, query: sa.Select[tuple[object, ...]]) -> list[VisitRecord]:
        with reading(self._engine) as connection:
            return [_record(row) for row in connection.execute(query).mappings()]


def _is(key: VisitKey) -> tuple[sa.ColumnElement[bool], ...]:
    return tuple(VISITS.c[name] == value for name, value in key._asdict().items())


def _row(key: VisitKey, deployment_id: str) -> sa.Select[tuple[object, ...]]:
    return sa.select(VISITS).where(*_is(key), VISITS.c.deployment_id == deployment_id)


def _update(key: VisitKey, deployment_id: str) -> sa.Update:
    return VISITS.update().where(*_is(key), VISITS.c.deployment_id == deployment_id)


def _outcome(row: sa.RowMapping) -> VisitOutcome | None:
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
        outcome=_outcome(row),
    )
