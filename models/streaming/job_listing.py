"""Jobs as they are listed for people: what was asked for, what there is."""

from __future__ import annotations

__all__ = ["JobListing", "JobQuery", "ListedJob"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class JobQuery:
    """Which jobs are asked for; what is None is not asked for.

    Attributes
    ----------
    since : `datetime.datetime` or `None`
        Jobs that changed then or later, aware.
    status, username, site : `str` or `None`
    taskid, reqid : `int` or `None`
    limit : `int`
    before_id : `int` or `None`
        Jobs with smaller ids.
    """

    since: datetime | None = None
    status: str | None = None
    username: str | None = None
    site: str | None = None
    taskid: int | None = None
    reqid: int | None = None
    limit: int = 200
    before_id: int | None = None


@dataclass(frozen=True)
class ListedJob:
    """A job, under PanDA's names; what is not known is None.

    Attributes
    ----------
    inputfiles : `tuple` [`str`, ...]
        Names of its input files; an addition to what the field lists.
    error : `str` or `None`
        What went wrong; an addition as well.
    """

    pandaid: int
    jobstatus: str
    jeditaskid: int | None = None
    reqid: int | None = None
    produsername: str | None = None
    computingsite: str | None = None
    transformation: str | None = None
    processingtype: str | None = None
    creationtime: datetime | None = None
    starttime: datetime | None = None
    endtime: datetime | None = None
    modificationtime: datetime | None = None
    corecount: int | None = None
    nevents: int | None = None
    noutputdatafiles: int | None = None
    outputfilebytes: int | None = None
    destinationse: str | None = None
    inputfiles: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class JobListing:
    """Jobs that were asked for.

    Attributes
    ----------
    jobs : sequence of `ListedJob`
        Greatest ids first.
    summary : mapping
        How many there are of each status, whatever `JobQuery.limit` and
        `JobQuery.before_id`.
    more : `bool`
        Whether there are some with smaller ids than the last of `jobs`.
    """

    jobs: Sequence[ListedJob]
    summary: Mapping[str, int]
    more: bool = False

    @property
    def total(self) -> int:
        """How many there are of all statuses."""
        return sum(self.summary.values())
