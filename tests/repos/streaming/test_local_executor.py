"""Tasks executed here: each file's output is there once, whoever dies."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from models.errors import InvalidConfiguration, InvalidMessage, TemporarilyUnavailable
from models.streaming.datasets import DatasetId
from models.streaming.tasks import FINISHED, TaskState
from repos.streaming import local_executor, local_workers, payload_process, payloads
from repos.streaming.local_executor import LocalExecutor
from repos.streaming.local_job_listing import LocalJobListing
from repos.streaming.local_jobs import LocalJob
from tests.repos.streaming.executing import DATASET, TASK, Place, all_jobs, ended, until

FIRST = "swf.100010.000001.stf"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr(local_workers, "_RETRY", 0.05)
    for module in (local_executor, local_workers):
        monkeypatch.setattr(module, "_BACK_OFF", 0.05)
    place = Place(tmp_path)
    yield place
    place.close()


def test_files_are_processed_as_they_come_until_the_dataset_is_closed(place: Place) -> None:
    executor = place.executor()
    place.dataset.open = None
    task_id = executor.submit(TASK)
    place.dataset.open = True
    place.dataset.attach(1)
    until(lambda: place.outputs.exists() and place.names() == [FIRST])
    place.dataset.attach(2, 3)
    until(lambda: len(place.names()) == 3)
    assert executor.status(task_id) is TaskState.RUNNING
    place.dataset.open = False
    assert ended(executor, task_id) is TaskState.DONE
    jobs = all_jobs(executor, task_id)
    assert [(job.inputs, job.status, job.attempts, job.error) for job in jobs] == [
        ((f"swf.100010.{n:06d}.stf",), FINISHED, 1, None) for n in (1, 2, 3)
    ]
    assert all(job.created and job.started and job.ended for job in jobs)


def test_a_name_is_submitted_once(place: Place) -> None:
    place.dataset.attach(1)
    executor = place.executor()
    task_id = executor.submit(TASK)
    assert executor.submit(replace(TASK, execution_id="another")) == task_id
    place.dataset.open = False
    ended(executor, task_id)
    executor.close()
    later = place.executor()
    assert later.submit(TASK) == task_id
    assert later.status(task_id) is TaskState.DONE
    assert len(all_jobs(later, task_id)) == 1


def test_what_a_payload_knows(place: Place) -> None:
    place.dataset.attach(7, content="abc")
    place.dataset.open = False
    executor = place.executor("""sh -c 'env > variables; cat "$SWF_STF_FILE" > copy; pwd > where'""")
    task_id = executor.submit(TASK)
    assert ended(executor, task_id) is TaskState.DONE
    (name,) = place.names()
    out = place.outputs / name
    lines = (line.partition("=") for line in (out / "variables").read_text().splitlines())
    variables = {key: value for key, _, value in lines if key.startswith("SWF_")}
    work = (out / "where").read_text().strip()
    assert len(variables.pop("SWF_EXECUTOR")) == 32
    assert variables == {
        "SWF_NAMESPACE": "test-user",
        "SWF_EXECUTION_ID": "prompt_processing-alice-0001",
        "SWF_RUN_NUMBER": "100010",
        "SWF_SCOPE": "group.daq",
        "SWF_DATASET": DATASET.name,
        "SWF_OUTPUT_DATASET": TASK.output,
        "SWF_OUTPUT_DIRECTORY": work,
        "SWF_TASK_ID": task_id,
        "SWF_JOB_ID": "1",
        "SWF_ATTEMPT": "1",
        "SWF_STF_FILE": str(place.dataset.directory / name),
        "SWF_STF_NAME": "swf.100010.000007.stf",
        "SWF_SEQUENCE": "7",
        "SWF_SIZE_BYTES": "3",
        "SWF_ADLER32": "00f600fb",
    }
    assert (out / "copy").read_text() == "abc"
    assert not (out / "job.log").exists(), "nothing was said"
    assert not (place.outputs / ".work").exists()


def test_failures_are_tried_again_then_reported(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.dataset.attach(1, 2)
    place.dataset.open = False
    executor = place.executor(
        """sh -c 'echo attempt $SWF_ATTEMPT; test $SWF_SEQUENCE = 1 && test $SWF_ATTEMPT = 2 || exit 3'""",
        attempts=2,
    )
    task_id = executor.submit(TASK)
    assert ended(executor, task_id) is TaskState.FINISHED
    first, second = all_jobs(executor, task_id)
    assert (first.status, first.attempts) == (FINISHED, 2)
    assert (second.status, second.attempts, second.error) == ("failed", 2, "the payload ended with 3")
    assert second.failed
    assert place.names() == [FIRST]
    told = [record for record in caplog.records if "the payload ended with 3" in record.getMessage()]
    assert [record.levelname for record in told].count("ERROR") == 1
    # By what the monitor finds them.
    labels = {(vars(record).get("run_id"), vars(record).get("execution_id")) for record in told}
    assert labels == {(TASK.run_id, TASK.execution_id)}
    assert (place.outputs / FIRST / "job.log").read_text() == "attempt 2\n"
    assert (place.outputs / ".failed" / "swf.100010.000002.stf" / "job.log").read_text() == "attempt 2\n"


def test_a_task_of_which_all_fails(place: Place) -> None:
    place.dataset.attach(1, 2)
    (place.dataset.directory / FIRST).unlink()
    place.dataset.open = False
    executor = place.executor("sh -c 'kill -SEGV $$'")
    task_id = executor.submit(TASK)
    assert ended(executor, task_id) is TaskState.FAILED
    gone, dead = all_jobs(executor, task_id)
    assert gone.error == f"the file {place.dataset.directory / FIRST} is not there"
    assert dead.error == "the payload was killed by SIGSEGV"


def test_a_dataset_without_files(place: Place) -> None:
    place.dataset.open = False
    executor = place.executor()
    assert ended(executor, executor.submit(TASK)) is TaskState.DONE


def test_a_task_for_a_dataset_as_it_is(place: Place) -> None:
    place.dataset.attach(1)
    executor = place.executor()
    assert ended(executor, executor.submit(replace(TASK, until_closed=False))) is TaskState.DONE


def test_a_payload_that_takes_too_long_is_killed_with_all_it_started(place: Place) -> None:
    place.dataset.attach(1)
    place.dataset.open = False
    children = place.directory / "children"
    # The first comes to its end too soon only if the machine is busy.
    for timeout in (0.3, 3.0, 30.0):
        executor = place.executor(
            f"sh -c 'trap \"\" TERM; sleep 987 & echo $! > {children}; wait'", timeout=timeout
        )
        task_id = executor.submit(TASK)
        assert ended(executor, task_id) is TaskState.FAILED
        (job,) = all_jobs(executor, task_id)
        assert job.error == f"the payload was killed after {timeout:g} s"
        if children.exists():
            break
        executor.close()
    child = int(children.read_text())
    until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie")


def test_what_a_payload_put_into_a_session_of_its_own_ends_with_the_executor(place: Place) -> None:
    left = "import os, time; open('pid.new', 'w').write(str(os.getpid())); os.rename('pid.new', 'pid')"
    script = f'setsid {sys.executable} -c "{left}; time.sleep(600)" & while ! [ -e pid ]; do sleep 0.01; done'
    place.dataset.attach(1)
    place.dataset.open = False
    executor = place.executor(f"sh -c {shlex.quote(script)}")
    assert ended(executor, executor.submit(TASK)) is TaskState.DONE
    (name,) = place.names()
    pid = int((place.outputs / name / "pid").read_text())
    assert psutil.pid_exists(pid)
    executor.close()
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_what_a_payload_leaves_behind_is_killed(place: Place) -> None:
    place.dataset.attach(1)
    place.dataset.open = False
    executor = place.executor("sh -c 'sleep 986 & echo $!'")
    assert ended(executor, executor.submit(TASK)) is TaskState.DONE
    child = int((place.outputs / FIRST / "job.log").read_text())
    until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie")


def test_a_payload_that_says_too_much(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload_process, "_LOG_HEAD", 1000)
    monkeypatch.setattr(payload_process, "_LOG_TAIL", 100)
    place.dataset.attach(1)
    place.dataset.open = False
    executor = place.executor("sh -c 'seq 100000; echo the end'")
    assert ended(executor, executor.submit(TASK)) is TaskState.DONE
    log = (place.outputs / FIRST / "job.log").read_text()
    assert log.startswith("1\n2\n3\n")
    assert log.endswith("the end\n")
    assert "bytes are left out" in log
    assert len(log) < 1200


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        ("sh -c 'rm -r \"$SWF_OUTPUT_DIRECTORY\"'", "the payload removed the directory in which it worked"),
        ("sh -c 'cd ..; rm -r $SWF_STF_NAME; touch $SWF_STF_NAME'", "the payload removed the directory"),
        ("sh -c 'cd ..; rm -r $SWF_STF_NAME; ln -s / $SWF_STF_NAME'", "the payload removed the directory"),
        ("sh -c 'kill -40 $$'", "the payload was killed by signal 40"),
        ("sh -c 'kill -SEGV $$'", "the payload was killed by SIGSEGV"),
    ],
)
def test_payloads_that_end_oddly(place: Place, payload: str, error: str) -> None:
    place.dataset.attach(1)
    place.dataset.open = False
    executor = place.executor(payload, attempts=2)
    task_id = executor.submit(TASK)
    assert ended(executor, task_id) is TaskState.FAILED
    (job,) = all_jobs(executor, task_id)
    assert job.attempts == 2
    assert (job.error or "").startswith(error)


@pytest.mark.parametrize(
    ("script", "hint"),
    [
        ("echo no shebang", "a script begins with #!"),
        ("#!/no/such/shell\n", "it is there, but not the interp"),
    ],
)
def test_a_script_that_the_system_does_not_start_is_explained(tmp_path: Path, script: str, hint: str) -> None:
    program = tmp_path / "payload"
    program.write_text(script)
    program.chmod(0o755)
    stop = payload_process.StopSignal()
    error = payload_process.run_payload(
        [str(program)], directory=tmp_path, environment={}, timeout=60.0, stop=stop
    )
    stop.close()
    assert hint in (error or "")


def test_a_timeout_longer_than_the_system_can_wait(place: Place) -> None:
    place.dataset.attach(1)
    place.dataset.open = False
    executor = place.executor(timeout=1e9)
    assert ended(executor, executor.submit(TASK)) is TaskState.DONE


def test_who_writes_on_and_on_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """What a payload left behind may outlive it, and its output with it."""
    endless = os.open("/dev/zero", os.O_RDONLY)
    with payload_process._Log(tmp_path / "log") as log:
        assert payload_process._drain(endless, log)
    os.close(endless)


def test_a_name_that_has_no_place_is_a_failure_of_the_file(place: Place) -> None:
    place.dataset.attach(1)
    (file,) = place.dataset.attached
    place.dataset.attached = [replace(file, name="\u4e2d" * 80)]
    place.dataset.open = False
    executor = place.executor()
    assert ended(executor, executor.submit(TASK)) is TaskState.FAILED


def test_a_mark_that_was_not_written_is_written_again(place: Place) -> None:
    """By an empty one, everybody's payloads would be ours."""
    (place.directory / "outputs").mkdir()
    mark = place.directory / "outputs" / ".executor"
    mark.touch()
    place.executor().start()
    assert len(mark.read_text()) == 32


def test_a_task_for_a_dataset_that_is_not_there(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.dataset.open = None
    executor = place.executor()
    with pytest.raises(InvalidMessage, match=r"no dataset group\.daq:swf\.100010\.run"):
        executor.submit(replace(TASK, until_closed=False))
    # Of a run, it may come.
    task_id = executor.submit(TASK)
    until(lambda: "Task 1 waits: the catalogue has no dataset" in caplog.text)
    place.dataset.attach(1)
    place.dataset.open = False
    assert ended(executor, task_id) is TaskState.DONE
    assert caplog.text.count("the catalogue has no dataset") == 1


def test_a_dataset_that_the_catalogue_refuses_holds_up_no_other(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = place.dataset.is_open

    def is_open(dataset: DatasetId) -> bool | None:
        if dataset.name == "bad":
            raise InvalidMessage("no such scope")
        return plain(dataset)

    monkeypatch.setattr(place.dataset, "is_open", is_open)
    place.dataset.attach(1)
    place.dataset.open = False
    executor = place.executor()
    executor.submit(replace(TASK, name="bad", output="bad", input=DatasetId("group.daq", "bad")))
    assert ended(executor, executor.submit(TASK)) is TaskState.DONE


def test_jobs_that_were_made_though_the_database_seemed_away(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.dataset.attach(1, 2)
    executor = place.executor()
    plain = executor._jobs.add_jobs
    fails = [True]

    def add_jobs(*arguments: Any, **more: Any) -> list[LocalJob]:
        made = plain(*arguments, **more)
        if fails and fails.pop():
            raise TemporarilyUnavailable("the connection was lost at the commit")
        return made

    monkeypatch.setattr(executor._jobs, "add_jobs", add_jobs)
    task_id = executor.submit(TASK)
    until(lambda: place.outputs.exists() and len(place.names()) == 2)
    place.dataset.open = False
    assert ended(executor, task_id) is TaskState.DONE
    changes = [change for change, _ in executor._jobs.changes(1, after=0, limit=9)]
    assert changes == sorted(set(changes)), "each change has a number of its own"


def _has_looked(executor: LocalExecutor) -> bool:
    return executor._forget_next > 0


def test_what_failed_payloads_left_is_kept_for_some_time_only(place: Place) -> None:
    place.dataset.attach(1, 2)
    place.dataset.open = False
    executor = place.executor("sh -c 'test $SWF_SEQUENCE = 1'")
    task_id = executor.submit(TASK)
    assert ended(executor, task_id) is TaskState.FINISHED
    executor.close()
    failed = place.outputs / ".failed"
    for keep, there in ((timedelta(days=1), True), (timedelta(0), False)):
        executor = place.executor(keep=keep)
        executor.start()
        until(partial(_has_looked, executor))
        assert failed.is_dir() == there
        assert len(all_jobs(executor, task_id)) == (2 if there else 0)
        executor.close()
    assert place.names() == [FIRST]
    assert executor.status(task_id) is TaskState.FINISHED


def test_changes_are_told_once_and_in_pages(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_executor, "_PAGE", 2)
    place.dataset.attach(1, 2, 3)
    executor = place.executor()
    task_id = executor.submit(TASK)
    until(lambda: place.outputs.exists() and len(place.names()) == 3)
    place.dataset.open = False
    ended(executor, task_id)
    first = executor.jobs(task_id)
    second = executor.jobs(task_id, cursor=first.cursor)
    third = executor.jobs(task_id, cursor=second.cursor)
    assert [len(page.jobs) for page in (first, second, third)] == [2, 1, 0]
    assert [page.more for page in (first, second, third)] == [True, False, False]


def test_outputs_that_cannot_be_written_are_nobodys_failure(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.dataset.attach(1)
    place.dataset.open = False
    executor = place.executor()
    executor.start()
    place.outputs.write_text("a file where a directory should be")
    task_id = executor.submit(TASK)
    until(lambda: caplog.text.count("Payloads cannot be run now") > 2)
    assert executor.status(task_id) is TaskState.RUNNING
    place.outputs.unlink()
    assert ended(executor, task_id) is TaskState.DONE
    assert all_jobs(executor, task_id)[0].attempts == 1


def test_the_catalogue_is_away_for_a_while(place: Place) -> None:
    place.dataset.attach(1)
    place.dataset.open = False
    place.dataset.away = True
    executor = place.executor()
    task_id = executor.submit(TASK)
    assert executor.status(task_id) is TaskState.RUNNING
    place.dataset.away = False
    assert ended(executor, task_id) is TaskState.DONE


def test_a_stop_kills_what_runs_and_the_next_start_runs_it_again(place: Place) -> None:
    place.dataset.attach(1, 2)
    place.dataset.open = False
    go = place.directory / "go"
    command = f"""sh -c 'echo x >> {place.directory}/begun; while ! test -e {go}; do sleep 0.02; done'"""
    executor = place.executor(command)
    task_id = executor.submit(TASK)
    until(lambda: (place.directory / "begun").exists() and len((place.directory / "begun").read_text()) == 4)
    executor.close()
    assert not (place.outputs.exists() and place.names())
    go.touch()
    later = place.executor(command)
    later.start()
    assert ended(later, task_id) is TaskState.DONE
    assert len(place.names()) == 2
    assert [job.attempts for job in all_jobs(later, task_id)] == [1, 1]


CHILD = """
import sys
from pathlib import Path
from tests.repos.streaming.executing import Place, TASK
import time
place = Place(Path(sys.argv[1]))
place.dataset.attach(1, 2, 3)
place.dataset.open = False
executor = place.executor(sys.argv[2])
executor.submit(TASK)
time.sleep(200)
"""


def test_a_process_that_is_killed_loses_and_doubles_nothing(place: Place) -> None:
    """The first file is done, the others are being processed when it dies."""
    go, begun = place.directory / "go", place.directory / "begun"
    command = (
        f"""sh -c 'echo $$ >> {begun}; echo $SWF_STF_NAME > name; """
        f"""test $SWF_SEQUENCE = 1 || while ! test -e {go}; do sleep 0.02; done'"""
    )
    root = Path(__file__).resolve().parents[3]
    arguments = [sys.executable, "-c", CHILD, str(place.directory), command]
    with subprocess.Popen(arguments, cwd=root) as child:
        until(lambda: begun.exists() and len(begun.read_text().split()) == 3 and place.names() == [FIRST])
        os.kill(child.pid, signal.SIGKILL)
    left = [int(pid) for pid in begun.read_text().split()]
    running = [pid for pid in left if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]
    assert len(running) == 2, "the test is about payloads that outlive their executor"
    place.dataset.attach(1, 2, 3)
    place.dataset.open = False
    executor = place.executor(command)
    executor.start()
    gone = [pid for pid in running if not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie"]
    assert gone == running
    go.touch()
    assert ended(executor, "1") is TaskState.DONE
    assert len(place.names()) == 3
    assert (place.outputs / FIRST / "name").read_text() == f"{FIRST}\n"
    assert [job.status for job in all_jobs(executor, "1")] == [FINISHED] * 3
    # Three of the first life, and the two that were begun again.
    assert len(begun.read_text().split()) == 5


def test_outputs_in_place_of_a_job_that_nobody_recorded(place: Place) -> None:
    executor = place.executor("false")
    task_id = executor.submit(TASK)
    (place.outputs / FIRST).mkdir(parents=True)
    place.dataset.attach(1)
    place.dataset.open = False
    assert ended(executor, task_id) is TaskState.DONE


def test_outputs_of_a_task_that_was_forgotten_are_not_taken_for_those_of_a_new_one(place: Place) -> None:
    place.dataset.attach(1)
    place.dataset.open = False
    for text in ("one", "two", "three"):
        executor = place.executor(f"sh -c 'echo {text} > text'")
        assert ended(executor, executor.submit(TASK)) is TaskState.DONE
        # A second submission changes nothing.
        assert executor.submit(TASK) == "1"
        assert (place.outputs / FIRST / "text").read_text() == f"{text}\n"
        executor.close()
        for file in place.directory.glob("agent.sqlite3*"):
            file.unlink()
    aside = [place.outputs.with_name(f"{TASK.output}.{number}") / FIRST / "text" for number in (1, 2)]
    assert [path.read_text() for path in aside] == ["one\n", "two\n"]


def test_two_executors_in_one_directory(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payloads, "_LOCK_TIMEOUT", 0.1)
    place.executor().start()
    with pytest.raises(InvalidConfiguration, match="another agent executes tasks"):
        place.executor().start()


@pytest.mark.parametrize(
    ("payload", "error"),
    [("no-such-program", "no program no-such-program"), ("'open", "is no command"), ("", "it is empty")],
)
def test_a_payload_that_is_no_program(place: Place, payload: str, error: str) -> None:
    with pytest.raises(InvalidConfiguration, match=error):
        place.executor(payload)


def test_odd_names_of_files(place: Place) -> None:
    place.dataset.attach(1)
    (file,) = place.dataset.attached
    place.dataset.attached = [replace(file, name=name) for name in ("../../x.stf", ".hidden", "a b.stf")]
    place.dataset.open = False
    executor = place.executor()
    assert ended(executor, executor.submit(TASK)) is TaskState.DONE
    assert place.names() == ["%2E.%2F..%2Fx.stf", "%2Ehidden", "a b.stf"]


def test_a_task_that_is_not_known(place: Place) -> None:
    with pytest.raises(TemporarilyUnavailable, match="no task 77"):
        place.executor().status("77")


def test_jobs_are_listed_for_people(place: Place) -> None:
    from models.streaming.job_listing import JobQuery

    place.dataset.attach(1)
    place.dataset.open = False
    executor = place.executor()
    task_id = executor.submit(TASK)
    ended(executor, task_id)
    listing = LocalJobListing(place.engine()).listed(JobQuery(taskid=int(task_id)))
    assert json.loads(json.dumps(listing.summary)) == {"finished": 1}


def test_several_may_start_it_at_once(place: Place) -> None:
    """Tasks are submitted from several threads, the first of which starts it."""
    place.dataset.attach(1)
    place.dataset.open = False
    executor = place.executor()
    together = threading.Barrier(4, timeout=60)
    ids: list[str] = []

    def submit() -> None:
        together.wait()
        ids.append(executor.submit(TASK))

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(ids) == 4 and len(set(ids)) == 1
    assert ended(executor, ids[0]) is TaskState.DONE
