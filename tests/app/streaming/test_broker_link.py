"""Broker and monitor, as operators use them."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from typing import Any, cast

import pytest

from app.streaming import broker_link
from app.streaming.broker_link import BrokerLink
from config.streaming.settings import load_streaming_settings
from models.errors import TemporarilyUnavailable
from repos.streaming.monitor_overview import Overview


class Agents:
    def __init__(self, *rows: dict[str, Any]) -> None:
        self.rows = rows

    def agents(self, namespace: str | None = None) -> list[dict[str, Any]]:
        return [{"agent_type": "DAQ_Simulator", "namespace": "epic", "status": "OK", **r} for r in self.rows]


def link(*rows: dict[str, Any]) -> BrokerLink:
    made = BrokerLink(load_streaming_settings({}))
    made.overview = cast("Overview", Agents(*rows))
    return made


BUSY = {"instance_name": "a", "operational_state": "PROCESSING", "description": "run 7 of w-1"}
IDLE = {"instance_name": "b", "operational_state": "READY"}


def test_a_runner_that_has_a_run_is_busy() -> None:
    with pytest.raises(TemporarilyUnavailable, match=r"a is busy \(run 7 of w-1\)"):
        link(BUSY, {**IDLE, "namespace": "other"}, {**IDLE, "status": "EXITED"}).check_idle("epic")


@pytest.mark.parametrize("rows", [(BUSY, IDLE), (IDLE,), ()])
def test_one_that_is_idle_will_do(rows: tuple[dict[str, Any], ...]) -> None:
    link(*rows).check_idle("epic")


def test_a_runner_that_was_killed_here_is_not_taken_for_one_that_is_idle() -> None:
    """Its last sign of life says so for minutes."""
    process = subprocess.Popen(["true"])
    process.wait()
    here = {"hostname": socket.gethostname(), "pid": process.pid}
    with pytest.raises(TemporarilyUnavailable, match="a is busy"):
        link(BUSY, {**IDLE, **here}).check_idle("epic")
    for row in ({**IDLE, **here, "hostname": "elsewhere"}, {**IDLE, **here, "pid": os.getpid()}, IDLE):
        link(BUSY, row).check_idle("epic")
    with pytest.raises(TemporarilyUnavailable, match="served: none"):
        link({**IDLE, **here}).check_served("epic")


def test_who_serves_which_namespace() -> None:
    link(IDLE).check_served("epic")
    with pytest.raises(TemporarilyUnavailable, match=r"served: epic \(by b\)"):
        link(IDLE).check_served("other")


def test_a_monitor_that_is_away_is_named() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # And does not listen.
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        made = BrokerLink(load_streaming_settings({"SWF_MONITOR_URL": url}))
        with pytest.raises(TemporarilyUnavailable, match=f"Asked at {url}, as SWF_MONITOR_URL says"):
            made.check_served("epic")


def test_why_the_broker_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_link, "_CONNECT", 0.0)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # And does not listen.
        port = nobody.getsockname()[1]
        settings = load_streaming_settings({"ACTIVEMQ_HOST": "127.0.0.1", "ACTIVEMQ_PORT": str(port)})
        made = BrokerLink(settings)
        with pytest.raises(TemporarilyUnavailable, match=f"127.0.0.1:{port} does not let us in"):
            made.connect()
        while not made._bus.trouble:
            time.sleep(0.01)
        with pytest.raises(TemporarilyUnavailable, match=r"in: .*refused; see ACTIVEMQ_HOST"):
            made.connect()
        made.close()
