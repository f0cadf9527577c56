"""A directory for one testbed at a time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.streaming.workplace import Workplace, running_testbed
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


def test_a_process_that_died_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "testbed.pid").write_text("1\n")
    assert running_testbed(tmp_path) is None


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidConfiguration, match="cannot be used"), Workplace(tmp_path / "file" / "x"):
        pass
