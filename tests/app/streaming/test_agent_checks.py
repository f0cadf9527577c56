"""What ``check --component agents`` finds."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from app.check_runs import run_checks
from app.cli import build
from app.component_checks import component_checks, configured_components
from app.streaming.agent_checks import agent_checks
from config.streaming.settings import StreamingSettings, load_streaming_settings
from repos.streaming.database import create_streaming_engine
from simulator.servers.activemq import ActiveMQServer
from simulator.servers.postgresql import PostgreSQLServer
from simulator.servers.process import free_port
from tests.repos.streaming.monitors import TOKEN, our_monitor, served
from tests.repos.streaming.panda_server import panda_server
from tests.repos.streaming.rucio_server import RucioDouble, configured
from tests.servers import unique_name


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*StreamingSettings.variables(), "PP_SETTINGS_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def names(**variables: str) -> set[str]:
    return {check.name for check in agent_checks(load_streaming_settings(env=variables))}


def faults(**variables: str) -> list[str]:
    return run_checks(agent_checks(load_streaming_settings(env=variables)))


def test_all_in_one_process(tmp_path: Path) -> None:
    assert names() == {"configuration of the testbed", "directory of the testbed", "payload true"}
    assert faults() == []
    # Nothing is made by looking.
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_here(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "bad.toml").write_text("[testbed]\nnamespce = 'x'\n")
    text = "\n".join(
        faults(
            PP_TESTBED_DIRECTORY=str(tmp_path / "file" / "below"),
            PP_PAYLOAD="no-such-program {stf}",
            SWF_TESTBED_CONFIG=str(tmp_path / "bad.toml"),
            PP_CATALOGUE_DATABASE=f"sqlite:///{tmp_path}/file/catalogue.db",
        )
    )
    for part in ("PP_TESTBED_DIRECTORY: ", "no-such-program", "namespce", "PP_CATALOGUE_DATABASE: "):
        assert part in text


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("RUCIO_CONFIG", "/nowhere/rucio.cfg")
    text = "\n".join(
        faults(
            ACTIVEMQ_HOST="127.0.0.1",
            ACTIVEMQ_PORT=nobody.rpartition(":")[2],
            SWF_MONITOR_URL=f"http://{nobody}",
            PP_STREAMING_DATABASE=f"postgresql://me@{nobody}/none",
            PP_CATALOGUE="rucio",
        )
    )
    for part in (f"the broker {nobody}", "the monitor, GET", "streaming database", "RUCIO_CONFIG"):
        assert part in text


@pytest.mark.servers
def test_broker_and_database(activemq: ActiveMQServer, postgresql: PostgreSQLServer) -> None:
    url = postgresql.create_database(unique_name("agents"))
    there = {**activemq.environment, "PP_STREAMING_DATABASE": url}
    # Empty, and with the tables that an agent has made.
    assert faults(**there) == []
    create_streaming_engine(url).dispose()
    assert faults(**there) == []
    (fault,) = faults(**{**there, "ACTIVEMQ_PASSWORD": "wrong"})
    assert str(activemq.port) in fault


def test_monitor(tmp_path: Path) -> None:
    monitor, _ = our_monitor(tmp_path)
    with served(monitor) as url:
        assert faults(SWF_MONITOR_URL=url, SWF_API_TOKEN=TOKEN) == []
    (fault,) = faults(SWF_MONITOR_URL=url, SWF_API_TOKEN=TOKEN)
    assert "the monitor, GET" in fault


def test_panda(monkeypatch: pytest.MonkeyPatch) -> None:
    with panda_server() as panda:
        for name, value in panda.environment.items():
            monkeypatch.setenv(name, value)
        assert faults(PP_EXECUTOR="panda") == []
        assert panda.calls("task/get_tasks_detailed_info_since") != []
    (fault,) = faults(PP_EXECUTOR="panda")
    assert "PanDA" in fault


def test_rucio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with configured(RucioDouble(storage=tmp_path / "storage"), tmp_path, monkeypatch) as rucio:
        assert faults(PP_CATALOGUE="rucio") == []
        assert "/accounts/whoami" in [asked.path for asked in rucio.asked]
    (fault,) = faults(PP_CATALOGUE="rucio")
    assert fault.startswith("Rucio")


def test_on_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump({"testbed": {"PP_TESTBED_DIRECTORY": str(tmp_path / "there")}}))
    assert configured_components(file) == ["service", "agents"]
    assert run_checks(component_checks("agents", file)) == []
    result = CliRunner().invoke(build(["check"]), ["check", "--settings", str(file), "--component", "agents"])
    assert result.exit_code == 0, result.output
    assert "ok     settings of the agents" in result.output and "All is well." in result.output
