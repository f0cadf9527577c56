"""Folders of STF files."""

from __future__ import annotations

import json
import os
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repos.streaming.stf_folders import StfFolders

FOLDER = "swf.1.run"
NAME = "swf.1.000001.stf"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / FOLDER
    path.mkdir()
    return path


@given(content=st.binary(max_size=5000))
def test_size_and_checksum(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    container = tmp_path_factory.mktemp("container")
    (container / FOLDER).mkdir()
    path = container / FOLDER / NAME
    path.write_bytes(content)
    found = StfFolders().inspect(["/nowhere", str(container)], FOLDER, NAME)
    assert found is not None
    assert (found.path, found.size_bytes) == (path, len(content))
    assert found.adler32 == f"{zlib.adler32(content):08x}"


def test_what_is_not_there(folder: Path) -> None:
    folders = StfFolders()
    (folder / "swf.1.000002.stf").mkdir()
    for name in (NAME, "swf.1.000002.stf", "../secret"):
        assert folders.inspect([str(folder.parent)], FOLDER, name) is None
    (folder.parent / "secret").touch()
    assert folders.size([str(folder.parent)], FOLDER, "../secret") is None
    assert folders.size([str(folder)], "..", "secret") is None
    assert folders.size(["/nowhere"], FOLDER, NAME) is None


def test_files_that_nobody_announced(folder: Path) -> None:
    message = {"msg_type": "stf_gen", "run_id": "1", "state": "run"}
    for name, content in {
        NAME: json.dumps(message),
        "swf.1.000002.stf": "raw data",
        "swf.1.000003.stf": "[1]",
        "swf.1.000004.stf": "known",
        "swf.1.000005.stf": "x" * 100_000,
        "swf.2.000001.stf": "another run's",
        ".swf.1.000006.stf": "not finished",
        "notes.txt": "",
        "swf.1.000007.stf": "still being written",
    }.items():
        path = folder / name
        path.write_text(content)
        os.utime(path, (time.time() - 10, time.time() - 10))
    os.utime(folder / "swf.1.000007.stf")
    containers = ["/nowhere", str(folder.parent), str(folder.parent)]
    found = StfFolders(settled=5.0).search(containers, FOLDER, "1", {"swf.1.000004.stf"})
    assert found == [
        (NAME, message),
        ("swf.1.000002.stf", {}),
        ("swf.1.000003.stf", {}),
        ("swf.1.000005.stf", {}),
    ]


@pytest.mark.parametrize("kind", ["pipe", "directory", "dangling link"])
def test_what_is_no_file_is_not_there(tmp_path: Path, kind: str) -> None:
    """Nobody waits for what a pipe may say."""
    name = "swf.7.000001.stf"
    path = tmp_path / "swf.7.run" / name
    path.parent.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "nowhere")
    folders = StfFolders(settled=-1.0)
    assert folders.size([str(tmp_path)], "swf.7.run", name) is None
    assert folders.inspect([str(tmp_path)], "swf.7.run", name) is None
    assert folders.search([str(tmp_path)], "swf.7.run", "7", ()) == []
