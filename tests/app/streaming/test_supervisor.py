"""supervisord, as it is started and asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.streaming.supervisor import Program, Supervisor
from config.server_settings import server_environment
from models.errors import InvalidConfiguration, TemporarilyUnavailable
from tests.docs.pages import ROOT

FILE = """
[unix_http_server]
file=%(here)s/s.sock ; short
[supervisord]
logfile=%(here)s/logs/supervisord.log
pidfile=%(here)s/logs/supervisord.pid
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[program:talker]
command=sh -c 'echo "hello $WHO"; exec sleep 600'
autostart=false
stdout_logfile=%(here)s/logs/talker.log
[program:broken]
command=sh -c 'exit 3'
autostart=false
startretries=0
stdout_logfile=%(here)s/logs/broken.log
"""


def test_its_life(tmp_path: Path) -> None:
    path = tmp_path / "s.conf"
    path.write_text(FILE)
    supervisor = Supervisor(path)
    assert not supervisor.reachable
    with pytest.raises(TemporarilyUnavailable, match="does not answer"):
        supervisor.programs()
    supervisor.launch(server_environment({"WHO": "world"}))
    try:
        assert {p.name: p.state for p in supervisor.programs().values()} == {
            "talker": "STOPPED",
            "broken": "STOPPED",
        }
        supervisor.start("talker")
        with pytest.raises(TemporarilyUnavailable, match="ALREADY_STARTED"):
            supervisor.start("talker")
        talker = supervisor.programs()["talker"]
        assert talker.alive
        assert talker.pid > 0
        while "hello" not in supervisor.programs()["talker"].tail():
            pass
        assert supervisor.programs()["talker"].tail() == "hello world"
        supervisor.start("broken")
        while supervisor.programs()["broken"].alive:
            pass
        assert supervisor.programs()["broken"].tail() == "(its log is empty)"
        with pytest.raises(TemporarilyUnavailable, match="BAD_NAME"):
            supervisor.start("nobody")
    finally:
        supervisor.shut_down()
    assert not supervisor.reachable
    supervisor.shut_down()


def test_the_end_of_a_log_is_whole_lines(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    program = Program(name="x", state="FATAL", pid=0, problem="", log=log)
    log.write_text("".join(f"line {number:04} of the log\n" for number in range(1000)))
    lines = program.tail().splitlines()
    assert len(lines) > 50
    assert all(line.startswith("line ") for line in lines)
    log.write_text("x" * 5000)
    assert set(program.tail()) == {"x"}


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="there is no such file"):
        Supervisor(tmp_path / "gone.conf")
    (tmp_path / "x.conf").write_text("[supervisord]\n")
    with pytest.raises(InvalidConfiguration, match="no configuration of supervisord"):
        Supervisor(tmp_path / "x.conf")


def test_the_shipped_file_has_what_the_field_has() -> None:
    text = (ROOT / "agents.supervisord.conf").read_text()
    sections = dict(part.split("]", 1) for part in text.split("[program:")[1:])
    agents = {
        "stf-data-agent": "command=python -u agents/data_agent.py -v",
        "stf-processing-agent": "command=python -u agents/prompt_processing_agent.py -v",
        "workflow-runner": "command=prompt-processing daq",
    }
    for name, command in agents.items():
        assert {
            command,
            "autostart=false",
            "autorestart=true",
            "stopwaitsecs=10",
            "stopsignal=QUIT",
            "stdout_logfile=%(here)s/logs/%(program_name)s.log",
            "stderr_logfile=%(here)s/logs/%(program_name)s.log",
        } <= set(sections[name].splitlines())
