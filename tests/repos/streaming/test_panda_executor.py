"""Tasks executed by PanDA: its own client, against a server that records."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.errors import InvalidMessage, TemporarilyUnavailable
from models.streaming.datasets import DatasetId
from models.streaming.tasks import TaskPhase, TaskSpec, TaskState
from repos.streaming import panda_client, panda_executor
from repos.streaming.panda_client import PandaClient, PandaExited
from repos.streaming.panda_clients import PandaClients
from repos.streaming.panda_executor import PAYLOAD, PandaExecutor, find_task_id
from tests.repos.streaming.executing import until
from tests.repos.streaming.panda_server import PandaServer, panda_server
from tests.services.streaming.processing_world import RUN, World, stf_ready

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "streaming" / "panda_task.json"
NAME = "user.alice.swf.102363.processed"
TASK = TaskSpec(
    name=NAME,
    run_id="102363",
    execution_id="prompt_processing-alice-0001",
    input=DatasetId("group.daq", "swf.102363.run"),
    output=NAME,
    namespace="test-user",
)


@pytest.fixture
def panda() -> Iterator[PandaServer]:
    with panda_server() as server:
        yield server


@pytest.fixture
def executor(panda: PandaServer) -> Iterator[PandaExecutor]:
    executor = make_executor(panda)
    yield executor
    executor.close()


def make_executor(panda: PandaServer, **more: Any) -> PandaExecutor:
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **panda.environment}

    def client(directory: Path | None = None) -> PandaClient:
        return PandaClient(directory=directory, environment=environment, timeout=60.0)

    return PandaExecutor(clients=PandaClients(client), **more)


def sandbox(panda: PandaServer) -> dict[str, tuple[int, str]]:
    """Mode and text of the files that were uploaded last."""
    upload = panda.uploads[-1]
    archive = upload[upload.index(b"\x1f\x8b") :]
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        return {
            member.name: (member.mode, content.read().decode())
            for member in files.getmembers()
            if (content := files.extractfile(member)) is not None
        }


def plain(parameters: dict[str, Any]) -> dict[str, Any]:
    """Task parameters without what is different each time."""
    text = re.sub(r"jobO\.[0-9a-f-]{36}\.tar\.gz", "jobO.<uuid>.tar.gz", json.dumps(parameters))
    return {**json.loads(text), "osInfo": "<platform>", "sourceURL": "<cache server>"}


def test_the_task_dictionary_is_that_of_the_field(executor: PandaExecutor, panda: PandaServer) -> None:
    directory = Path.cwd()
    assert executor.submit(TASK) == "5001"
    (submitted,) = panda.calls("task/submit")
    assert submitted["parent_tid"] is None
    golden = json.loads(GOLDEN.read_text())
    assert plain(submitted["task_parameters"]) == golden
    assert list(submitted["task_parameters"]) == list(golden)
    assert submitted["task_parameters"]["sourceURL"] == panda.url
    assert submitted["task_parameters"]["osInfo"].startswith("Linux-")
    assert Path.cwd() == directory
    assert sandbox(panda) == {"payload.sh": (0o755, PAYLOAD)}
    (authorization,) = panda.tokens
    assert authorization == f"Bearer {panda.environment['PANDA_AUTH_ID_TOKEN']}"


def test_a_task_for_a_dataset_as_it_is(executor: PandaExecutor, panda: PandaServer) -> None:
    executor.submit(replace(TASK, until_closed=False))
    (submitted,) = panda.calls("task/submit")
    assert "runUntilClosed" not in submitted["task_parameters"]
    assert submitted["task_parameters"]["processingType"] != "stfprocessing"


def test_a_payload_of_the_user(panda: PandaServer, tmp_path: Path) -> None:
    script = tmp_path / "mine"
    script.write_text("#!/bin/sh\necho mine > myout.txt\n")
    make_executor(panda, script=script).submit(TASK)
    assert sandbox(panda) == {"payload.sh": (0o755, script.read_text())}


def test_the_second_submission_gives_the_first_task(executor: PandaExecutor, panda: PandaServer) -> None:
    assert [executor.submit(TASK) for _ in range(2)] == ["5001", "5001"]
    assert len(panda.tasks) == 1
    other = replace(TASK, name=f"{NAME}2", output=f"{NAME}2")
    assert executor.submit(other) == "5002"


@pytest.mark.parametrize(
    ("answer", "task_id"),
    [
        ((0, "succeeded. new jediTaskID=17"), "17"),
        ((1, "duplicated in DEFT: task id 18"), "18"),
        ((2, "jediTaskID=19 is already there"), "19"),
        ((3, "accepted. reuse jediTaskID=20"), "20"),
    ],
)
def test_codes_that_mean_a_task(answer: tuple[int, str], task_id: str) -> None:
    assert panda_executor._read_submission(TASK, 0, list(answer)) == task_id


@pytest.mark.parametrize(
    ("status", "answer", "error"),
    [
        (255, None, "did not take"),
        (0, (4, "jediTaskID=5 server error"), "failed at the task"),
        (0, (None, "jediTaskID=5 is not yours"), "failed at the task"),
        (0, (5, "jediTaskID=5 is broken"), "failed at the task"),
        (0, (1, "duplicated"), "says no id yet"),
        (0, (0, "fine"), "says no id"),
        (0, None, "says no id"),
    ],
)
def test_answers_that_mean_try_again(status: int, answer: Any, error: str) -> None:
    with pytest.raises(TemporarilyUnavailable, match=error):
        panda_executor._read_submission(TASK, status, answer)


@pytest.mark.parametrize(
    ("answer", "task_id"),
    [
        ((0, {"jediTaskID": 3}), "3"),
        ((0, {"task_id": "4"}), "4"),
        (("jediTaskID=1", "Task ID: 2"), "2"),
        ([0, ["x", "jeditaskid -> 7"]], "7"),
        ((0, {"message": "jediTaskID=9"}), None),
        ((0, "no number for you"), None),
        (None, None),
    ],
)
def test_where_the_id_of_a_task_is_looked_for(answer: Any, task_id: str | None) -> None:
    assert find_task_id(answer) == task_id


def test_a_server_that_fails(executor: PandaExecutor, panda: PandaServer) -> None:
    panda.refuse = 4
    with pytest.raises(TemporarilyUnavailable, match="failed at the task"):
        executor.submit(TASK)
    panda.away = True
    with pytest.raises(TemporarilyUnavailable, match="failed to upload sandbox"):
        executor.submit(TASK)
    for question in (lambda: executor.status("1"), lambda: executor.jobs("1")):
        # What the server said is printed by the library, and returned to nobody.
        with pytest.raises(TemporarilyUnavailable, match=r'failed with 255: .*"success"'):
            question()
    panda.away, panda.refuse = False, None
    assert executor.submit(TASK) == "5001"
    assert executor.status("5001") is TaskState.RUNNING


def test_arguments_that_prun_refuses(executor: PandaExecutor) -> None:
    with pytest.raises(InvalidMessage, match=r"ended with 10.*invalid output datasetname"):
        executor.submit(replace(TASK, output="wrong"))


def test_without_a_valid_token_it_is_tried_again(panda: PandaServer, tmp_path: Path) -> None:
    """Somebody may renew it: the library would ask for that, and ends."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **panda.environment}
    del environment["PANDA_AUTH_ID_TOKEN"]

    def client(directory: Path | None = None) -> PandaClient:
        return PandaClient(directory=directory, environment=environment, timeout=60.0)

    executor = PandaExecutor(clients=PandaClients(client))
    panda.away = True
    with pytest.raises(TemporarilyUnavailable, match=r"ended with 255: .*Failed to get Auth configuration"):
        executor.status("1")
    with pytest.raises(TemporarilyUnavailable):
        executor.submit(TASK)
    executor.close()


@pytest.mark.parametrize("code", [50, 60, 255])
def test_ends_of_prun_that_say_nothing_of_the_task(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: Any, **__: Any) -> tuple[int, Any]:
        raise PandaExited(code, "no token")

    client = PandaClient()
    monkeypatch.setattr(client, "ask", ask)
    executor = PandaExecutor(clients=PandaClients(lambda directory: client))
    with pytest.raises(TemporarilyUnavailable, match="no token"):
        executor.submit(TASK)


def test_an_end_does_not_wait_for_panda(panda: PandaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, release = threading.Event(), threading.Event()

    def answer(*_: Any) -> tuple[bool, str, Any]:
        asked.set()
        release.wait(60)
        return True, "", "done"

    monkeypatch.setattr(PandaServer, "answer", answer)
    executor = make_executor(panda)
    errors: list[Exception] = []

    def ask() -> None:
        try:
            executor.status("1")
        except TemporarilyUnavailable as error:
            errors.append(error)

    asker = threading.Thread(target=ask)
    asker.start()
    assert asked.wait(60)
    executor.close()
    asker.join(60)
    assert not release.is_set() and not asker.is_alive()
    release.set()
    assert "process ended" in str(errors[0])


def test_an_end_while_a_process_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither it nor who waits for it is left over."""
    (tmp_path / "silent.py").write_text("import time; time.sleep(60)")
    monkeypatch.setattr(panda_client, "_HELPER", tmp_path / "silent.py")
    client = PandaClient(timeout=10.0)
    closing = threading.Thread(target=client.close)
    begin = subprocess.Popen
    begun: list[subprocess.Popen[bytes]] = []

    def popen(*args: Any, **more: Any) -> subprocess.Popen[bytes]:
        closing.start()
        # It finds no process to end, and waits.
        until(lambda: client._closed, 60)
        begun.append(begin(*args, **more))
        return begun[0]

    monkeypatch.setattr(subprocess, "Popen", popen)
    with pytest.raises(TemporarilyUnavailable, match="not asked any more"):
        client.answer("task_status", task=1)
    closing.join(60)
    assert begun[0].returncode is not None
    with pytest.raises(TemporarilyUnavailable, match="not asked any more"):
        client.answer("task_status", task=1)
    assert len(begun) == 1


def test_a_question_that_hangs_holds_up_no_other(
    executor: PandaExecutor, panda: PandaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three at once, one is not answered before the others are."""
    plain, asked, release = PandaServer.answer, threading.Event(), threading.Event()

    def answer(server: PandaServer, endpoint: str, what: Any) -> tuple[bool, str, Any]:
        if what == {"task_id": "1"}:
            asked.set()
            assert release.wait(60)
        return plain(server, endpoint, what)

    monkeypatch.setattr(PandaServer, "answer", answer)
    states: list[TaskState] = []
    asker = threading.Thread(target=lambda: states.append(executor.status("1")))
    asker.start()
    assert asked.wait(60)
    assert executor.status("2") is TaskState.RUNNING
    assert executor.submit(TASK) == "5001"
    assert not states
    release.set()
    asker.join(60)
    assert states == [TaskState.RUNNING]


def test_processes_are_not_more_than_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    clients = PandaClients()
    closed: list[PandaClient] = []
    monkeypatch.setattr(PandaClient, "close", lambda client: closed.append(client))
    with clients.one() as first, clients.one() as second:
        assert first is not second
    assert closed == [first]
    with clients.one() as again, clients.one(Path()) as other:
        assert again is second
        clients.close()
        assert set(closed) == {first, second, other}
    with pytest.raises(TemporarilyUnavailable), clients.one():
        pass


def test_a_server_that_hangs(panda: PandaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(PandaServer, "answer", lambda *_: (release.wait(60), "", "done"))
    client = PandaClient(environment={"PATH": os.environ["PATH"], **panda.environment}, timeout=1.5)
    with pytest.raises(TemporarilyUnavailable, match=r"no answer within 1\.5 s"):
        client.ask("task_status", task=1)
    release.set()

    def answered() -> bool:
        # A busy machine may need more than 1.5 s, though nothing hangs.
        with suppress(TemporarilyUnavailable):
            return client.ask("task_status", task=1) == (0, "done")
        return False

    until(answered)
    client.close()


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ("RUNNING", TaskState.RUNNING),
        ("scouting", TaskState.RUNNING),
        ("Done", TaskState.DONE),
        ("aborted", TaskState.ABORTED),
        ("broken", TaskState.FAILED),
    ],
)
def test_states_of_tasks(executor: PandaExecutor, panda: PandaServer, said: str, state: TaskState) -> None:
    panda.status = said
    assert executor.status("5001") is state
    assert panda.asked == [("GET", "/api/v1/task/get_status", {"task_id": "5001"})]


def test_jobs_are_asked_for_until_they_are_final(
    executor: PandaExecutor, panda: PandaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(panda_executor, "_BATCH", 2)
    panda.add_job(1, "finished", "group.daq:swf.102363.000001.stf", creationTime="2026-01-02 03:04:05")
    panda.add_job(2, "failed", "b.stf", pilotErrorDiag="no disk", attemptNr=1, maxAttempt=3)
    panda.add_job(3, "running", "c.stf")
    first = executor.jobs("5001")
    assert first.more
    second = executor.jobs("5001", cursor=first.cursor)
    assert not second.more
    one, two = first.jobs
    assert (one.job_id, one.status, one.inputs) == ("1", "finished", ("group.daq:swf.102363.000001.stf",))
    assert one.created is not None and one.created.isoformat() == "2026-01-02T03:04:05+00:00"
    assert (two.error, two.retried, two.failed) == ("no disk", True, False)
    third = executor.jobs("5001", cursor=second.cursor)
    assert third.jobs == ()
    panda.add_job(3, "finished", "c.stf")
    fourth = executor.jobs("5001", cursor=third.cursor)
    assert [job.status for job in fourth.jobs] == ["finished"]
    asked = [what["job_ids"] for what in panda.calls("job/get_description_incl_archive")]
    assert asked == [[1, 2], [3], [3], [3]]
    assert executor.jobs("5001", cursor=fourth.cursor).jobs == ()
    assert len(panda.calls("job/get_description_incl_archive")) == 4


def test_a_run_of_the_processing_agent(panda: PandaServer, tmp_path: Path) -> None:
    """The agent's whole path, with PanDA at its end."""
    world = World(tmp_path)
    world.executor = make_executor(panda)  # type: ignore[assignment]
    world.new_agent()
    world.monitor.add_files(1, 2)
    world.agent.receive([stf_ready()])
    world.advance()
    assert world.run.task_id == "5001"
    panda.add_job(71, "finished", f"group.daq:swf.{RUN}.000001.stf")
    panda.add_job(72, "failed", f"swf.{RUN}.000002.stf", attemptNr=1, maxAttempt=1)
    world.advance(60)
    assert world.monitor.statuses() == {1: "processed", 2: "failed"}
    panda.add_job(73, "finished", f"swf.{RUN}.000002.stf")
    panda.status = "done"
    world.advance(60)
    assert world.monitor.statuses() == {1: "processed", 2: "processed"}
    assert world.run.phase is TaskPhase.COMPLETE
    assert world.monitor.row(2).metadata["panda_job_id"] == "73"
    world.executor.close()
