"""Time one visit of framework work, end to end, against the yardstick.

The sides are interleaved in one run, so that whatever else the machine does
hits all of them: trust the ratios, not the milliseconds.
"""

from __future__ import annotations

__all__ = ["measure"]

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.workload import OurSide, Yardstick, make_repo
from models.outcomes import Result


def measure(visits: int) -> dict[str, float]:
    """Run the benchmark.

    Parameters
    ----------
    visits : `int`
        Visits a side, besides one that warms up.

    Returns
    -------
    figures : `dict` [`str`, `float`]
        Medians in milliseconds and their ratios.
    """
    with tempfile.TemporaryDirectory(prefix="pp-bench-") as directory:
        scratch = Path(directory)
        root = scratch / "central"
        make_repo(root)
        yardstick = Yardstick(root, scratch)
        ours = OurSide(root, scratch, direct=False)
        direct = OurSide(root, scratch, direct=True)
        times: dict[str, list[float]] = {"baseline": [], "ours": [], "ours_direct": []}
        exposure = int(time.time() % 1e7) * 1000
        try:
            for _ in range(visits + 1):
                times["baseline"].append(yardstick.visit(exposure + 1))
                seconds, finished = ours.visit(exposure + 2)
                _require_success(finished.outcome)
                times["ours"].append(seconds)
                yardstick.register(finished)
                seconds, finished = direct.visit(exposure + 3)
                _require_success(finished.outcome)
                times["ours_direct"].append(seconds)
                exposure += 3
        finally:
            ours.close()
            direct.close()
    median = {name: 1e3 * statistics.median(values[1:]) for name, values in times.items()}
    return {
        "baseline_ms": median["baseline"],
        "ours_ms": median["ours"],
        "ratio": median["baseline"] / median["ours"],
        "ours_direct_ms": median["ours_direct"],
        "ratio_direct": median["baseline"] / median["ours_direct"],
    }


def _require_success(outcome: object) -> None:
    if getattr(outcome, "result", None) is not Result.PROCESSED:
        raise RuntimeError(f"a visit of the benchmark was not processed: {outcome}")


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.visit_overhead")
    parser.add_argument("--visits", type=int, default=8, help="visits a side (default 8)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    figures = measure(options.visits)
    text = json.dumps({name: round(value, 2) for name, value in figures.items()})
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
