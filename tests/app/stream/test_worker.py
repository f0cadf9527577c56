"""Whole workers on a real Redis and a real ledger; only what the slot does is
made up.
"""

from __future__ import annotations

import signal
import urllib.request
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from models.outcomes import Result
from models.stream_entries import to_stream_entry
from models.times import tai_from_unix
from simulator.servers.process import free_port
from simulator.servers.redis import RedisServer
from tests.app.stream.conftest import Scene
from tests.gates import Gate
from tests.visits import make_visit
from tests.waiting import still_there


def test_visits_are_processed_and_the_idle_worker_ends(scene: Scene, tmp_path: Path) -> None:
    port = free_port()
    good, failing = scene.add(), scene.add("raise")
    stale = scene.add(private_sndStamp=tai_from_unix(0.0))
    scene.client.xadd(scene.name, {"detector": "seven"})
    unusable = scene.add(coordinateSystem=4)
    with Gate(tmp_path) as gate:
        last = scene.add(gate.step)
        worker = scene.start(FANNED_OUT_MSG_LISTEN_TIMEOUT="1", PP_METRICS_PORT=str(port), WORKER_COUNT="3")
        scene.until(lambda: scene.state(last) == "running")
        metrics = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60).read().decode()
    assert "fake_cam_prompt_processing_instances_processing 1.0" in metrics
    assert "fake_cam_next_visit_messages 5.0" in metrics
    assert 'prompt_processing_visits_total{result="invalid-message"} 1.0' in metrics
    assert worker.ends() == 0
    assert [scene.state(group) for group in (good, failing, last)] == ["processed", "failed", "processed"]
    assert [scene.state(group) for group in (stale, unusable)] == [None, None]
    assert scene.pending() == []
    assert scene.consumers() == 0
    assert scene.client.xlen(scene.name) == 6
    assert "WORKER_COUNT=3 is ignored" in worker.log
    assert "no visit has come for 1 s" in worker.log


def test_worker_that_is_killed_costs_its_visit_nothing(scene: Scene, tmp_path: Path) -> None:
    worker = scene.start()
    with Gate(tmp_path) as gate:
        group = scene.add(gate.step)
        scene.until(lambda: scene.state(group) == "running")
        worker.kill_tree()
    scene.start()
    scene.until(lambda: scene.state(group) == Result.PROCESSED)
    scene.until(lambda: scene.pending() == [])
    assert scene.attempts(group) == 2
    assert scene.consumers() == 1


def test_visit_that_kills_its_worker_is_given_up_after_the_second(scene: Scene) -> None:
    group = scene.add("sleep:600")
    for attempt in (1, 2):
        worker = scene.start(REDIS_CLAIM_IDLE="1")
        scene.until(partial(scene.was_begun, group, attempt))
        worker.kill_tree()
    scene.start(REDIS_CLAIM_IDLE="1")
    scene.until(lambda: scene.state(group) == Result.FAILED)
    scene.until(lambda: scene.pending() == [])
    record = scene.record(group)
    assert record is not None
    assert record.outcome is not None
    assert "delivered 2 times without a result" in record.outcome.detail


def test_worker_gives_signs_of_life_for_a_visit_that_takes_long(scene: Scene, tmp_path: Path) -> None:
    scene.start(REDIS_CLAIM_IDLE="1")
    with Gate(tmp_path) as gate:
        group = scene.add(gate.step)
        scene.until(lambda: scene.state(group) == "running")
        silences = [scene.silence()]

        def signs() -> int:
            silences.append(scene.silence())
            return sum(later < earlier for earlier, later in pairwise(silences))

        scene.until(lambda: signs() >= 3)
        assert scene.pending() == [1]
    scene.until(lambda: scene.state(group) == Result.PROCESSED)
    scene.until(lambda: scene.pending() == [])
    assert scene.attempts(group) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_hands_the_visit_to_another_worker(
    scene: Scene, tmp_path: Path, number: signal.Signals
) -> None:
    # Long enough that no visit counts as left behind while the test lasts.
    worker = scene.start(REDIS_CLAIM_IDLE="300")
    with Gate(tmp_path) as gate:
        group = scene.add(f"swallow:{gate.path}")
        scene.until(lambda: scene.state(group) == "running")
        processes = worker.tree()
        worker.process.send_signal(number)
        assert worker.ends() == 0
        assert still_there(processes) == []
        first = scene.state(group)
        assert scene.pending() == ([1] if first == Result.INTERRUPTED else [])
    scene.start(REDIS_CLAIM_IDLE="300")
    scene.until(lambda: scene.state(group) == Result.PROCESSED)


def test_nothing_outlives_a_killed_worker(scene: Scene) -> None:
    worker = scene.start()
    group = scene.add("sleep:600")
    scene.until(lambda: scene.state(group) == "running")
    processes = worker.tree()
    assert len(processes) == 3
    worker.process.kill()
    worker.process.wait()
    assert still_there(processes) == []


def test_worker_ends_after_its_number_of_visits(scene: Scene) -> None:
    groups = [scene.add() for _ in range(3)]
    assert scene.start(WORKER_RESTART_FREQ="2").ends() == 0
    assert [scene.state(group) for group in groups] == ["processed", "processed", None]
    assert not scene.all_read()
    assert scene.consumers() == 0


def test_redis_that_goes_away_in_mid_visit(scene: Scene, redis_server: RedisServer, tmp_path: Path) -> None:
    worker = scene.start()
    with Gate(tmp_path) as gate:
        group = scene.add(gate.step)
        scene.until(lambda: scene.state(group) == "running")
        redis_server.stop()
    try:
        scene.until(lambda: scene.state(group) == Result.PROCESSED)
        scene.until(lambda: "cannot be reached" in worker.log)
        late = scene.start()
        scene.until(lambda: "It will be tried again" in late.log)
    finally:
        redis_server.start()
    scene.until(lambda: scene.pending() == [])
    after = scene.add()
    scene.until(lambda: scene.state(after) == Result.PROCESSED)
    assert scene.attempts(group) == 1


def test_credentials_that_are_wrong_are_told(scene: Scene) -> None:
    worker = scene.start(PP_REDIS_STREAM_PASSWORD="a-secret")
    assert worker.ends() == 2
    assert "check PP_REDIS_STREAM_USERNAME and PP_REDIS_STREAM_PASSWORD" in worker.log
    assert "a-secret" not in worker.log
    assert "Traceback" not in worker.log


def test_missing_settings_are_told(scene: Scene) -> None:
    worker = scene.start(REDIS_STREAM_HOST="redis:port", REDIS_CLAIM_IDLE="0")
    assert worker.ends() == 2
    assert "'redis:port' has no valid port" in worker.log
    assert "REDIS_CLAIM_IDLE" in worker.log


def test_every_visit_once_however_many_workers(scene: Scene) -> None:
    duplicates = make_visit(groupId=scene.name, survey="sleep:0.5")
    for _ in range(2):
        scene.client.xadd(scene.name, to_stream_entry(duplicates))
    groups = [scene.add("sleep:0.05") for _ in range(12)]
    for _ in range(2):
        scene.start(REDIS_CLAIM_IDLE="6")
    scene.until(lambda: scene.all_read() and scene.pending() == [])
    for group in (*groups, scene.name):
        assert (scene.state(group), scene.attempts(group)) == ("processed", 1)
