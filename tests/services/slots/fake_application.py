"""A slot application whose visits do what their ``survey`` says.

``survey`` is a space-separated list of steps, each a word with an optional
argument after a colon, for instance ``stage:executing sleep:5``.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from models.errors import InterruptSignal, NotInitialised
from models.outcomes import Result, Timings, VisitOutcome
from services.slots.protocol import Finished, ProcessVisit, SlotBlueprint, SlotChannel, Stage

DEPLOYMENT_ID = "fake-1"
#: Exposure ids of this group are in the fake APDB.
STORED_GROUP = "stored"


class FakeApplication:
    """Obeys the steps of a visit."""

    deployment_id = DEPLOYMENT_ID

    def __init__(self) -> None:
        self.visits = 0
        self.idle_calls = 0

    def warm_up(self) -> None:
        pass

    def idle(self) -> None:
        self.idle_calls += 1

    def close(self) -> None:
        pass

    def apdb_contains(self, visit_ids: Sequence[int], detector: int) -> bool | None:
        return {1: False, 2: True}.get(visit_ids[0])

    def process(self, request: ProcessVisit, channel: SlotChannel) -> Finished:
        self.visits += 1
        try:
            notes = [self._step(step, request, channel) for step in request.visit.survey.split()]
        except InterruptSignal as error:
            outcome = VisitOutcome(result=Result.INTERRUPTED, title="Interrupted", detail=str(error))
        except NotInitialised as error:
            outcome = VisitOutcome(result=Result.INTERRUPTED, title="NotInitialised", detail=str(error))
        except (MemoryError, ValueError) as error:
            outcome = VisitOutcome(result=Result.FAILED, title="TaskFailed", detail=repr(error), outputs=1)
        else:
            outcome = VisitOutcome(
                result=Result.PROCESSED,
                                detail=" ".join([str(os.getpid()), *(n for n in notes if n)]),
                pipeline="Fake",
                exposures=(1,),
                outputs=3,
                alerts=2,
                timings=Timings(total=0.1),
            )
        return Finished(outcome=outcome)

    def _step(self, step: str, request: ProcessVisit, channel: SlotChannel) -> str:
        name, _, argument = step.partition(":")
        match name:
            case "stage":
                stage, _, exposure = argument.partition("=")
                channel.report(Stage(stage), (int(exposure),) if exposure else ())
            case "sleep":
                time.sleep(float(argument))
            case "burn":
                end = time.monotonic() + float(argument)
                while time.monotonic() < end:
                    pass
            case "ignore-sigterm":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            case "shielded-sleep":
                with channel.shielded():
                    time.sleep(float(argument))
            case "swallow":
                try:
                    time.sleep(float(argument))
                except InterruptSignal:
                    return f"swallowed interrupted={channel.interrupted}"
            case "abort":
                os.abort()
            case "segfault":
                ctypes.string_at(0)
            case "exit":
                os._exit(int(argument))
            case "kill-self":
                os.kill(os.getpid(), signal.SIGKILL)
            case "child":
                child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
                return f"child={child.pid}"
            case "eat":
                held = bytearray()
                while True:
                    held += b"x" * (16 << 20)
            case "raise":
                raise ValueError("a task raised")
            case "surprise":
                raise RuntimeError("not expected")
            case "not-initialised":
                raise NotInitialised("run: prompt-processing init")
            case "not-retriable":
                return ""
            case "images":
                found = []
                deadline = time.monotonic() + 20
                while len(found) < int(argument) and time.monotonic() < deadline:
                    found += channel.images(timeout=0.5)
                return "images=" + ",".join(image.location for image in found)
            case "idle-calls":
                return f"idle={self.idle_calls}"
            case "visits":
                return f"visits={self.visits}"
            case "nice":
                return f"nice={os.nice(0)}"
            case "fds":
                return f"fds={len(os.listdir('/proc/self/fd'))}"
            case _:
                pass  # a survey's name
        return ""


def blueprint() -> SlotBlueprint:
    """Return what the template process asks for."""
    return SlotBlueprint(deployment_id=DEPLOYMENT_ID, create=FakeApplication)


def broken_blueprint() -> SlotBlueprint:
    """Return a blueprint whose slots cannot be set up."""

    def create() -> FakeApplication:
        raise OSError("the disk is full")

    return SlotBlueprint(deployment_id=DEPLOYMENT_ID, create=create)
