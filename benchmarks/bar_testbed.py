"""Bars of the streaming workflow."""

from __future__ import annotations

__all__ = ["agent_deaths", "deaths_while_telling", "stf_messages", "testbed", "testbed_speed"]

import json
import random
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks.agent_scene import AgentScene, Listener
from benchmarks.bar import Bar, at_least, at_most, none_of, say
from benchmarks.scene import PROJECT
from benchmarks.streaming_schemas import faults as faults_of
from models.streaming.messages import RunWorkflow
from simulator.servers.everything import ServerSet

#: Files of the run in which agents are killed, and how often each is.
_FILES = 200
_KILLS = 20
#: Seconds between two files of it beyond the 0.2 s that each takes, and
#: between two deaths of an agent.
_GAP = 0.3
_BETWEEN = (1.0, 4.0)
_BETWEEN_DAQS = (2.0, 6.0)
#: Ticks of a run of three files, and of one of two files in each of two
#: periods; both from the description of the system in the field.
_THREE = [5, 13.1, 14.2, 16.4, 18.6, 18.8]
_TWICE_TWO = [5, 13.1, 14.2, 16.4, 16.6, 19.7, 20.8, 23.0, 23.2]


def testbed(scratch: Path) -> Iterator[Bar]:
    """`testbed run prompt_processing` as it is: embedded, in real time."""
    figures = run_testbed(scratch / "defaults")
    yield at_least("testbed run: part of the STFs processed", figures["processed"] / figures["stf_files"], 1)
    faults = [] if figures["execution_status"] == "completed" else [figures["execution_status"]]
    faults += [] if figures["dataset_status"] == "closed" else [figures["dataset_status"]]
    yield none_of("testbed run: execution completed, dataset closed", faults)


def testbed_speed(scratch: Path) -> Iterator[Bar]:
    """A thousand files, as fast as they come."""
    fast = "--no-realtime", "--stf-count", "1000"
    times = []
    for number in range(3):
        figures = run_testbed(scratch / f"true-{number}", *fast, "--payload", "true")
        times.append(figures["wall_s"])
        yield at_least(
            "testbed, 1000 STFs: processed", figures["processed"], 1000, f"{figures['wall_s']:.1f} s"
        )
    note = "runs: " + ", ".join(f"{t:.1f}" for t in times)
    yield at_most("testbed, 1000 STFs, payload true: s", sorted(times)[1], 30, note)
    worked = run_testbed(scratch / "work", *fast, "--payload", f"{sys.executable} -c pass")
    busy = run_testbed(scratch / "busy", *fast, "--payload", str(_burner(scratch)))
    note = f"an interpreter's start a file: {worked['wall_s']:.1f} s"
    yield Bar("testbed, 1000 STFs, 10 ms of work each: s", busy["wall_s"], "beside", None, note)


def stf_messages(scratch: Path) -> Iterator[Bar]:
    """What is on the bus, against schemas and ticks."""
    with ServerSet() as servers:
        listener = Listener(servers.activemq)
        scene = AgentScene(scratch, servers.activemq)
        with scene.running():
            for options, ticks in (
                (["--stf-count", "3"], _THREE),
                (["--stf-count", "2", "--physics-period-count", "2"], _TWICE_TWO),
            ):
                before = len(listener.heard)
                scene.take_data("--no-realtime", *options).process.wait(120.0)
                _wait_for_ready(scene, listener, before)
                heard = listener.heard[before:]
                found = [m["simulation_tick"] for m in heard if "simulation_tick" in m]
                wrong = [f"{a} is not {b}" for a, b in zip(found, ticks, strict=False) if abs(a - b) > 1e-9]
                wrong += [f"{len(found)} ticks"] if len(found) != len(ticks) else []
                yield none_of(f"ticks of a run with {' '.join(options)}", wrong)
        listener.close()
        faults = _against_schema(listener)
        kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(m["msg_type"] for m in listener.heard).items())
        yield none_of("messages on the bus that break their schema", faults, kinds)


def agent_deaths(scratch: Path) -> Iterator[Bar]:
    """Data acquisition and agents are killed again and again in a run."""
    with ServerSet() as servers:
        listener = Listener(servers.activemq)
        witness = scratch / "witness"
        witness.mkdir()
        scene = AgentScene(
            scratch,
            servers.activemq,
            PP_PAYLOAD="sh -c 'cp $SWF_STF_FILE . && date >> $PP_WITNESS/$SWF_STF_NAME'",
            PP_WITNESS=str(witness),
        )
        with scene.running() as agents, scene.taking_commands() as daq:
            begin = time.monotonic()
            params = {"stf_count": _FILES, "stf_interval": _GAP}
            listener.command(
                RunWorkflow(namespace=scene.namespace, workflow_name="prompt_processing", params=params)
            )
            killers = [
                agent.kill_now_and_then(_KILLS, between=between, seed=number)
                for number, (agent, between) in enumerate(
                    ((agents[0], _BETWEEN), (agents[1], _BETWEEN), (daq, _BETWEEN_DAQS))
                )
            ]
            scene.wait_until(lambda: _finished(scene), "the execution is over", 900.0)
            say(f"the run took {time.monotonic() - begin:.0f} s")
            for killer in killers:
                killer.join()
            say(f"the last kill was at {time.monotonic() - begin:.0f} s")
            scene.wait_until(lambda: _statuses(scene)["processed"] >= _FILES, "all is processed", 300.0)
            scene.wait_until(lambda: not _open_datasets(scene), "the dataset is closed")
            time.sleep(5.0)  # Whatever is done twice has time to show.
            yield from _after_the_deaths(scene, listener, [agent.kills for agent in (*agents, daq)])
            yield from _after_the_deaths_of_the_daq(scene, listener)
        listener.close()


def deaths_while_telling(scratch: Path) -> Iterator[Bar]:
    """Both agents are killed just when a run's task is being asked for."""
    chance = random.Random(7)
    with ServerSet() as servers:
        listener = Listener(servers.activemq)
        scene = AgentScene(scratch, servers.activemq, PP_PAYLOAD="true")
        with scene.running() as agents:
            for _ in range(_KILLS):
                before = len(listener.of_type("stf_gen"))
                daq = scene.take_data("--no-realtime", "--stf-count", "3")
                _wait_for_more(scene, listener, before)
                time.sleep(chance.uniform(0.0, 0.5))
                for agent in agents:
                    agent.kill()
                daq.process.wait(60.0)
            scene.wait_until(lambda: _statuses(scene)["processed"] >= 3 * _KILLS, "all is processed", 300.0)
            scene.wait_until(lambda: not _open_datasets(scene), "the datasets are closed")
            time.sleep(5.0)  # Whatever is said twice has time to be heard.
            ready = Counter(message["run_id"] for message in listener.of_type("stf_ready"))
            wrong = [f"{count} for run {run}" for run, count in ready.items() if count != 1]
            wrong += [f"for {len(ready)} runs"] if len(ready) != _KILLS else []
            kills = "killed " + " and ".join(str(agent.kills) for agent in agents) + " times"
            yield none_of("agents killed while a task is asked for: not one stf_ready", wrong, kills)
            tasks = [len(_rows(scene, table)) for table in ("run_tasks", "local_tasks")]
            wrong = [f"{found} tasks for {_KILLS} runs" for found in tasks if found != _KILLS]
            yield none_of("agents killed while a task is asked for: not one task", wrong)
        listener.close()


def _after_the_deaths(scene: AgentScene, listener: Listener, killed: list[int]) -> Iterator[Bar]:
    kills = "killed " + ", ".join(map(str, killed)) + " times"
    yield none_of("agents killed: files not registered once in the monitor", _miscounted(scene), kills)
    yield none_of("agents killed: files not catalogued once", _miscatalogued(scene))
    yield none_of("agents killed: files not processed once", _misprocessed(scene), _repeated(scene))
    for what, found in (
        ("stf_ready on the bus", len(listener.of_type("stf_ready"))),
        ("tasks", len(_rows(scene, "run_tasks"))),
        ("tasks of the executor", len(_rows(scene, "local_tasks"))),
        ("datasets", len(_rows(scene, "catalogue_datasets"))),
    ):
        yield Bar(f"agents killed: {what}", found, "== 1", found == 1)
    status = scene.get("workflow-executions", namespace=scene.namespace)[0]["status"]
    yield none_of("agents killed: execution completed", [] if status == "completed" else [status])
    yield none_of("agents killed: messages that break their schema", _against_schema(listener))


def _after_the_deaths_of_the_daq(scene: AgentScene, listener: Listener) -> Iterator[Bar]:
    """What was said, against what there is: the same may be said again."""
    said: dict[tuple[str, float], set[str]] = {}
    for message in listener.heard:
        if "simulation_tick" in message:
            key = message["msg_type"], message["simulation_tick"]
            said.setdefault(key, set()).add(json.dumps(message, sort_keys=True))
    wrong = [f"{kind} at {tick}" for (kind, tick), texts in said.items() if len(texts) > 1]
    again = f"{len(listener.heard)} heard"
    yield none_of("daq killed: messages that were said in two ways", wrong, again)
    once = [json.loads(min(texts)) for texts in said.values()]
    sequences = [message["sequence"] for message in once if message["msg_type"] == "stf_gen"]
    gaps = [str(number) for number in set(sequences) ^ set(range(1, _FILES + 1))]
    yield none_of("daq killed: announced files that are not 1 to the last", gaps)
    kinds = Counter(message["msg_type"] for message in once)
    wanted = {"run_imminent": 1, "start_run": 1, "stf_gen": _FILES, "end_run": 1}
    yield none_of(
        "daq killed: messages not once in the run",
        [f"{k}: {n}" for k, n in kinds.items() if wanted.get(k) != n],
    )
    ends = [message["total_stf_files"] for message in once if message["msg_type"] == "end_run"]
    yield none_of("daq killed: end_run of all files", [] if ends == [_FILES] else ends)
    files = {path.name: path.read_bytes() for path in (scene.root / "stf").glob("*/*.stf")}
    wrong = [
        message["filename"]
        for message in once
        if message["msg_type"] == "stf_gen"
        and message["checksum"] != f"{zlib.adler32(files.pop(message['filename'], b'')):08x}"
    ]
    yield none_of("daq killed: files that are not as announced", [*wrong, *files])
    for what in ("runs", "workflow-executions"):
        found = len(scene.get(what))
        yield Bar(f"daq killed: {what}", found, "== 1", found == 1)


def _finished(scene: AgentScene) -> bool:
    executions = scene.get("workflow-executions", namespace=scene.namespace)
    return bool(executions) and executions[0]["status"] not in ("pending", "running")


def run_testbed(directory: Path, *options: str) -> dict[str, Any]:
    """Run the embedded form; return its summary, with ``wall_s``, the seconds
    that the command took from start to end.

    Raises
    ------
    RuntimeError
        Raised if it gave no summary.
    """
    say(f"testbed run {' '.join(options)}")
    summary = directory.with_suffix(".json")
    begin = time.monotonic()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "app.testbed", "run", "prompt_processing"),
            *("--directory", str(directory), "--json", str(summary), *options),
        ],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    wall = time.monotonic() - begin
    say(f"it took {wall:.1f} s, exit code {done.returncode}")
    if not summary.exists():
        raise RuntimeError(f"testbed gave no summary: {(done.stdout + done.stderr)[-600:]}")
    return {**json.loads(summary.read_text()), "wall_s": wall}


def _wait_for_more(scene: AgentScene, listener: Listener, before: int) -> None:
    scene.wait_until(lambda: len(listener.of_type("stf_gen")) > before, "files come", pause=0.01)


def _wait_for_ready(scene: AgentScene, listener: Listener, before: int) -> None:
    scene.wait_until(
        lambda: any(m["msg_type"] == "stf_ready" for m in listener.heard[before:]), "a task was asked for"
    )


def _against_schema(listener: Listener) -> list[str]:
    return [f"{m['msg_type']}: {fault}" for m in listener.heard for fault in faults_of(m)]


def _repeated(scene: AgentScene) -> str:
    """Say how often payloads ran again because their agent died."""
    starts = [len(path.read_text().splitlines()) for path in (scene.root / "witness").iterdir()]
    return f"payloads that ended: {sum(starts)}"


def _burner(scratch: Path) -> Path:
    """Make a payload that takes 10 ms of processor time, and little to start."""
    source, program = scratch / "burn.c", scratch / "burn"
    if not program.exists():
        source.write_text("#include <time.h>\nint main(void){while(clock()<CLOCKS_PER_SEC/100);return 0;}\n")
        subprocess.run(["cc", "-O1", "-o", str(program), str(source)], check=True)
    return program


def _rows(scene: AgentScene, table: str) -> list[dict[str, Any]]:
    """Return the rows of a table, from whichever database of the scene has any."""
    rows: list[dict[str, Any]] = []
    for file in scene.root.glob("**/*.db"):
        engine = sa.create_engine(f"sqlite:///{file}")
        with engine.connect() as connection:
            if sa.inspect(connection).has_table(table):
                rows += [
                    dict(row) for row in connection.execute(sa.text(f"SELECT * FROM {table}")).mappings()
                ]
        engine.dispose()
    return rows


def _statuses(scene: AgentScene) -> Counter[str]:
    return Counter(row["status"] for row in scene.get("stf-files"))


def _open_datasets(scene: AgentScene) -> list[str]:
    return [row["name"] for row in _rows(scene, "catalogue_datasets") if row["open"]]


def _not_once(names: Counter[str]) -> list[str]:
    """Say what is wrong with the names of the run's files."""
    wrong = [f"{name} {count} times" for name, count in names.items() if count != 1]
    return wrong + ([f"{len(names)} files"] if len(names) != _FILES else [])


def _miscounted(scene: AgentScene) -> list[str]:
    rows = scene.get("stf-files")
    wrong = [f"{row['stf_filename']} is {row['status']}" for row in rows if row["status"] != "processed"]
    wrong += [f"{row['stf_filename']} has no checksum" for row in rows if not row["checksum"]]
    return wrong + _not_once(Counter(row["stf_filename"] for row in rows))


def _miscatalogued(scene: AgentScene) -> list[str]:
    return _not_once(Counter(row["name"] for row in _rows(scene, "catalogue_files")))


def _misprocessed(scene: AgentScene) -> list[str]:
    """What came out, against what went in: once each, and whole."""
    outputs = [path for path in scene.root.glob("**/*.processed/*/*.stf") if ".work" not in path.parts]
    sources = {path.name: path.read_bytes() for path in (scene.root / "stf").glob("*/*.stf")}
    wrong = [path.name for path in outputs if path.read_bytes() != sources.get(path.name)]
    return wrong + _not_once(Counter(path.name for path in outputs))
