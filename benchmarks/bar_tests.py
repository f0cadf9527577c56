"""Bars that are tests."""

from __future__ import annotations

__all__ = ["chain", "forms", "golden", "walls"]

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bar import Bar
from benchmarks.scene import PROJECT


def walls(scratch: Path) -> Iterator[Bar]:
    """The import rules."""
    yield _run("walls hold", "tests/test_walls.py")


def forms(scratch: Path) -> Iterator[Bar]:
    """Both forms of the local repo give the same outputs."""
    yield _run("outputs of the two local-repo forms identical", "tests/repos/test_local_repo_forms.py")


def chain(scratch: Path) -> Iterator[Bar]:
    """From the summit's nextVisit to the central repo, on real servers."""
    yield _run("the whole chain, by HTTP and by stream", "tests/e2e/test_service_chain.py")


def golden(scratch: Path) -> Iterator[Bar]:
    """Messages equal the golden ones."""
    yield _run("messages equal the golden ones", "tests/golden")


def _run(name: str, path: str) -> Bar:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", path],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    summary = (done.stdout.strip() or done.stderr.strip()).splitlines()
    passed = done.returncode == 0
    return Bar(name, int(not passed), "== 0 failures", passed, summary[-1] if summary else "")
