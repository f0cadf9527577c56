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
from models.ledger import RUNNING, Claim
from models.outcomes import Result, VisitOutcome
from models.visits import FannedOutVisit, VisitKey
from repos.ledger_database import ledger_errors, single_statement, writing
from repos.ledger_history import LedgerHistory, is_visit, outcome_of
from repos.ledger_statements import FINAL_RESULTS, Statements
from repos.ledger_tables import VISITS
from repos.outbox import Outbox

_log = logging.getLogger(__name__)

#: A visit that runs, and of which messages were sent.
_SENT = (VISITS.c.state == RUNNING, VISITS.c.outcome.is_not(None))


class Ledger(LedgerHistory):
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
        Called when messages have been put into the outbox.
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
        super().__init__(engine)
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
            # What messages were sent of cannot be tried again.
            lost = _update(visit.key, deployment_id).where(*_SENT, VISITS.c.leased_until < new["started"])
            final = row["state"] in FINAL_RESULTS or (
                row["state"] == RUNNING
                and row["outcome"] is not None
                and connection.execute(lost.values(self._lost())).rowcount == 1
            )
        return Claim(granted=False, attempt=row["attempts"], outcome=outcome_of(row) if final else None)

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

    def send(
        self,
        visit: FannedOutVisit,
        deployment_id: str,
        day_obs: int,
        messages: Sequence[OutboxMessage],
        lost: VisitOutcome,
    ) -> bool:
        """Put messages of a running visit into the outbox.

        The visit cannot be run again then. Safe to repeat, before any other
        call for this visit, when it is not known whether an earlier call got
        through.

        Parameters
        ----------
        visit : `models.visits.FannedOutVisit`
        deployment_id : `str`
        day_obs : `int`
            As in `claim`.
        messages : sequence of `models.events.OutboxMessage`
        lost : `models.outcomes.VisitOutcome`
            Its result if no other is recorded; a different one for each call
            that is not a repetition.

        Returns
        -------
        done : `bool`
            False if another process has claimed the visit, or there is a
            result that stands.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached; nothing is stored, or
            it is not known whether.
        """
        row = self._row(visit, deployment_id, day_obs) | {"outcome": lost.model_dump_json()}
        with writing(self._engine, durable=True) as connection:
            if connection.execute(self._statements.send, row).scalar_one_or_none() is None:
                # Whatever its state: who took us for dead has left our messages.
                there = connection.execute(_row(visit.key, deployment_id)).mappings().one()
                return all(there[name] == row[name] for name in ("owner", "outcome"))
            Outbox.add(connection, messages, visit.key, self._now())
        self._on_messages()
        return True

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
        the first result that stands is recorded, and none if the other has
        sent messages of it by now.

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
            connection.execute(statements.send, begun | {"outcome": ""})
            for stands in (True, False):
                connection.execute(statements.record(stands=stands), ended)
            transaction.rollback()

    def recover_orphans(self) -> list[VisitKey]:
        """Mark as interrupted what a service that died was processing, or as
        not retriable if messages of it were sent.

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
            connection.execute(VISITS.update().where(*_SENT).values(self._lost()))
            connection.execute(VISITS.update().where(orphaned).values(values))
        for orphan in orphans:
            _log.warning("%s group %s detector %s was left behind by a service that ended.", *orphan)
        return orphans

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

    def _lost(self) -> dict[str, object]:
        """Return what makes the result that a visit has if no other is
        recorded its result.
        """
        return {"state": Result.NOT_RETRIABLE.value, "finished": self._now(), "leased_until": None}

    def _leased_until(self) -> datetime | None:
        return None if self._lease is None else self._now() + self._lease


def _row(key: VisitKey, deployment_id: str) -> sa.Select[tuple[object, ...]]:
    return sa.select(VISITS).where(*is_visit(key), VISITS.c.deployment_id == deployment_id)


def _update(key: VisitKey, deployment_id: str) -> sa.Update:
    return VISITS.update().where(*is_visit(key), VISITS.c.deployment_id == deployment_id)
