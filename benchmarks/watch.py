"""A running service seen from outside: its processes, and what it leaves."""

from __future__ import annotations

__all__ = ["Traces", "Watch"]

import os
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import psutil

from app.demo.service_process import ServiceProcess
from benchmarks.scene import Scene


@dataclass(frozen=True)
class Traces:
    """What a service has on the machine at one moment.

    Attributes
    ----------
    processes : `int`
        Its processes, the children of tasks included.
    sockets : `int`
        Sockets that the processes which outlive a visit hold.
    local_repos : `int`
        Directories among the local repos.
    temporary : `int`
        Entries of the temporary directory, at any depth.
    half_written : `int`
        Files with a temporary name, in central repo, alerts and images.
    """

    processes: int
    sockets: int
    local_repos: int
    temporary: int
    half_written: int

    def beyond(self, before: Traces) -> dict[str, int]:
        """Return what has become more."""
        more = {f.name: getattr(self, f.name) - getattr(before, f.name) for f in fields(self)}
        return {name: count for name, count in more.items() if count > 0}


class Watch:
    """Looks at the processes and files of a service.

    Parameters
    ----------
    scene : `benchmarks.scene.Scene`
    service : `app.demo.service_process.ServiceProcess`
        Must be running.
    """

    def __init__(self, scene: Scene, service: ServiceProcess) -> None:
        self._scene = scene
        self._master = psutil.Process(service.pid)
        children = self._master.children()
        (self._template,) = (p for p in children if "services.slots.template" in p.cmdline())
        (self._worker,) = (p for p in children if p != self._template)

    @property
    def template(self) -> int:
        """Process id of the template process."""
        return int(self._template.pid)

    def slots(self) -> list[int]:
        """Return the process ids of the slots.

        A child of a task that outlived its slot would be among them.
        """
        return [int(p.pid) for p in self._template.children()]

    def traces(self) -> Traces:
        """Return what there is now."""
        place = self._scene.place
        roots = (place.central, place.alerts, place.images)
        return Traces(
            processes=len(self._master.children(recursive=True)),
            sockets=_sockets(self._master.pid) + _sockets(self._worker.pid) + _sockets(self._template.pid),
            local_repos=len(list(place.local.iterdir())),
            temporary=sum(1 for _ in self._scene.temporary.rglob("*")),
            half_written=sum(1 for root in roots for path in root.rglob(".*") if path.name.endswith(".tmp")),
        )

    def settle(self, before: Traces, timeout: float = 10.0) -> dict[str, int]:
        """Wait until there is no more than before; return what remains."""
        deadline = time.monotonic() + timeout
        while True:
            more = self.traces().beyond(before)
            if not more or time.monotonic() > deadline:
                return more
            time.sleep(0.1)

    def on_death(self, pid: int, note: Callable[[float], None]) -> threading.Thread:
        """Call back with `time.monotonic` when a process has ended."""
        descriptor = os.pidfd_open(pid)

        def wait() -> None:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            poll.poll()
            note(time.monotonic())
            os.close(descriptor)

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        return thread


def _sockets(pid: int) -> int:
    count = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            count += os.readlink(descriptor).startswith("socket:")
        except FileNotFoundError:
            continue
    return count
