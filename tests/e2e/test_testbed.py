"""The testbed as people use it: in one process, and over a real broker."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.streaming.supervisor import Supervisor
from config.server_settings import server_environment
from simulator.servers.activemq import ActiveMQServer
from tests.docs.pages import ROOT

NAMESPACE = "t"
#: Variables that would lead a testbed of ours elsewhere.
_FOREIGN = re.compile(r"^(ACTIVEMQ|SWF|PP|PANDA)_")


class Site:
    """A directory as an operator has it, and commands in it."""

    def __init__(self, directory: Path, **variables: str) -> None:
        self.directory = directory
        inherited = {n: v for n, v in server_environment({}).items() if not _FOREIGN.match(n)}
        own = str(Path(sys.executable).parent)
        self.environment = {**inherited, "PATH": f"{own}:{inherited['PATH']}", **variables}

    @property
    def supervisord_file(self) -> Path:
        """Return that of the agents that the testbed starts here."""
        return self.directory / "testbed-out" / "agents" / NAMESPACE / "agents.supervisord.conf"

    def start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "app.testbed", *command],
            cwd=self.directory,
            env={**self.environment, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def testbed(self, *command: str) -> tuple[int, str]:
        process = self.start(*command)
        out, err = process.communicate(timeout=150)
        return process.returncode, out + err


def wait_until(done: Callable[[], Any], what: str, patience: float = 150.0) -> Any:
    deadline = time.monotonic() + patience
    while not (answer := done()):
        assert time.monotonic() < deadline, f"not seen in time: {what}"
        time.sleep(0.1)
    return answer


class TestInOneProcess:
    def test_a_run_with_its_tree_and_figures(self, tmp_path: Path) -> None:
        code, text = Site(tmp_path).testbed("run", "prompt_processing", "--no-realtime", "--json", "f.json")
        assert code == 0, text
        lines = [re.sub(r"[\d.]+ s\b", "N s", line.strip(" │")) for line in text.splitlines()]
        assert "Run 100010 Summary:" in lines
        for line in (
            "├── STF files: 3 (3 registered, 3 processed)",
            "├── Dataset: swf.100010.run (closed, 3 files)",
            "├── run_imminent → agents prepared",
            "├── stf_gen (x3) → STF files generated",
            "└── Single task submitted for entire dataset: 1 (done), 3 of 3 files processed",
        ):
            assert line in lines
        assert any(line.startswith("├── Duration: 24.9 seconds (simulation time)") for line in lines)
        figures = json.loads((tmp_path / "f.json").read_text())
        assert (figures["stf_files"], figures["processed"], figures["faults"]) == (3, 3, [])
        assert (figures["execution_status"], figures["dataset_status"]) == ("completed", "closed")
        code, text = Site(tmp_path).testbed("status", "--json")
        execution = json.loads(text)["executions"][0]
        assert (code, execution["files"], execution["tasks"]) == (0, {"processed": 3}, ["1"])

    @pytest.mark.parametrize("how", ["signal", "command"])
    def test_a_stop(self, tmp_path: Path, how: str) -> None:
        site = Site(tmp_path)
        assert site.testbed("stop")[0] == 1
        process = site.start("run", "--physics-period-count", "0", "--stf-count", "0")
        log = tmp_path / "testbed-out" / "embedded" / "testbed.log"
        wait_until(log.exists, "the log")
        wait_until(lambda: "begins" in log.read_text(), "the run")
        code, text = site.testbed("run", "--no-realtime")
        assert code == 1
        assert "a testbed runs in" in text
        if how == "signal":
            process.send_signal(signal.SIGINT)
        else:
            assert site.testbed("stop") == (0, f"Process {process.pid} was asked to end its run.\n")
        out, _ = process.communicate(timeout=150)
        assert process.returncode == 1
        assert "(terminated)" in out
        assert "Fault" not in out

    def test_a_run_goes_on_when_nobody_reads_any_more(self, tmp_path: Path) -> None:
        process = Site(tmp_path).start("run", "--no-realtime")
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Running prompt_processing")
        process.stdout.close()
        assert process.wait(60) == 0
        log = (tmp_path / "testbed-out" / "embedded" / "testbed.log").read_text()
        assert "Nothing can be shown any more" in log
        (summary,) = re.findall(r'"message": "Summary: (.*?)", "name"', log)
        assert json.loads(summary.replace('\\"', '"'))["processed"] == 3

    @pytest.mark.parametrize(
        ("command", "what"),
        [
            (["run", "promt_processing"], "did you mean prompt_processing"),
            (["run", "--payload", "no-such-program"], "no-such-program"),
            (["run", "--detach"], "--detach and --use-running are for runs over a broker"),
            (["run", "--namespace", ""], "namespace"),
        ],
    )
    def test_misuse_is_told_in_a_sentence(self, tmp_path: Path, command: Sequence[str], what: str) -> None:
        code, text = Site(tmp_path).testbed(*command)
        assert code == 2
        assert what in text
        assert "Traceback" not in text


@pytest.fixture
def site(tmp_path: Path, activemq: ActiveMQServer) -> Iterator[Site]:
    """A place with the shipped file, and a monitor that is somebody else's."""
    shutil.copy(ROOT / "agents.supervisord.conf", tmp_path)
    (tmp_path / "agents").symlink_to(ROOT / "agents")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    site = Site(tmp_path, SWF_MONITOR_URL=f"http://127.0.0.1:{port}", **activemq.environment)
    with (tmp_path / "monitor.log").open("w") as log:
        monitor = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "monitor", "--port", str(port)],
            cwd=tmp_path,
            env={**site.environment, "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
        )
        try:
            wait_until(lambda: agents(site) is not None, "the monitor")
            yield site
        finally:
            if site.supervisord_file.exists():
                Supervisor(site.supervisord_file).shut_down()
            monitor.terminate()
            monitor.wait(100)


def agents(site: Site) -> list[dict[str, Any]] | None:
    """Return what the monitor knows of agents; None while it is not there."""
    try:
        answer = httpx.get(f"{site.environment['SWF_MONITOR_URL']}/api/systemagents/", timeout=60)
    except httpx.HTTPError:
        return None
    rows: list[dict[str, Any]] = answer.json()
    return rows


def agent_with(site: Site, pid: int) -> dict[str, Any] | None:
    """Return an agent by its process."""
    return next((row for row in agents(site) or [] if row["pid"] == pid), None)


@pytest.mark.servers
@pytest.mark.slow
def test_agents_under_supervisord_over_a_real_broker(site: Site) -> None:
    """Started, used, killed, brought back, used, stopped with QUIT."""
    quick = ("run", "--no-realtime", "--namespace", NAMESPACE)
    code, text = site.testbed("run", "--namespace", NAMESPACE, "--physics-period-count", "0", "--detach")
    assert code == 0, text
    supervisor = Supervisor(site.supervisord_file)
    before = supervisor.programs()
    assert before["monitor"].state == "STOPPED"
    names = ["stf-data-agent", "stf-processing-agent", "workflow-runner"]
    assert {before[name].state for name in names} == {"RUNNING"}

    code, text = site.testbed(*quick)
    assert code == 1
    assert "run under supervisord already" in text
    code, text = site.testbed("run", "--no-realtime", "--namespace", "other", "--use-running")
    assert code == 1
    assert re.search(r"nobody runs workflows of the namespace other; .*: t \(by daq_simulator-agent-", text)

    code, text = site.testbed("stop", "--namespace", NAMESPACE)
    assert (code, text.startswith("Ended: prompt_processing-")) == (0, True), text
    code, text = site.testbed("status", "--namespace", NAMESPACE, "--json")
    assert [row["status"] for row in json.loads(text)["executions"]] == ["terminated"]
    code, text = site.testbed("stop", "--namespace", NAMESPACE)
    assert (code, "nothing runs in the namespace t" in text) == (1, True)

    for name in names[:2]:
        os.kill(before[name].pid, signal.SIGKILL)

    def are_back() -> bool:
        rows = []
        for name in names[:2]:
            pid = supervisor.programs()[name].pid
            rows.append(agent_with(site, pid) if pid not in (0, before[name].pid) else None)
        return all(row and row["operational_state"] in ("READY", "PROCESSING") for row in rows)

    wait_until(are_back, "the agents again")
    code, text = site.testbed(*quick, "--use-running", "--stf-count", "20", "--json", "f.json")
    assert code == 0, text
    figures = json.loads((site.directory / "f.json").read_text())
    assert (figures["processed"], figures["dataset_status"], figures["faults"]) == (20, "closed", [])
    assert figures["messages"]["stf_ready"] == 1

    pids = [supervisor.programs()[name].pid for name in names]
    code, text = site.testbed("stop", "--namespace", NAMESPACE, "--agents")
    assert (code, "The agents were ended." in text) == (0, True), text
    assert not supervisor.reachable
    for pid in pids:
        row = agent_with(site, pid)
        assert row is not None
        assert (row["status"], row["operational_state"]) == ("EXITED", "EXITED")


@pytest.mark.servers
@pytest.mark.slow
def test_an_agent_that_does_not_start_is_named_with_its_log(site: Site) -> None:
    site.environment["PP_PAYLOAD"] = "no-such-program"
    code, text = site.testbed("run", "--no-realtime", "--namespace", NAMESPACE)
    assert code == 1
    assert "stf-processing-agent does not stay" in text
    assert "no-such-program" in text
    assert not Supervisor(site.supervisord_file).reachable
