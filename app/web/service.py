"""The service as the web sees it: what routes call and pages show."""

from __future__ import annotations

__all__ = ["PromptService", "VisitHistory"]

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from app.web.metrics import ServiceMetrics
from models.ledger import VisitRecord
from models.visits import VisitKey
from services.admission import VisitAdmission
from services.slots.pool import SlotPool
from services.slots.process import TemplateProcess
from services.slots.state import PoolSnapshot

_log = logging.getLogger(__name__)

#: Seconds for which measured memory is shown again: a page that many people
#: keep open must not cost anything.
_MEASURE_INTERVAL = 5.0


class VisitHistory(Protocol):
    """Reads the ledger."""

    def visits(self, day_obs: int | None, limit: int) -> Sequence[VisitRecord]:
        """Return visits of a night or of all, the last begun first."""

    def visit(self, key: VisitKey) -> VisitRecord | None:
        """Return the last record of a visit, of whatever deployment."""

    def counts(self, day_obs: int) -> Mapping[str, int]:
        """Return how many visits of a night are in each state."""


@dataclass
class PromptService:
    """Everything that answers requests, wired by the factory.

    Attributes
    ----------
    token : `str` or `None`
        What senders of visits must present, if anything.
    dependencies : mapping
        By name, what says how a dependency is: `None` if well, or its trouble
        in words. They must answer at once.
    on_start, on_close : sequence of callables
        Called in order when the worker process starts and when it ends.
    """

    instrument: str
    admission: VisitAdmission
    slots: SlotPool
    history: VisitHistory
    metrics: ServiceMetrics
    day_obs: Callable[[], int]
    version: str = ""
    token: str | None = None
    dependencies: Mapping[str, Callable[[], str | None]] = field(default_factory=dict)
    on_start: Sequence[Callable[[], object]] = ()
    on_close: Sequence[Callable[[], object]] = ()
    _measured: tuple[float, PoolSnapshot] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, template: TemplateProcess | None = None) -> None:
        """Start what runs in the background; only after the last fork.

        Parameters
        ----------
        template : `services.slots.process.TemplateProcess`, optional
            Runs already.
        """
        if template is not None:
            self.slots.adopt(template)
        for start in self.on_start:
            start()
        self.slots.start()

    def begin_shutdown(self) -> None:
        """Tell visits to stop; their answers still go out."""
        self.admission.stop_waiting()
        self.slots.begin_shutdown()

    def close(self) -> None:
        """End everything."""
        self.begin_shutdown()
        self.slots.close()
        for close in self.on_close:
            try:
                close()
            except Exception:
                _log.exception("The service could not be closed in full.")

    def measured_snapshot(self) -> PoolSnapshot:
        """Return the state of the slots with their memory, some seconds old at
        most.
        """
        with self._lock:
            now = time.monotonic()
            if self._measured is None or now - self._measured[0] > _MEASURE_INTERVAL:
                self._measured = (now, self.slots.snapshot(with_memory=True))
            memory = {s.pid: s.memory for s in self._measured[1].slots}
            template = self._measured[1].template
        return self.slots.snapshot().with_memory(memory, template)

    def degraded(self) -> list[str]:
        """Return what is not well, though visits can be accepted."""
        troubles = [(name, check()) for name, check in self.dependencies.items()]
        found = [f"{name}: {trouble}" for name, trouble in troubles if trouble]
        found.extend(f"slot {s.number}: {s.detail}" for s in self.slots.snapshot().slots if s.detail)
        return found
