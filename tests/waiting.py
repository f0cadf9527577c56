"""Waiting for what other processes do."""

from __future__ import annotations

import time
from collections.abc import Iterable

import psutil

#: Seconds that anything may take, however busy the machine is.
PATIENCE = 120.0


def still_there(processes: Iterable[int | psutil.Process]) -> list[psutil.Process]:
    """Wait until processes have ended; return those that have not.

    What has ended counts as gone before its parent has taken notice.
    """
    left: list[psutil.Process] = []
    for process in processes:
        try:
            left.append(psutil.Process(process) if isinstance(process, int) else process)
        except psutil.NoSuchProcess:
            continue
    deadline = time.monotonic() + PATIENCE
    while left := [process for process in left if _is_there(process)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return left


def _is_there(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
