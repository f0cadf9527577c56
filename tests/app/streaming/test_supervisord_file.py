"""supervisord's file, for a set of agents with a place of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervisor.options import ServerOptions  # type: ignore[import-untyped]

from app.streaming.supervisord_file import agents_place, find_supervisord_file, write_supervisord_file
from models.errors import InvalidConfiguration
from tests.docs.pages import ROOT


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    return find_supervisord_file()


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory whose name leaves room for that of a socket."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def understood(file: Path) -> ServerOptions:
    """Return what supervisord makes of a file."""
    options = ServerOptions()
    options.realize(["-c", str(file)])
    return options


def test_the_shipped_file_gets_a_place_of_its_own(shipped: Path, short: Path) -> None:
    assert shipped == ROOT / "agents.supervisord.conf"
    place = agents_place(short / "quite sure", "alice")
    options = understood(write_supervisord_file(shipped, place))
    assert (options.logfile, options.pidfile) == (
        f"{place}/logs/supervisord.log",
        f"{place}/logs/supervisord.pid",
    )
    (server,) = options.server_configs
    assert server["file"] == f"{place}/socket"
    programs = {group.name: group.process_configs[0] for group in options.process_group_configs}
    assert {program.directory for program in programs.values()} == {str(ROOT)}
    agent = programs["stf-data-agent"]
    assert agent.command == "python -u agents/data_agent.py -v"
    assert agent.stdout_logfile == agent.stderr_logfile == f"{place}/logs/stf-data-agent.log"


def test_namespaces_are_apart(tmp_path: Path) -> None:
    names = ["alice", "bob", "../bob", ".", "..", "a/b", "a%2Fb", "a=2Fb"]
    places = {agents_place(tmp_path, name) for name in names}
    assert len(places) == len(names)
    assert {place.parent for place in places} == {tmp_path / "agents"}


def test_a_file_of_the_working_directory_comes_first(shipped: Path, tmp_path: Path) -> None:
    own = tmp_path / "agents.supervisord.conf"
    own.write_text(
        "[unix_http_server]\nfile=%(here)s/logs/supervisor.sock ; short\n[supervisord]\n"
        "logfile=/var/log/mine.log\n[program:monitor]\ncommand=true\n"
    )
    assert find_supervisord_file() == own
    options = understood(write_supervisord_file(own, tmp_path / "place"))
    assert options.logfile == "/var/log/mine.log"
    assert options.server_configs[0]["file"] == f"{tmp_path}/place/socket"


def test_a_socket_has_a_short_path_and_the_same_each_time(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    place = tmp_path / ("x" * 100)
    sockets = [understood(write_supervisord_file(shipped, place)).server_configs[0]["file"] for _ in range(2)]
    assert sockets[0] == sockets[1]
    assert Path(sockets[0]).parent.parent == tmp_path
    Path(sockets[0]).parent.rmdir()
    assert understood(write_supervisord_file(shipped, place)).server_configs[0]["file"] != sockets[0]


def test_what_cannot_be_read_or_written(shipped: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="there is no such file"):
        write_supervisord_file(tmp_path / "gone.conf", tmp_path)
    (tmp_path / "odd.conf").write_bytes(b"\xff[")
    with pytest.raises(InvalidConfiguration, match="no configuration of supervisord"):
        write_supervisord_file(tmp_path / "odd.conf", tmp_path)
    with pytest.raises(InvalidConfiguration, match="no directory with a %"):
        write_supervisord_file(shipped, tmp_path / "100%")
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidConfiguration, match="cannot be written"):
        write_supervisord_file(shipped, tmp_path / "file")
