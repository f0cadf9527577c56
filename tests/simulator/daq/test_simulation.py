"""Runs in simulated time: ticks, messages, files, and how they end."""

from __future__ import annotations

import json
import os
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.streaming_schemas import EXAMPLES, validate
from models.streaming.daq import DaqParameters
from models.streaming.messages import RunMessage
from simulator.daq.control import Control
from simulator.daq.identity import RunIdentity
from simulator.daq.progress import Ending, Progress
from simulator.daq.simulation import RunSimulation

IDENTITY = RunIdentity(
    namespace="test-user",
    execution_id="prompt_processing-alice-0001",
    run_id="102363",
    sender="daq_simulator-agent-alice-41",
)


class Run:
    """A simulation whose messages are kept."""

    def __init__(self, folder: Path, *, on_message: Callable[[RunMessage], None] | None = None, **given: Any):
        self.control = Control()
        self.bodies: list[dict[str, Any]] = []
        self._on_message = on_message
        parameters = DaqParameters(container=folder, **{"realtime": False, **given})
        self.simulation = RunSimulation(
            identity=IDENTITY, parameters=parameters, send=self._send, control=self.control
        )
        self.folder = folder / "swf.102363.run"

    def _send(self, message: RunMessage, progress: Progress) -> None:
        self.bodies.append(json.loads(message.to_text()))
        if self._on_message is not None:
            self._on_message(message)

    def run(self) -> Ending:
        return self.simulation.run()

    @property
    def ticks(self) -> list[tuple[str, float]]:
        return [(body["msg_type"], body["simulation_tick"]) for body in self.bodies]

    def ticks_of(self, kind: str) -> list[float]:
        return [tick for name, tick in self.ticks if name == kind]


def test_ticks_of_three_files(tmp_path: Path) -> None:
    run = Run(tmp_path, stf_count=3, physics_period_count=1)
    assert run.run() is Ending.COMPLETE
    # Rounding included, as captured in the field.
    assert run.ticks == [
        ("run_imminent", 5),
        ("start_run", 13.1),
        ("stf_gen", 14.2),
        ("stf_gen", 16.4),
        ("stf_gen", 18.6),
        ("end_run", 18.800000000000004),
    ]
    assert isinstance(run.bodies[0]["simulation_tick"], int)
    assert run.simulation.tick == pytest.approx(24.9)


def test_ticks_of_ten_files(tmp_path: Path) -> None:
    run = Run(tmp_path, stf_count=10, physics_period_count=1)
    assert run.run() is Ending.COMPLETE
    assert run.ticks_of("stf_gen")[-1] == pytest.approx(34.0)
    assert run.ticks_of("end_run") == pytest.approx([34.2])
    assert run.simulation.tick == pytest.approx(40.3)


def test_ticks_of_two_periods(tmp_path: Path) -> None:
    run = Run(tmp_path, stf_count=2, physics_period_count=2)
    assert run.run() is Ending.COMPLETE
    assert [name for name, _ in run.ticks] == [
        *("run_imminent", "start_run", "stf_gen", "stf_gen", "pause_run"),
        *("resume_run", "stf_gen", "stf_gen", "end_run"),
    ]
    assert [tick for _, tick in run.ticks] == pytest.approx(
        [5, 13.1, 14.2, 16.4, 16.6, 19.7, 20.8, 23.0, 23.2]
    )
    assert run.simulation.tick == pytest.approx(29.3)
    assert [body["sequence"] for body in run.bodies if body["msg_type"] == "stf_gen"] == [1, 2, 3, 4]


@pytest.mark.parametrize(("name", "periods"), [("run_of_3_files", 1), ("run_of_2_periods", 2)])
def test_messages_are_those_of_the_examples(tmp_path: Path, name: str, periods: int) -> None:
    examples = json.loads((EXAMPLES / f"{name}.json").read_text())
    examples = [body for body in examples if body["msg_type"] != "stf_ready"]
    count = sum(body["msg_type"] == "stf_gen" for body in examples) // periods
    run = Run(tmp_path, stf_count=count, physics_period_count=periods)
    run.run()
    own = {"timestamp", "container", "size_bytes", "checksum", "simulation_tick"}
    for body, example in zip(run.bodies, examples, strict=True):
        validate(body)
        assert body.keys() == example.keys()
        assert {k: v for k, v in body.items() if k not in own} == {
            k: v for k, v in example.items() if k not in own
        }
        assert body["simulation_tick"] == pytest.approx(example["simulation_tick"])
    assert run.bodies[0]["container"] == str(tmp_path)


def test_a_file_is_its_own_announcement(tmp_path: Path) -> None:
    run = Run(tmp_path, stf_count=2, physics_period_count=1)
    run.run()
    announced = [body for body in run.bodies if body["msg_type"] == "stf_gen"]
    assert sorted(path.name for path in run.folder.iterdir()) == [body["filename"] for body in announced]
    for body in announced:
        content = (run.folder / body["filename"]).read_bytes()
        assert body["size_bytes"] == len(content)
        assert body["checksum"] == f"{zlib.adler32(content):08x}"
        inside = json.loads(content)
        validate(inside, "stf_file")
        assert inside == {k: v for k, v in body.items() if k not in {"sender", "size_bytes", "checksum"}}


def test_a_file_is_there_before_it_is_announced(tmp_path: Path) -> None:
    seen = []

    def look(message: RunMessage) -> None:
        body = message.to_body()
        if body["msg_type"] == "stf_gen":
            seen.append((tmp_path / "swf.102363.run" / body["filename"]).stat().st_size == body["size_bytes"])

    Run(tmp_path, on_message=look, stf_count=3).run()
    assert seen == [True] * 6


def test_a_period_lasts_as_long_as_it_is_told(tmp_path: Path) -> None:
    run = Run(tmp_path, physics_period_duration=10, physics_period_count=2)
    assert run.run() is Ending.COMPLETE
    begin = run.ticks_of("start_run")[0] + 1.1
    files = [tick - begin for tick in run.ticks_of("stf_gen")]
    assert files[:5] == pytest.approx([0, 2.2, 4.4, 6.6, 8.8])
    assert run.ticks_of("pause_run")[0] - begin == pytest.approx(10)
    assert len(files) == 10


@given(
    stf_count=st.integers(0, 4),
    physics_period_count=st.integers(1, 3),
    physics_period_duration=st.sampled_from([0, 0.05, 1, 3.3]),
    stf_interval=st.sampled_from([0, 0.5, 2.0]),
    stf_generation_time=st.sampled_from([0, 0.1]),
    standby_duration=st.sampled_from([0, 2]),
    broadcast_delay=st.sampled_from([0, 1]),
    duration=st.sampled_from([0, 0, 3, 12.5, 15, 17]),
)
def test_whatever_is_asked_the_run_is_in_order(
    tmp_path_factory: pytest.TempPathFactory, **given_parameters: Any
) -> None:
    run = Run(tmp_path_factory.mktemp("run"), **given_parameters)
    ending = run.run()
    kinds = [body["msg_type"] for body in run.bodies]
    files = [body for body in run.bodies if body["msg_type"] == "stf_gen"]
    assert [body["sequence"] for body in files] == list(range(1, len(files) + 1))
    assert [tick for _, tick in run.ticks] == sorted(tick for _, tick in run.ticks)
    for body in run.bodies:
        validate(body)
    limit = given_parameters["duration"]
    if ending is Ending.DURATION:
        assert run.simulation.tick == limit
        assert kinds[-1:] == (["end_run"] if limit >= 5 else [])
    else:
        assert ending is Ending.COMPLETE
        periods, count = given_parameters["physics_period_count"], given_parameters["stf_count"]
        assert kinds.count("resume_run") == kinds.count("pause_run") == periods - 1
        assert (
            len(files) == count * periods
            if count
            else files or not given_parameters["physics_period_duration"]
        )
    if kinds:
        assert kinds[0] == "run_imminent"
        assert kinds.count("end_run") == 1
        assert run.bodies[-1]["total_stf_files"] == len(files)


def test_periods_without_number_go_on_until_the_limit(tmp_path: Path) -> None:
    run = Run(tmp_path, stf_count=1, physics_period_count=0, duration=100)
    assert run.run() is Ending.DURATION
    assert len(run.ticks_of("resume_run")) > 10
    assert run.ticks[-1] == ("end_run", 100)


def test_a_limit_after_the_end_is_none(tmp_path: Path) -> None:
    run = Run(tmp_path, stf_count=3, physics_period_count=1, duration=20)
    assert run.run() is Ending.COMPLETE
    assert run.simulation.tick == 20


@pytest.mark.parametrize("realtime", [False, True])
def test_a_stop_ends_the_run_with_the_count_so_far(tmp_path: Path, realtime: bool) -> None:
    def stop(message: RunMessage) -> None:
        if getattr(message, "sequence", 0) == 3:
            run.control.stop()

    quick = {"no_beam_not_ready_delay": 0, "beam_not_ready_delay": 0, "beam_ready_delay": 0}
    run = Run(
        tmp_path,
        on_message=stop,
        stf_count=1000,
        physics_period_count=0,
        stf_interval=0.01,
        stf_generation_time=0,
        broadcast_delay=0,
        realtime=realtime,
        **quick,
    )
    assert run.run() is Ending.STOPPED
    assert run.bodies[-1]["msg_type"] == "end_run"
    assert run.bodies[-1]["total_stf_files"] == 3 == run.simulation.files


def test_a_stop_before_anybody_was_told_is_silent(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.control.stop()
    assert run.run() is Ending.STOPPED
    assert run.bodies == []


def test_a_stop_wakes_a_run_that_waits(tmp_path: Path) -> None:
    run = Run(tmp_path, realtime=True, no_beam_not_ready_delay=0, beam_not_ready_delay=1e6)
    endings: list[Ending] = []
    thread = threading.Thread(target=lambda: endings.append(run.run()))
    thread.start()
    while not run.bodies:
        time.sleep(0.01)
    run.control.stop()
    thread.join(120)
    assert endings == [Ending.STOPPED]
    assert [body["msg_type"] for body in run.bodies] == ["run_imminent", "end_run"]
    assert run.bodies[-1]["simulation_tick"] < 1e6


def test_a_stop_after_the_end_changes_nothing(tmp_path: Path) -> None:
    def stop(message: RunMessage) -> None:
        if message.msg_type == "end_run":
            run.control.stop()

    run = Run(tmp_path, on_message=stop, stf_count=2)
    assert run.run() is Ending.COMPLETE
    assert run.ticks_of("end_run") == pytest.approx([23.2])


def test_real_time_is_the_clocks(tmp_path: Path) -> None:
    times: list[float] = []
    quick = dict.fromkeys(("no_beam_not_ready_delay", "beam_not_ready_delay", "beam_ready_delay"), 0)
    run = Run(
        tmp_path,
        on_message=lambda message: times.append(time.monotonic()),
        realtime=True,
        stf_count=2,
        physics_period_count=1,
        stf_interval=0.3,
        broadcast_delay=0,
        beam_not_ready_end_delay=0,
        **quick,
    )
    assert run.run() is Ending.COMPLETE
    # Never early; how late depends on the machine.
    for at, (_, tick) in zip(times, run.ticks, strict=True):
        assert at - times[0] >= tick - 0.05


@pytest.mark.parametrize("realtime", [False, True])
def test_an_operators_pause(tmp_path: Path, realtime: bool) -> None:
    def pause(message: RunMessage) -> None:
        if getattr(message, "sequence", 0) == 2:
            run.control.pause("Beam studies")
        if getattr(message, "reason", None) == "Beam studies":
            threading.Timer(0.3, run.control.resume).start()

    quick = dict.fromkeys(("no_beam_not_ready_delay", "beam_not_ready_delay", "beam_ready_delay"), 0)
    run = Run(
        tmp_path,
        on_message=pause,
        realtime=realtime,
        stf_count=4,
        physics_period_count=1,
        stf_interval=0.01,
        broadcast_delay=0,
        beam_not_ready_end_delay=0,
        **quick,
    )
    assert run.run() is Ending.COMPLETE
    kinds = [body["msg_type"] for body in run.bodies]
    assert kinds[4:8] == ["pause_run", "resume_run", "stf_gen", "stf_gen"]
    assert run.bodies[4]["reason"] == "Beam studies"
    assert [run.bodies[4][key] for key in ("state", "substate")] == ["run", "standby"]
    assert run.bodies[-1]["total_stf_files"] == 4
    if realtime:
        assert run.ticks_of("resume_run")[0] - run.ticks_of("pause_run")[0] >= 0.25
    for body in run.bodies:
        validate(body)


@pytest.mark.parametrize("realtime", [False, True])
def test_a_stop_ends_a_pause(tmp_path: Path, realtime: bool) -> None:
    def stop(message: RunMessage) -> None:
        if message.msg_type == "pause_run":
            threading.Timer(0.1, run.control.stop).start()

    run = Run(
        tmp_path,
        on_message=stop,
        realtime=realtime,
        no_beam_not_ready_delay=0,
        beam_not_ready_delay=0,
        beam_ready_delay=0,
        broadcast_delay=0,
    )
    run.control.pause("Beam studies")
    assert run.run() is Ending.STOPPED
    assert [body["msg_type"] for body in run.bodies][-2:] == ["pause_run", "end_run"]


def test_a_limit_ends_a_pause_in_real_time(tmp_path: Path) -> None:
    run = Run(
        tmp_path,
        realtime=True,
        duration=0.6,
        no_beam_not_ready_delay=0,
        beam_not_ready_delay=0,
        beam_ready_delay=0,
        broadcast_delay=0,
    )
    run.control.pause("Beam studies")
    assert run.run() is Ending.DURATION
    assert run.ticks[-1] == ("end_run", 0.6)


def test_files_of_an_earlier_run_of_the_number_are_moved_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Who looks into the folder would take them for this run's."""
    folder = tmp_path / "swf.102363.run"
    folder.mkdir()
    for name in ("swf.102363.000001.stf", "swf.102363.000009.stf", "notes.txt"):
        (folder / name).write_text("old")
    seen: list[list[str]] = []
    run = Run(
        tmp_path,
        stf_count=1,
        physics_period_count=1,
        on_message=lambda _: seen.append(sorted(os.listdir(folder))),
    )
    run.run()
    assert seen[0] == [".earlier", "notes.txt"]
    assert seen[-1] == [".earlier", "notes.txt", "swf.102363.000001.stf"]
    assert (folder / ".earlier" / "swf.102363.000001.stf").read_text() == "old"
    assert "moved to" in caplog.text


def test_a_folder_that_cannot_be_made_is_told_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    run = Run(tmp_path / "file")
    assert run.run() is Ending.FAILED
    assert str(tmp_path / "file" / "swf.102363.run") in str(run.simulation.error)
    assert run.bodies == []


def test_a_file_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    def obstruct(message: RunMessage) -> None:
        if getattr(message, "sequence", 0) == 2:
            (run.folder / "swf.102363.000003.stf").mkdir()

    run = Run(tmp_path, on_message=obstruct, stf_count=5, physics_period_count=1)
    assert run.run() is Ending.FAILED
    assert str(run.folder) in str(run.simulation.error)
    assert run.ticks[-1][0] == "end_run"
    assert run.bodies[-1]["total_stf_files"] == 2
    assert sorted(path.name for path in run.folder.iterdir() if path.is_file()) == [
        "swf.102363.000001.stf",
        "swf.102363.000002.stf",
    ]
