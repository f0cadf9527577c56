"""Memory of slots: a limit on its growth, giving it back, and measuring it."""

from __future__ import annotations

__all__ = ["MemoryUse", "give_back_memory", "limit_growth", "measure"]

import ctypes
import gc
import resource
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class MemoryUse:
    """Memory of one process, in bytes.

    Attributes
    ----------
    rss : `int`
        Resident, shared pages included.
    uss : `int`
        Private pages: what would be freed if the process ended.
    """

    rss: int
    uss: int


def limit_growth(extra: int) -> None:
    """Limit how much more this process may allocate.

    ``RLIMIT_DATA`` counts private writable memory, mapped or on the heap
    (Linux 4.7 and later; see getrlimit(2)), and a forked process begins with
    all that its template has allocated, though it shares the pages. Hence the
    limit is put that much higher. An allocation beyond it fails, which Python
    raises as `MemoryError`.

    Parameters
    ----------
    extra : `int`
        Bytes.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = _data_size() + extra
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))


def _data_size() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status does not say VmData")


def give_back_memory() -> None:
    """Return memory that a visit no longer needs to the system.

    glibc keeps freed blocks for reuse; over hours that adds up to gigabytes
    in a process that handles images. Without glibc nothing more than a
    garbage collection happens.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def measure(pid: int) -> MemoryUse | None:
    """Measure a process; `None` if it is gone or cannot be looked at."""
    fields: dict[str, int] = {}
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, value, *_ = line.split()
            fields[name.rstrip(":")] = int(value) * 1024
    except (OSError, ValueError):
        return None
    return MemoryUse(
        rss=fields.get("Rss", 0),
        uss=fields.get("Private_Clean", 0) + fields.get("Private_Dirty", 0),
    )
