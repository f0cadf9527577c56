"""Bars of images that arrive in a bucket, over real servers."""

from __future__ import annotations

__all__ = ["arrivals", "notifications"]

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.bar import Bar, at_least, at_most, none_of, say
from config.server_settings import server_environment
from simulator.servers.everything import ServerSet

_ROOT = Path(__file__).resolve().parents[1]
_SLOTS = 4
_SAMPLES = 500
#: Seconds for which arrivals are remembered where visits follow each other some
#: twenty times as fast as in a night.
_MEMORY = "30"


def notifications(scratch: Path) -> Iterator[Bar]:
    """From notification to start of ingest, at waiting slots."""
    answer = _run(scratch, "notified", PP_IMAGE_MEMORY=_MEMORY)
    delays = [1e3 * delay for delay in answer["delays"]]
    yield none_of("notification: visits without their image", answer["failures"])
    yield at_least("notification: samples", len(delays), _SAMPLES)
    percentiles = statistics.quantiles(delays, n=100, method="inclusive")
    note = (
        f"{_SLOTS} waiting slots, LSST keys with sidecars, images of 2 MiB in S3 (moto), 189 notifications a "
        f"second of other detectors; longest {max(delays):.0f}"
    )
    yield at_most("notification to start of ingest: p50, ms", percentiles[49], 50, note)
    yield at_most("notification to start of ingest: p99, ms", percentiles[98], 250, note)


def arrivals(scratch: Path) -> Iterator[Bar]:
    """Images that arrive before, during and after their announcement."""
    for case, outcomes in sorted(_run(scratch, "whenever").items()):
        lost = [text for text in outcomes if text]
        processed = len(outcomes) - len(lost)
        bar = at_least(f"image arrives {case} nextVisit: processed", processed, 100)
        yield Bar(bar.bar, bar.value, bar.limit, bar.passed, note="; ".join(lost)[:500])


def _run(scratch: Path, what: str, **more: str) -> Any:
    with ServerSet() as servers:
        servers.s3.create_bucket("images")
        servers.kafka.create_topic("arrivals", partitions=2)
        variables = {
            **servers.s3.environment,
            "KAFKA_CLUSTER": servers.kafka.bootstrap,
            "BUCKET_TOPIC": "arrivals",
            "IMAGE_BUCKET": "images",
            "IMAGE_TIMEOUT": "5",
            "WORKER_COUNT": str(_SLOTS),
            "LOCAL_REPOS": str(scratch),
            "PP_STATE_DIR": str(scratch),
            "RUBIN_INSTRUMENT": "DemoCam",
            "SKYMAP": "none",
            "CENTRAL_REPO": str(scratch / "none"),
            "CONFIG_APDB": str(scratch / "none"),
            "MAIN_PIPELINES_CONFIG": "- pipelines: [/none/Nothing.yaml]",
            "PREPROCESSING_PIPELINES_CONFIG": "- pipelines: null",
            "SERVICE_LOG_LEVELS": ".=ERROR services=ERROR repos=ERROR app=ERROR",
            "OMP_NUM_THREADS": "1",
            **more,
        }
        say(f"images that arrive: {what}")
        return json.loads(
            subprocess.run(
                [sys.executable, "-m", "benchmarks.arrivals", what],
                env=server_environment(variables),
                cwd=_ROOT,
                stdout=subprocess.PIPE,
                check=True,
            ).stdout
        )
