from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from models.errors import Interrupted, NotRetriable, ServiceBusy, TemporarilyUnavailable
from models.outcomes import Result
from models.raws import FoundImage, parse_raw_key
from services.slots.attendance import ImageFeed
from tests.gates import Gate
from tests.services.slots.conftest import Clock, PoolUnderTest

MakePool = Callable[..., PoolUnderTest]

#: What a visit may do to end its slot.
DEATHS = ["kill-self", "segfault", "abort", "exit:3", "exit:0"]


def test_visit_is_processed(make_pool: MakePool) -> None:
    slots = make_pool()
    outcome = slots.run("visits")
    assert outcome.result is Result.PROCESSED
    assert outcome.timings.queued is not None
    assert outcome.detail == f"{slots.pids()[0]} visits=1"
    assert slots.pool.deployment_id(0) == "fake-1"


def test_slot_is_warm_for_the_next_visit(make_pool: MakePool) -> None:
    slots = make_pool()
    slots.run("")
    assert slots.run("visits").detail.endswith("visits=2")


@pytest.mark.parametrize("death", DEATHS)
def test_death_before_execution_is_an_interruption(make_pool: MakePool, death: str) -> None:
    slots = make_pool()
    with pytest.raises(Interrupted, match="nothing had been changed"):
        slots.run(f"stage:ingesting {death}")
    assert slots.run("").result is Result.PROCESSED
    assert slots.pool.snapshot().deaths == 1


def test_death_says_how(make_pool: MakePool) -> None:
    slots = make_pool()
    with pytest.raises(Interrupted, match="SIGSEGV"):
        slots.run("segfault")
    with pytest.raises(Interrupted, match="exited with code 3"):
        slots.run("exit:3")


def test_death_in_execution_is_an_interruption_if_the_apdb_is_untouched(make_pool: MakePool) -> None:
    slots = make_pool()
    with pytest.raises(Interrupted, match="the APDB holds nothing"):
        slots.run("stage:executing=1 kill-self")


@pytest.mark.parametrize("steps", ["stage:executing=2", "stage:executing=3", "stage:executing"])
def test_death_in_execution_is_not_retriable_otherwise(make_pool: MakePool, steps: str) -> None:
    slots = make_pool()
    with pytest.raises(NotRetriable):
        slots.run(f"{steps} kill-self")
    assert slots.run("").result is Result.PROCESSED


@pytest.mark.parametrize("stage", ["publishing", "exporting"])
def test_death_after_alerts_is_not_retriable(make_pool: MakePool, stage: str) -> None:
    slots = make_pool()
    with pytest.raises(NotRetriable):
        # The APDB's answer would be no, but alerts may be out.
        slots.run(f"stage:executing=1 stage:{stage}=1 kill-self")


def test_messages_leave_while_the_visit_goes_on(make_pool: MakePool, tmp_path: Path) -> None:
    slots = make_pool()
    with ThreadPoolExecutor(1) as threads:
        with Gate(tmp_path) as gate:
            visit = threads.submit(slots.run, f"stage:publishing=1 send:10 send:3000000 {gate.step}")
            slots.wait_until(lambda: len(slots.made) == 2)
            assert not visit.done()
        assert visit.result().result is Result.PROCESSED
    assert [[len(m.payload) for m in made.messages] for made in slots.made] == [[10], [3_000_000]]
    assert slots.made[0].made_unix <= slots.made[1].made_unix


def test_death_after_messages_says_how_many(make_pool: MakePool) -> None:
    slots = make_pool()
    with pytest.raises(NotRetriable, match="2 alerts of the visit were sent already"):
        slots.run("stage:executing=1 stage:publishing=1 send:10 send:10 stage:exporting=1 kill-self")
    assert len(slots.made) == 2


def test_what_a_task_started_dies_with_its_slot(make_pool: MakePool, tmp_path: Path) -> None:
    slots = make_pool()
    child = int(slots.run("child").detail.partition("child=")[2])
    assert psutil.pid_exists(child)
    with pytest.raises(Interrupted):
        slots.run("kill-self")
    slots.wait_until(lambda: not psutil.pid_exists(child))


def test_memory_limit_is_a_memory_error_and_the_slot_lives_on(make_pool: MakePool) -> None:
    slots = make_pool(memory_limit=200 << 20)
    pid = slots.run("").detail
    outcome = slots.run("eat")
    assert outcome.result is Result.FAILED
    assert "MemoryError" in outcome.detail
    assert slots.run("").detail == pid


def test_time_limit_interrupts(make_pool: MakePool, tmp_path: Path, clock: Clock) -> None:
    slots = make_pool(visit_timeout=1000.0)
    first = slots.run("").detail
    feed = ImageFeed()
    with ThreadPoolExecutor(1) as threads, Gate(tmp_path) as gate:
        running = threads.submit(slots.run, f"stage:waiting {gate.step}", feed)
        slots.wait_stage("waiting")
        clock.advance(1001.0, feed)
        outcome = running.result()
    assert outcome.result is Result.INTERRUPTED
    assert "1000 s" in outcome.detail
    # Whatever was interrupted may be left half done: the slot is a new one.
    assert slots.run("").detail != first


def test_time_limit_kills_what_does_not_stop(make_pool: MakePool, tmp_path: Path, clock: Clock) -> None:
    slots = make_pool(visit_timeout=1000.0, grace_period=100.0)
    feed = ImageFeed()
    with ThreadPoolExecutor(1) as threads, Gate(tmp_path) as gate:
        running = threads.submit(slots.run, f"ignore-sigterm stage:waiting {gate.step}", feed)
        slots.wait_stage("waiting")
        clock.advance(1001.0, feed)
        slots.wait_until(lambda: slots.pool.snapshot().slots[0].state == "stopping")
        clock.advance(101.0, feed)
        with pytest.raises(Interrupted, match="SIGKILL"):
            running.result()
    assert slots.run("").result is Result.PROCESSED


@pytest.mark.parametrize("steps", ["stage:exporting=1 gate", "shielded-gate"])
def test_time_limit_lets_what_leaves_the_house_finish(
    make_pool: MakePool, tmp_path: Path, clock: Clock, steps: str
) -> None:
    slots = make_pool(visit_timeout=1000.0, grace_period=100.0)
    feed = ImageFeed()
    with ThreadPoolExecutor(1) as threads, Gate(tmp_path) as gate:
        running = threads.submit(slots.run, f"{steps}:{gate.path}", feed)
        slots.wait_stage("exporting" if "exporting" in steps else "waiting")
        clock.advance(1001.0, feed)
        slots.wait_until(lambda: slots.pool.snapshot().slots[0].state == "stopping")
        gate.open()
        assert running.result().result is Result.PROCESSED


def test_unexpected_error_of_the_application(make_pool: MakePool) -> None:
    slots = make_pool()
    assert slots.run("surprise").result is Result.FAILED
    assert slots.run("stage:executing=1 surprise").result is Result.FAILED
    assert slots.run("stage:executing=2 surprise").result is Result.NOT_RETRIABLE


def test_slots_have_affinity_to_detectors(make_pool: MakePool) -> None:
    slots = make_pool(count=3)
    slots.wait_ready()
    first = {detector: slots.run("", detector=detector).detail for detector in (0, 1, 2)}
    assert len(set(first.values())) == 3
    again = {detector: slots.run("", detector=detector).detail for detector in (2, 0, 1)}
    assert again == first
    # A fourth detector takes the slot that was not used for longest.
    assert slots.run("", detector=3).detail == first[2]


def test_visits_queue_in_order_of_arrival(make_pool: MakePool, tmp_path: Path) -> None:
    slots = make_pool(queue_length=8)
    slots.wait_ready()
    with ThreadPoolExecutor(4) as threads, Gate(tmp_path) as gate:
        threads.submit(slots.run, gate.step)
        slots.wait_until(lambda: slots.pool.snapshot().busy)
        waiting = []
        for number in range(3):
            waiting.append(threads.submit(slots.run, "visits"))
            slots.wait_until(lambda n=number: slots.pool.snapshot().waiting == n + 1)
        gate.open()
        order = [running.result().detail.partition("visits=")[2] for running in waiting]
    assert order == ["2", "3", "4"]


def test_busy_when_no_slot_becomes_free(make_pool: MakePool, tmp_path: Path) -> None:
    slots = make_pool(queue_timeout=0.1)
    slots.wait_ready()
    with ThreadPoolExecutor(1) as threads, Gate(tmp_path) as gate:
        running = threads.submit(slots.run, gate.step)
        slots.wait_until(lambda: slots.pool.snapshot().busy)
        with pytest.raises(ServiceBusy, match=r"0\.1 s"):
            slots.run("")
        gate.open()
        assert running.result().result is Result.PROCESSED


def test_waiting_for_a_free_slot(make_pool: MakePool, tmp_path: Path) -> None:
    slots = make_pool()
    assert slots.pool.wait_free(60.0)
    with ThreadPoolExecutor(2) as threads, Gate(tmp_path) as gate:
        running = threads.submit(slots.run, gate.step)
        slots.wait_until(lambda: slots.pool.snapshot().busy)
        assert not slots.pool.wait_free(0.0)
        free = threads.submit(slots.pool.wait_free, 60.0)
        gate.open()
        assert free.result()
        assert running.result().result is Result.PROCESSED


def test_busy_at_once_when_the_queue_is_full(make_pool: MakePool, tmp_path: Path) -> None:
    slots = make_pool(queue_length=0)
    slots.wait_ready()
    with ThreadPoolExecutor(1) as threads, Gate(tmp_path) as gate:
        threads.submit(slots.run, gate.step)
        slots.wait_until(lambda: slots.pool.snapshot().busy)
        with pytest.raises(ServiceBusy, match="wait already"):
            slots.run("")
        assert slots.pool.snapshot().full


def test_slot_is_renewed_after_so_many_visits(make_pool: MakePool) -> None:
    slots = make_pool(renew_after=2)
    pids = [slots.run("").detail for _ in range(4)]
    assert pids[0] == pids[1]
    assert pids[2] == pids[3] != pids[0]
    slots.wait_until(lambda: not psutil.pid_exists(int(pids[0])))


def test_slot_that_dies_while_idle_is_replaced(make_pool: MakePool) -> None:
    slots = make_pool()
    slots.wait_ready()
    (pid,) = slots.pids()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert slots.run("").result is Result.PROCESSED
    second = slots.wait_until(lambda: slots.pids()[0])
    assert second != pid
    os.kill(second, signal.SIGTERM)
    slots.wait_until(lambda: slots.pids()[0] not in (second, None))


def test_visit_gets_another_slot_once_if_the_first_never_began(make_pool: MakePool) -> None:
    slots = make_pool(count=2)
    with pytest.raises(Interrupted):
        slots.run("silent kill-self")
    assert slots.pool.snapshot().deaths == 2


def test_images_reach_the_slot_whenever_they_come(make_pool: MakePool, tmp_path: Path) -> None:
    slots = make_pool()
    keys = [f"Fake-Cam/0/g/{snap}/100{snap}/r/raw.fits" for snap in range(3)]
    images = [FoundImage(raw=parse_raw_key(key), location=key) for key in keys]
    feed = ImageFeed()
    feed.deliver(images[0])
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(slots.run, "images:3", feed)
        slots.wait_until(lambda: slots.pool.snapshot().busy)
        for image in images[1:]:
            feed.deliver(image)
        assert running.result().detail.endswith("images=" + ",".join(keys))
    feed.deliver(images[0])  # nobody listens any more
    # An image that the last visit did not want is not the next one's.
    late = ImageFeed()
    late.deliver(images[0])
    with ThreadPoolExecutor(1) as threads, Gate(tmp_path) as gate:
        running = threads.submit(slots.run, f"stage:waiting {gate.step}", late)
        slots.wait_stage("waiting")
        gate.open()
        running.result()
    assert slots.run("images:0").detail.endswith("images=")


def test_stage_is_shown(make_pool: MakePool, tmp_path: Path) -> None:
    slots = make_pool()
    slots.wait_ready()
    with ThreadPoolExecutor(1) as threads, Gate(tmp_path) as gate:
        running = threads.submit(slots.run, f"stage:waiting {gate.step}", detector=3)
        view = slots.wait_stage("waiting")
        assert view.state == "busy"
        assert "detector 3" in view.visit
        gate.open()
        running.result()
    (view,) = slots.pool.snapshot(with_memory=True).slots
    assert (view.state, view.visit, view.stage, view.visits) == ("free", "", "", 1)
    assert view.memory is not None
    assert 0 < view.memory.uss < view.memory.rss


def test_slots_are_nice(make_pool: MakePool) -> None:
    assert make_pool(nice=7).run("nice").detail.endswith(f"nice={os.nice(0) + 7}")


def test_new_template_after_the_old_one_died(make_pool: MakePool) -> None:
    slots = make_pool(count=2)
    slots.wait_ready()
    template = psutil.Process(slots.pids()[0]).parent()
    before = slots.pids()
    template.kill()
    slots.wait_until(lambda: not any(psutil.pid_exists(pid) for pid in before))
    assert slots.run("").result is Result.PROCESSED
    slots.wait_ready()
    assert not set(before) & set(slots.pids())


def test_death_of_the_template_in_mid_visit(make_pool: MakePool) -> None:
    slots = make_pool()
    slots.wait_ready()
    template = psutil.Process(slots.pids()[0]).parent()
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(slots.run, "stage:executing=1 sleep:600")
        slots.wait_stage("executing")
        template.kill()
        with pytest.raises(Interrupted, match="the APDB holds nothing"):
            running.result()


def test_slot_that_cannot_be_set_up_says_why(make_pool: MakePool) -> None:
    slots = make_pool("tests.services.slots.fake_application:broken_blueprint", queue_timeout=0.2)
    slots.wait_until(lambda: "the disk is full" in slots.pool.snapshot().slots[0].detail)
    with pytest.raises(TemporarilyUnavailable, match="the disk is full"):
        slots.pool.deployment_id(0.1)
    with pytest.raises(ServiceBusy, match="the disk is full"):
        slots.run("")


def test_template_that_cannot_be_set_up(make_pool: MakePool) -> None:
    slots = make_pool("tests.services.slots.fake_application:no_such_thing")
    slots.wait_until(lambda: "template" in slots.pool.snapshot().slots[0].detail)


def test_shutdown_interrupts_and_refuses(make_pool: MakePool) -> None:
    slots = make_pool(queue_length=2)
    slots.wait_ready()
    with ThreadPoolExecutor(2) as threads:
        running = threads.submit(slots.run, "stage:waiting sleep:600")
        slots.wait_stage("waiting")
        waiting = threads.submit(slots.run, "")
        slots.wait_until(lambda: slots.pool.snapshot().waiting)
        slots.pool.begin_shutdown()
        outcome = running.result()
        assert outcome.result is Result.INTERRUPTED
        assert "shutting down" in outcome.detail
        with pytest.raises(Interrupted):
            waiting.result()
    with pytest.raises(Interrupted):
        slots.run("")


def test_shutdown_kills_what_does_not_stop(make_pool: MakePool) -> None:
    slots = make_pool(grace_period=0.2)
    slots.wait_ready()
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(slots.run, "ignore-sigterm stage:executing=2 sleep:600")
        slots.wait_stage("executing")
        slots.pool.begin_shutdown()
        with pytest.raises(NotRetriable):
            running.result()


def test_close_leaves_nothing(make_pool: MakePool) -> None:
    slots = make_pool(count=2)
    slots.wait_ready()
    pids = slots.pids()
    template = psutil.Process(pids[0]).parent()
    assert template is not None
    slots.pool.close()
    slots.wait_until(lambda: not any(psutil.pid_exists(pid) for pid in [*pids, template.pid]))


def test_fifty_deaths_leave_no_process_and_no_descriptor(make_pool: MakePool) -> None:
    slots = make_pool(count=2)
    slots.wait_ready()
    template = psutil.Process(slots.pids()[0]).parent()
    me = psutil.Process()

    def count() -> tuple[int, int, int, int]:
        slots.wait_ready()
        # Threads that started slots end a moment later.
        slots.wait_until(lambda: not any("-start" in t.name for t in threading.enumerate()))
        return me.num_fds(), template.num_fds(), len(template.children()), threading.active_count()

    slots.run("")
    before = count()
    in_slot = slots.run("fds").detail.partition("fds=")[2]
    for number in range(50):
        with pytest.raises((Interrupted, NotRetriable)):
            slots.run(f"stage:executing={number % 3 + 1} {DEATHS[number % len(DEATHS)]}")
    assert count() == before
    assert not [c for c in template.children() if c.status() == psutil.STATUS_ZOMBIE]
    assert slots.run("fds").detail.partition("fds=")[2] == in_slot
