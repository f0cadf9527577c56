"""PanDA's jobs, listed by its own client from a server of the tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from models.errors import InvalidMessage, TemporarilyUnavailable
from models.streaming.job_listing import JobQuery
from repos.streaming.panda_client import PandaClient
from repos.streaming.panda_job_listing import PandaJobListing
from tests.repos.streaming.panda_server import PandaServer, panda_server


@pytest.fixture
def panda() -> Iterator[PandaServer]:
    with panda_server() as server:
        plain = server.answer

        def answer(endpoint: str, what: Any) -> tuple[bool, str, Any]:
            if endpoint == "task/get_tasks_detailed_info_since":
                return True, "", [{"jediTaskID": 5001, "status": "running"}]
            return plain(endpoint, what)

        server.answer = answer  # type: ignore[method-assign]
        yield server


@pytest.fixture
def listing(panda: PandaServer) -> Iterator[PandaJobListing]:
    client = PandaClient(environment={**os.environ, **panda.environment}, timeout=60)
    yield PandaJobListing(client)
    client.close()


def test_jobs_of_a_task(panda: PandaServer, listing: PandaJobListing) -> None:
    panda.add_job(
        7001,
        "finished",
        "swf.102363.000001.stf",
        jediTaskID=5001,
        prodUserName="alice",
        computingSite="E1_BNL",
        creationTime="2026-03-14 09:26:53",
        modificationTime="2026-03-14 09:30:00",
        nEvents=12,
        reqID="NULL",
    )
    panda.add_job(7002, "failed", "swf.102363.000002.stf", jediTaskID=5001, pilotErrorDiag="no disk")
    found = listing.listed(JobQuery(taskid=5001, limit=10))
    assert found.summary == {"failed": 1, "finished": 1}
    failed, finished = found.jobs
    assert (failed.pandaid, failed.error, failed.inputfiles) == (7002, "no disk", ("swf.102363.000002.stf",))
    assert finished.creationtime == datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC)
    assert (finished.produsername, finished.computingsite, finished.nevents) == ("alice", "E1_BNL", 12)
    assert finished.reqid is None
    assert panda.calls("task/get_job_ids") == [{"task_id": "5001"}]
    assert not panda.calls("task/get_tasks_detailed_info_since")


def test_jobs_of_a_week(panda: PandaServer, listing: PandaJobListing) -> None:
    panda.add_job(7001, "finished", "a.stf", modificationTime="2026-03-14 09:30:00", prodUserName="alice")
    panda.add_job(7002, "running", "b.stf", modificationTime="2026-03-01 00:00:00", prodUserName="bob")
    since = datetime(2026, 3, 10, tzinfo=UTC)
    assert [job.pandaid for job in listing.listed(JobQuery(since=since)).jobs] == [7001]
    (asked,) = panda.calls("task/get_tasks_detailed_info_since")
    assert asked["since"] == "2026-03-10 00:00:00"
    assert [job.pandaid for job in listing.listed(JobQuery(username="bob")).jobs] == [7002]
    assert [job.pandaid for job in listing.listed(JobQuery(status="running")).jobs] == [7002]
    assert listing.listed(JobQuery(site="elsewhere")).total == 0


def test_page_by_page(panda: PandaServer, listing: PandaJobListing) -> None:
    for number in range(7001, 7004):
        panda.add_job(number, "finished", f"{number}.stf")
    first = listing.listed(JobQuery(taskid=1, limit=2))
    assert ([job.pandaid for job in first.jobs], first.more, first.total) == ([7003, 7002], True, 3)
    rest = listing.listed(JobQuery(taskid=1, limit=2, before_id=7002))
    assert ([job.pandaid for job in rest.jobs], rest.more, rest.total) == ([7001], False, 3)


def test_more_than_panda_should_be_bothered_with(panda: PandaServer, listing: PandaJobListing) -> None:
    for number in range(20_001):
        panda.add_job(number, "finished", "a.stf")
    with pytest.raises(InvalidMessage, match="20001 jobs"):
        listing.listed(JobQuery(taskid=1))
    assert not panda.calls("job/get_description_incl_archive")


def test_panda_away(panda: PandaServer, listing: PandaJobListing) -> None:
    panda.away = True
    with pytest.raises(TemporarilyUnavailable, match="PanDA"):
        listing.listed(JobQuery(taskid=1))
