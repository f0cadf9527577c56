"""All checks at once, so that whatever is away costs its time limit once."""

from __future__ import annotations

__all__ = ["run_checks"]

import importlib
import math
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from app.checks import Check
from models.errors import PromptProcessingError

#: Seconds between two looks at checks that take too long.
_LOOK = 0.2
#: What checks with the middleware import, and what the middleware imports by
#: itself later. Modules that import one another must not be imported by
#: several threads at once: one of them may see half of a module.
_MIDDLEWARE = (
    "lsst.daf.butler.datastores.fileDatastore",
    "lsst.daf.butler.direct_butler",
    "lsst.daf.butler.registry.databases.postgresql",
    "lsst.daf.butler.registry.databases.sqlite",
    "lsst.daf.butler.registry.sql_registry",
    "lsst.dax.apdb.sql",
    "lsst.resources.s3",
    "repos.apdb",
    "repos.central",
    "repos.pipeline_library",
)


def run_checks(
    checks: Iterable[Check],
    *,
    report: Callable[[Check, list[str]], None] = lambda *_: None,
    waiting: Callable[[Sequence[Check]], None] = lambda _: None,
    patience: float = math.inf,
) -> list[str]:
    """Run all checks at once, whatever some of them find.

    Parameters
    ----------
    checks : iterable of `Check`
    report : callable, optional
        Told what each check has found, as soon as it has.
    waiting : callable, optional
        Told now and then which checks have not ended.
    patience : `float`, optional
        Seconds that a check may take; one that takes longer is left alone. Not
        every client has a time limit of its own.

    Returns
    -------
    faults : `list` [`str`]
        Everything that is wrong, in the order of the checks.
    """
    run = _Run(list(checks))
    run.start()
    while run.open:
        waiting([run.checks[i] for i in sorted(run.open)])
        for i in run.ended(patience):
            report(run.checks[i], run.found[i])
    return [fault for i in range(len(run.checks)) for fault in run.found[i]]


class _Run:
    """The threads of some checks, and what they have found."""

    def __init__(self, checks: list[Check]) -> None:
        self.checks = checks
        self.open = set(range(len(checks)))
        self.found: dict[int, list[str]] = {}
        self._began: dict[int, float] = {}
        self._answers: queue.SimpleQueue[tuple[int, list[str]]] = queue.SimpleQueue()

    def start(self) -> None:
        """Begin all checks; those with the middleware as soon as it is there."""
        heavy = [i for i, check in enumerate(self.checks) if check.middleware]
        for i in sorted(self.open.difference(heavy)):
            self._begin(i)
        if heavy:
            threading.Thread(target=self._begin_heavy, args=(heavy,), daemon=True).start()

    def ended(self, patience: float) -> list[int]:
        """Wait a moment; return which checks have ended or take too long."""
        answers = dict(self._wait())
        now = time.monotonic()
        for i in self.open.difference(answers):
            if now - self._began.get(i, now) > patience:
                answers[i] = [f"{self.checks[i].name}: no answer within {patience:g} s"]
        # One that was given up may answer after all.
        new = {i: faults for i, faults in sorted(answers.items()) if i in self.open}
        self.found.update(new)
        self.open.difference_update(new)
        return list(new)

    def _wait(self) -> list[tuple[int, list[str]]]:
        try:
            return [self._answers.get(timeout=_LOOK)]
        except queue.Empty:
            return []

    def _begin_heavy(self, heavy: list[int]) -> None:
        try:
            for module in _MIDDLEWARE:
                importlib.import_module(module)
        except Exception as error:
            fault = f"the middleware cannot be imported: {type(error).__name__}: {error}"
            for i in heavy:
                self._answers.put((i, [fault]))
            return
        for i in heavy:
            self._begin(i)

    def _begin(self, i: int) -> None:
        self._began[i] = time.monotonic()
        # What does not come back must not keep the process.
        threading.Thread(target=self._run, args=(i,), daemon=True).start()

    def _run(self, i: int) -> None:
        check = self.checks[i]
        try:
            faults = check.run()
        except PromptProcessingError as error:
            faults = [str(error)]
        except Exception as error:
            # A check that breaks is a finding, and no reason to stop.
            faults = [f"{check.name}: {type(error).__name__}: {error}"]
        self._answers.put((i, faults))
