"""What all tests share."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ["tests.servers"]

# The same examples in every run, so that a red test is red again; and machines
# may be busy.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")

#: Data that accompanies the project without being part of it.
SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run fast tests first."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make text of what a test logged: some log half characters, which cannot
    be told to another process.
    """
    report = yield
    report.sections = [(name, text.encode(errors="replace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Undo what a command that ran in this process did to its logging: later
    tests would write to its streams, which are closed.
    """
    root = logging.getLogger()
    before, level, hooks = root.handlers[:], root.level, (sys.excepthook, threading.excepthook)
    yield
    logging.captureWarnings(False)
    root.handlers[:] = before
    root.setLevel(level)
    sys.excepthook, threading.excepthook = hooks


@pytest.fixture(scope="session")
def decam_frames() -> Path:
    """Directory of the real DECam stamps."""
    path = SHARED / "data" / "decam_two_epochs"
    if not path.is_dir():
        pytest.skip("the DECam stamps of decam_two_epochs are not here")
    return path
