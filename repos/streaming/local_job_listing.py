"""Jobs of the local executor, listed for people."""

from __future__ import annotations

__all__ = ["SITE", "LocalJobListing"]

import sqlalchemy as sa

from models.streaming.job_listing import JobListing, JobQuery, ListedJob
from repos.ledger_database import reading
from repos.streaming.task_tables import LOCAL_JOBS, LOCAL_TASKS

#: Where local jobs run, in PanDA's words.
SITE = "local"
_KIND = "stfprocessing"


class LocalJobListing:
    """Lists jobs; a `services.streaming.workflow_records.JobSource`.

    Parameters
    ----------
    engine : `sqlalchemy.Engine`
        Of the database that the executor uses; see
        `repos.streaming.database`.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def listed(self, query: JobQuery) -> JobListing:
        """Return jobs.

        Local jobs have no request, and their user is the namespace.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised while the database is away.
        """
        if query.reqid is not None or query.site not in (None, SITE):
            return JobListing((), {})
        changed = sa.func.coalesce(LOCAL_JOBS.c.ended, LOCAL_JOBS.c.started, LOCAL_JOBS.c.created)
        conditions: list[sa.ColumnElement[bool]] = []
        if query.taskid is not None:
            conditions.append(LOCAL_JOBS.c.task == query.taskid)
        if query.status is not None:
            conditions.append(LOCAL_JOBS.c.status == query.status)
        if query.username is not None:
            conditions.append(LOCAL_TASKS.c.namespace == query.username)
        if query.since is not None:
            conditions.append(changed >= sa.literal(query.since, LOCAL_JOBS.c.created.type))
        joined = LOCAL_JOBS.join(LOCAL_TASKS, LOCAL_TASKS.c.id == LOCAL_JOBS.c.task)
        counts = (
            sa.select(LOCAL_JOBS.c.status, sa.func.count().label("total"))
            .select_from(joined)
            .where(*conditions)
            .group_by(LOCAL_JOBS.c.status)
        )
        if query.before_id is not None:
            conditions.append(LOCAL_JOBS.c.id < query.before_id)
        jobs = (
            sa.select(LOCAL_JOBS, LOCAL_TASKS.c.namespace)
            .select_from(joined)
            .where(*conditions)
            .order_by(LOCAL_JOBS.c.id.desc())
            .limit(query.limit + 1)
        )
        with reading(self._engine) as connection:
            summary = {row.status: row.total for row in connection.execute(counts)}
            rows = list(connection.execute(jobs).mappings())
        return JobListing([_listed(row) for row in rows[: query.limit]], summary, len(rows) > query.limit)


def _listed(row: sa.RowMapping) -> ListedJob:
    return ListedJob(
        pandaid=row["id"],
        jobstatus=row["status"],
        jeditaskid=row["task"],
        produsername=row["namespace"],
        computingsite=SITE,
        processingtype=_KIND,
        creationtime=row["created"],
        starttime=row["started"],
        endtime=row["ended"],
        modificationtime=row["ended"] or row["started"] or row["created"],
        inputfiles=(row["filename"],),
        error=row["error"],
    )
