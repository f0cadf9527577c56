"""The streaming workflow on a real broker: monitor, agents and data
acquisition as processes of their own, and somebody who hears everything.
"""

from __future__ import annotations

__all__ = ["AgentProcess", "AgentScene", "Listener"]

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import stomp

from app.demo.program import Program
from app.demo.service_process import free_port
from benchmarks.scene import PROJECT
from models.streaming.messages import COMMAND_QUEUE, RUN_TOPIC, Command
from simulator.servers.activemq import ActiveMQServer

#: Where the agents' scripts are.
AGENTS = ("data_agent.py", "prompt_processing_agent.py")


class Listener(stomp.ConnectionListener):
    """Hears every message of the topic.

    Parameters
    ----------
    broker : `simulator.servers.activemq.ActiveMQServer`
    """

    def __init__(self, broker: ActiveMQServer) -> None:
        self.heard: list[dict[str, Any]] = []
        self._connection = stomp.Connection11([(broker.host, broker.port)])
        self._connection.set_listener("", self)
        self._connection.connect(broker.user, broker.password, wait=True)
        self._connection.subscribe(RUN_TOPIC, id="1", ack="auto")

    def command(self, command: Command) -> None:
        """Send a command."""
        self._connection.send(COMMAND_QUEUE, command.to_text(), headers={"persistent": "true"})

    def on_message(self, frame: stomp.utils.Frame) -> None:
        """Keep a message."""
        self.heard.append(json.loads(frame.body))

    def of_type(self, msg_type: str) -> list[dict[str, Any]]:
        """Return what was heard of a type."""
        return [message for message in self.heard if message["msg_type"] == msg_type]

    def close(self) -> None:
        """Hear no more."""
        self._connection.disconnect()


class AgentProcess:
    """An agent, started again whenever it has died.

    Parameters
    ----------
    arguments : sequence of `str`
        What the interpreter is given.
    environment : mapping [`str`, `str`]
    log : `pathlib.Path`
    """

    def __init__(self, arguments: Sequence[str], *, environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        self._arguments = arguments
        self._environment = dict(environment)
        self.kills = 0
        self.process = self._start()

    def kill(self) -> None:
        """SIGKILL the agent, and nobody else; then start another."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.kills += 1
        self.process = self._start()

    def kill_now_and_then(self, times: int, *, between: tuple[float, float], seed: int) -> threading.Thread:
        """Kill it at random moments, from a thread that ends with the last."""
        chance = random.Random(seed)

        def work() -> None:
            for _ in range(times):
                time.sleep(chance.uniform(*between))
                self.kill()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread

    def stop(self) -> int:
        """End it as supervisord does; return its exit code."""
        self.process.send_signal(signal.SIGQUIT)
        try:
            return self.process.wait(20.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        with open(self.log, "ab") as output:
            return subprocess.Popen(
                [sys.executable, *self._arguments],
                env=self._environment,
                cwd=self.log.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


class AgentScene:
    """Everything that a run needs on a real broker.

    Parameters
    ----------
    root : `pathlib.Path`
        Empty directory for databases, files and logs.
    broker : `simulator.servers.activemq.ActiveMQServer`
    **settings : `str`
        Further variables of all processes.
    """

    def __init__(self, root: Path, broker: ActiveMQServer, **settings: str) -> None:
        self.root = root
        self.broker = broker
        self.namespace = f"bench{os.getpid()}"
        port = free_port()
        self.monitor_url = f"http://127.0.0.1:{port}"
        self._port = port
        (root / "testbed.toml").write_text(f'[testbed]\nnamespace = "{self.namespace}"\n')
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PP_", "SWF_", "ACTIVEMQ_", "PANDA"))
        }
        self.environment = {
            **inherited,
            **broker.environment,
            "SWF_MONITOR_URL": self.monitor_url,
            "SWF_TESTBED_CONFIG": str(root / "testbed.toml"),
            "SWF_PROMPT_PROCESSING_CONTAINER": str(root / "stf"),
            "PP_TESTBED_DIRECTORY": str(root),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(PROJECT),
            **settings,
        }
        (root / "stf").mkdir()

    @contextmanager
    def running(self) -> Iterator[tuple[AgentProcess, AgentProcess]]:
        """Have monitor and agents running; yields data agent and processing
        agent.
        """
        self.monitor = self.start_monitor()
        self.monitor.wait_until(self.monitor_answers)
        agents = [
            self._start([str(PROJECT / "agents" / script), "-v"], name=Path(script).stem) for script in AGENTS
        ]
        try:
            self.wait_until(lambda: self._ready() >= len(agents), "the agents are ready")
            yield agents[0], agents[1]
        finally:
            for agent in agents:
                agent.stop()
            self.monitor.stop()

    @contextmanager
    def taking_commands(self) -> Iterator[AgentProcess]:
        """Have a data acquisition follow commands; yields it."""
        ready = self._ready()
        daq = self._start(["-m", "app.cli", "daq"], name="daq")
        try:
            self.wait_until(lambda: self._ready() > ready, "the data acquisition is ready")
            yield daq
        finally:
            daq.stop()

    def _start(self, arguments: Sequence[str], *, name: str) -> AgentProcess:
        return AgentProcess(arguments, environment=self.environment, log=self.root / f"{name}.log")

    def start_monitor(self) -> Program:
        """Start the monitor, on the same port each time."""
        return Program(
            "monitor", "--port", str(self._port), environment=self.environment, log=self.root / "monitor.log"
        )

    def take_data(self, *options: str) -> Program:
        """Start a run."""
        return Program(
            "daq", "--run-once", "prompt_processing", *options,
            environment=self.environment, log=self.root / "daq.log",
        )  # fmt: skip

    def get(self, resource: str, **query: Any) -> Any:
        """Ask the monitor."""
        answer = httpx.get(f"{self.monitor_url}/api/{resource}/", params=query, timeout=30.0, trust_env=False)
        answer.raise_for_status()
        return answer.json()

    def wait_until(
        self, what: Callable[[], object], name: str, timeout: float = 120.0, *, pause: float = 0.2
    ) -> None:
        """Wait for something.

        Raises
        ------
        RuntimeError
            Raised if it does not come about; the text has the ends of the logs.
        """
        deadline = time.monotonic() + timeout
        while not what():
            if time.monotonic() > deadline:
                tails = "\n".join(
                    f"{log.name}: {log.read_text(errors='replace')[-1200:]}"
                    for log in self.root.glob("*.log")
                )
                raise RuntimeError(f"within {timeout:g} s it was not so that {name}\n{tails}")
            time.sleep(pause)

    def monitor_answers(self) -> bool:
        """Say whether the monitor can be asked."""
        try:
            return httpx.get(f"{self.monitor_url}/health", timeout=2.0, trust_env=False).is_success
        except httpx.TransportError:
            return False

    def _ready(self) -> int:
        states = [row for row in self.get("systemagents") if row["namespace"] == self.namespace]
        return sum(row["operational_state"] == "READY" for row in states)
