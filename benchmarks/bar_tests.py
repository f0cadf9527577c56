"""Bars that are tests."""

from __future__ import annotations

__all__ = ["chain", "forms", "golden", "mcp", "stf_clients", "stf_faults", "supervisord", "walls"]

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


def stf_faults(scratch: Path) -> Iterator[Bar]:
    """Runs that overlap, messages repeated or missing, whoever is away."""
    yield _run("streaming workflow: faults", "tests/services/streaming", "tests/simulator/daq")


def stf_clients(scratch: Path) -> Iterator[Bar]:
    """What goes to PanDA's and Rucio's servers."""
    tests = sorted((PROJECT / "tests" / "repos" / "streaming").glob("test_[pr][au][nc][di]*.py"))
    yield _run("what panda-client and rucio-clients send", *map(str, tests))


def mcp(scratch: Path) -> Iterator[Bar]:
    """The official MCP client lists the tools and gets each result."""
    yield _run("MCP: tools and results", "tests/app/streaming/test_mcp_server.py")


def supervisord(scratch: Path) -> Iterator[Bar]:
    """Agents under the shipped file: started, killed, stopped with QUIT."""
    yield _run("testbed over a broker, agents under supervisord", "tests/e2e/test_testbed.py")


def _run(name: str, *paths: str) -> Bar:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *paths],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    summary = (done.stdout.strip() or done.stderr.strip()).splitlines()
    passed = done.returncode == 0
    return Bar(name, int(not passed), "== 0 failures", passed, summary[-1] if summary else "")
