"""Measure every promised figure: one line of JSON each, progress to stderr.

Exits 0 only if all hold. The figures of a fresh clone take a network and half
an hour, so they come only with ``--fresh`` (benchmarks/fresh_clone.sh).
"""

from __future__ import annotations

__all__ = ["GROUPS", "main"]

import argparse
import importlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bar import Bar, BarGroup, say

_HERE = Path(__file__).resolve().parent

#: Module and function of each group, imported only when it is asked for.
GROUPS = {
    "walls": "benchmarks.bar_tests:walls",
    "forms": "benchmarks.bar_tests:forms",
    "overhead": "benchmarks.bar_overhead:overhead",
    "equality": "benchmarks.bar_overhead:equality",
    "golden": "benchmarks.bar_tests:golden",
    "chain": "benchmarks.bar_tests:chain",
    "demo": "benchmarks.bar_demo:demo",
    "demo-service": "benchmarks.bar_demo:demo_service",
    "quiet-sky": "benchmarks.bar_demo:quiet_sky",
    "real-frames": "benchmarks.bar_real:real_frames",
    "load": "benchmarks.bar_load:load",
    "deaths": "benchmarks.bar_deaths:deaths",
    "malformed": "benchmarks.bar_input:malformed",
    "openapi": "benchmarks.bar_input:openapi",
    "exports": "benchmarks.bar_exports:exports",
    "notifications": "benchmarks.bar_images:notifications",
    "arrivals": "benchmarks.bar_images:arrivals",
    "fan-out": "benchmarks.bar_fan_out:fan_out",
    "stream": "benchmarks.bar_stream:stream",
    "ledger-workers": "benchmarks.ledger_workers:ledger_workers",
    "writer-speed": "benchmarks.bar_writer:writer_speed",
    "writer-deaths": "benchmarks.bar_writer:writer_deaths",
    "kafka-away": "benchmarks.bar_kafka_away:kafka_away",
    "testbed": "benchmarks.bar_testbed:testbed",
    "testbed-speed": "benchmarks.bar_testbed:testbed_speed",
    "stf-messages": "benchmarks.bar_testbed:stf_messages",
    "agent-deaths": "benchmarks.bar_testbed:agent_deaths",
    "deaths-while-telling": "benchmarks.bar_testbed:deaths_while_telling",
    "stf-faults": "benchmarks.bar_tests:stf_faults",
    "stf-clients": "benchmarks.bar_tests:stf_clients",
    "mcp": "benchmarks.bar_tests:mcp",
    "supervisord": "benchmarks.bar_tests:supervisord",
}


def _measure(group: str, scratch: Path) -> Iterator[Bar]:
    module, _, name = GROUPS[group].partition(":")
    measure: BarGroup = getattr(importlib.import_module(module), name)
    begin = time.monotonic()
    try:
        yield from measure(scratch)
    except Exception as error:  # one broken figure does not hide the others
        yield Bar(group, None, "measured", passed=False, note=f"{type(error).__name__}: {error}"[-800:])
    say(f"[{group}: {time.monotonic() - begin:.0f} s]")


def main() -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.bars")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS), help="groups to measure")
    parser.add_argument("--keep", type=Path, help="work in this directory and leave everything there")
    parser.add_argument("--fresh", action="store_true", help="then run benchmarks/fresh_clone.sh")
    options = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory(prefix="pp-bars-") as temporary:
        for group in options.only:
            scratch = (options.keep or Path(temporary)) / group
            scratch.mkdir(parents=True)
            for bar in _measure(group, scratch):
                print(bar.line(), flush=True)
                good &= bar.passed is not False
    if options.fresh:
        good &= subprocess.run(["bash", str(_HERE / "fresh_clone.sh")], check=False).returncode == 0
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
