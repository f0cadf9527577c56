"""Which supervisord agents get."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

import pytest

from app.streaming import supervisors
from app.streaming.supervisord_file import agents_place, find_supervisord_file, write_supervisord_file
from config.streaming.settings import StreamingSettings, load_streaming_settings
from models.errors import TemporarilyUnavailable


class Running:
    """A supervisord in place of each of these files."""

    files: ClassVar[dict[Path, str | None]] = {}

    def __init__(self, file: Path) -> None:
        self.file = file
        self.reachable = file in self.files

    def alive(self) -> list[str]:
        return ["stf-data-agent"]

    def variable(self, _: str) -> str | None:
        return self.files[self.file]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StreamingSettings:
    monkeypatch.setattr(supervisors, "Supervisor", Running)
    monkeypatch.setattr(Running, "files", {})
    monkeypatch.chdir(tmp_path)
    return load_streaming_settings({"PP_TESTBED_DIRECTORY": str(tmp_path / "d")})


def test_each_namespace_and_directory_has_its_own(settings: StreamingSettings, tmp_path: Path) -> None:
    file = supervisors.own_supervisor(settings, "alice").file
    assert file == tmp_path / "d" / "agents" / "alice" / "agents.supervisord.conf"
    assert file.is_file()
    assert supervisors.running_supervisor(settings, "alice").file == find_supervisord_file()
    Running.files[file] = None
    assert supervisors.running_supervisor(settings, "alice").file == file


def test_agents_started_by_hand_are_told_of_if_they_have_the_directory(settings: StreamingSettings) -> None:
    Running.files[find_supervisord_file()] = "/elsewhere"
    supervisors.own_supervisor(settings, "alice")
    relative = os.path.relpath(settings.testbed_directory, find_supervisord_file().parent)
    for named in (str(settings.testbed_directory), relative):
        Running.files[find_supervisord_file()] = named
        with pytest.raises(TemporarilyUnavailable, match="stf-data-agent run under supervisord already"):
            supervisors.own_supervisor(settings, "alice")


def test_agents_of_another_directory_are_not_taken_for_ours(settings: StreamingSettings) -> None:
    by_hand = find_supervisord_file()
    for ours in (None, str(settings.testbed_directory)):
        Running.files[by_hand] = ours
        assert supervisors.running_supervisor(settings, "alice").file == by_hand
    Running.files[by_hand] = "/elsewhere"
    with pytest.raises(TemporarilyUnavailable, match="started by hand have /elsewhere"):
        supervisors.running_supervisor(settings, "alice")


def test_one_executor_has_a_directory_to_itself(settings: StreamingSettings) -> None:
    place = agents_place(settings.testbed_directory, "bob")
    Running.files[write_supervisord_file(find_supervisord_file(), place)] = None
    supervisors.own_supervisor(settings, "bob")
    with pytest.raises(TemporarilyUnavailable, match="agents of another namespace run in"):
        supervisors.own_supervisor(settings, "alice")
    supervisors.own_supervisor(settings.model_copy(update={"executor": "panda"}), "alice")
