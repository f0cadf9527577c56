"""The set of servers for people with Docker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


@pytest.fixture(scope="module")
def variables() -> dict[str, str]:
    lines = (ROOT / "deploy" / "compose" / "servers.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_the_file_is_of_the_published_form() -> None:
    checker = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run(
        [checker, "--builtin-schema", "vendor.compose-spec", ROOT / "docker-compose.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_everything_listens_on_this_machine_alone(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 6
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_variables_name_ports_that_are_published(compose: dict[str, Any], variables: dict[str, str]) -> None:
    published = {
        port.split(":")[1] for service in compose["services"].values() for port in service.get("ports", [])
    }
    named = {
        value.rpartition("127.0.0.1:")[2].partition("/")[0]
        for value in variables.values()
        if "127.0.0.1:" in value
    }
    assert named and named <= published


def test_files_that_are_mounted_exist(compose: dict[str, Any]) -> None:
    mounted = [
        volume.split(":")[0]
        for service in compose["services"].values()
        for volume in service.get("volumes", [])
        if volume.startswith("./")
    ]
    assert mounted
    assert all((ROOT / path).is_file() for path in mounted)


def test_topics_buckets_and_databases_that_are_named_are_made(
    compose: dict[str, Any], variables: dict[str, str]
) -> None:
    prepared = compose["services"]["kafka-prepared"]["command"][0]
    topics = {value for name, value in variables.items() if name.endswith("_TOPIC")}
    assert topics and all(f" {topic}" in prepared for topic in topics)
    assert f'"{variables["IMAGE_BUCKET"]}"' in compose["services"]["s3-prepared"]["command"][2]
    databases = (ROOT / "deploy" / "compose" / "databases.sql").read_text()
    assert f"CREATE DATABASE {variables['PP_LEDGER_URL'].rpartition('/')[2]};" in databases


def test_the_same_variables_as_without_docker(variables: dict[str, str]) -> None:
    source = (ROOT / "simulator" / "servers" / "everything.py").read_text()
    s3 = (ROOT / "simulator" / "servers" / "s3.py").read_text()
    missing = [name for name in variables if f'"{name}"' not in source + s3]
    assert missing == []
