"""A directory for one testbed at a time."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from app.streaming.workplace import Workplace, logged_to, running_testbed, the_only_agent
from models.errors import InvalidConfiguration, TemporarilyUnavailable


def test_one_at_a_time(tmp_path: Path) -> None:
    place = tmp_path / "made" / "here"
    assert running_testbed(place) is None
    with Workplace(place):
        assert running_testbed(place) == os.getpid()
        with (
            pytest.raises(TemporarilyUnavailable, match=rf"already \(process {os.getpid()}\)"),
            Workplace(place),
        ):
            pass
        assert running_testbed(place) == os.getpid()
    assert running_testbed(place) is None
    with Workplace(place):
        assert running_testbed(place) == os.getpid()


def test_one_agent_of_each_kind_and_namespace(tmp_path: Path) -> None:
    with (
        the_only_agent(tmp_path / "new", "data", "a/b"),
        the_only_agent(tmp_path / "new", "processing", "a/b"),
        the_only_agent(tmp_path / "new", "data", "b"),
        pytest.raises(
            TemporarilyUnavailable, match=rf"the data agent of namespace a/b .*process {os.getpid()}"
        ),
        the_only_agent(tmp_path / "new", "data", "a/b"),
    ):
        pass
    with the_only_agent(tmp_path / "new", "data", "a/b"):
        pass


def test_a_directory_that_knows_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("app.streaming.workplace.fcntl.flock", refuse)
    with pytest.raises(InvalidConfiguration, match=r"cannot be locked: .*No locks"), Workplace(tmp_path):
        pass


def test_a_process_that_died_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "testbed.pid").write_text("1\n")
    assert running_testbed(tmp_path) is None


def test_who_only_looks_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "testbed.pid"
    file.write_text("1\n")
    with file.open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert running_testbed(tmp_path) is None

        def a_moment(_: float) -> None:
            fcntl.flock(looking, fcntl.LOCK_UN)

        monkeypatch.setattr("app.streaming.workplace.time.sleep", a_moment)
        with Workplace(tmp_path):
            assert running_testbed(tmp_path) == os.getpid()


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidConfiguration, match="cannot be used"), Workplace(tmp_path / "file" / "x"):
        pass


def test_the_log_is_on_standard_error_again_when_the_run_is_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with logged_to(tmp_path / "new", {"": logging.INFO}) as path:
        logging.getLogger("app.x").warning("within")
    logging.getLogger("app.x").warning("thereafter")
    assert "within" in path.read_text()
    assert "thereafter" not in path.read_text()
    assert "thereafter" in capsys.readouterr().err


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "testbed.log").mkdir()
    with pytest.raises(InvalidConfiguration, match="log cannot be written"), logged_to(tmp_path, {}):
        pass


class Disk(io.RawIOBase):
    """A file on a disk that may be full."""

    def __init__(self) -> None:
        self.written = b""
        self.room = 1000

    def write(self, data: Any) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        fits = bytes(data)[: self.room]
        self.written += fits
        self.room -= len(fits)
        return len(fits)


def test_a_full_disk_makes_a_log_shorter_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = Disk()
    monkeypatch.setattr(Path, "open", lambda *_, **__: disk)
    with logged_to(tmp_path, {"": logging.INFO}):
        logging.getLogger("app.x").warning("first")
        disk.room = 10
        for _ in range(3):
            logging.getLogger("app.x").warning("lost")
        disk.room = 1000
        logging.getLogger("app.x").warning("last")
    lines = [json.loads(line) for line in disk.written.splitlines() if line.endswith(b"}")]
    assert [line["message"] for line in lines] == [
        "first",
        "3 lines are missing here: they could not be written.",
        "last",
    ]
    assert capsys.readouterr().err == ""
