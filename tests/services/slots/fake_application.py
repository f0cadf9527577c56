"""A slot application whose visits do what their ``survey`` says.

``survey`` is a space-separated list of steps, each a word with an optional
argument after a colon, for instance ``stage:executing sleep:5``. A test that
looks at a visit has it wait at a gate (`tests.gates`).
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from models.errors import InterruptSignal, NotInitialised
from models.events import ALERT, OutboxMessage
from models.outcomes import Result, Timings, VisitOutcome
from services.slots.protocol import Finished, ProcessVisit, SlotBlueprint, SlotChannel, Stage

DEPLOYMENT_ID = "fake-1"


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
        if request.visit.survey != "silent kill-self":
            channel.report(Stage.PREPARING)
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
        method = getattr(self, "do_" + name.replace("-", "_"), None)  # else it is a survey's name
        return (method(argument, channel) or "") if method is not None else ""

    def do_stage(self, argument: str, channel: SlotChannel) -> None:
        stage, _, exposure = argument.partition("=")
        channel.report(Stage(stage), (int(exposure),) if exposure else ())

    def do_send(self, argument: str, channel: SlotChannel) -> None:
        size = int(argument)
        channel.send([OutboxMessage(kind=ALERT, topic="alerts", key=None, payload=bytes(size))])

    def do_sleep(self, argument: str, channel: SlotChannel) -> None:
        time.sleep(float(argument))

    def do_gate(self, argument: str, channel: SlotChannel) -> None:
        gate = Path(argument)
        while not gate.exists():
            time.sleep(0.01)

    def do_burn(self, argument: str, channel: SlotChannel) -> None:
        gate = Path(argument)
        while not gate.exists():
            sum(range(100_000))

    def do_ignore_sigterm(self, argument: str, channel: SlotChannel) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def do_shielded_gate(self, argument: str, channel: SlotChannel) -> None:
        with channel.shielded():
            channel.report(Stage.WAITING)
            self.do_gate(argument, channel)

    def do_swallow(self, argument: str, channel: SlotChannel) -> str | None:
        try:
            self.do_gate(argument, channel)
        except InterruptSignal:
            return f"swallowed interrupted={channel.interrupted}"
        return None

    def do_abort(self, argument: str, channel: SlotChannel) -> None:
        os.abort()

    def do_segfault(self, argument: str, channel: SlotChannel) -> None:
        ctypes.string_at(0)

    def do_exit(self, argument: str, channel: SlotChannel) -> None:
        os._exit(int(argument))

    def do_kill_self(self, argument: str, channel: SlotChannel) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def do_child(self, argument: str, channel: SlotChannel) -> str:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        return f"child={child.pid}"

    def do_write_pid(self, argument: str, channel: SlotChannel) -> None:
        Path(argument).write_text(str(os.getpid()))

    def do_eat(self, argument: str, channel: SlotChannel) -> None:
        held = bytearray()
        while True:
            held += b"x" * (16 << 20)

    def do_raise(self, argument: str, channel: SlotChannel) -> None:
        raise ValueError("a task raised")

    def do_surprise(self, argument: str, channel: SlotChannel) -> None:
        raise RuntimeError("not expected")

    def do_not_initialised(self, argument: str, channel: SlotChannel) -> None:
        raise NotInitialised("run: prompt-processing init")

    def do_images(self, argument: str, channel: SlotChannel) -> str:
        found = channel.images(timeout=0.0)
        deadline = time.monotonic() + 200
        while len(found) < int(argument) and time.monotonic() < deadline:
            found += channel.images(timeout=0.5)
        return "images=" + ",".join(image.location for image in found)

    def do_visits(self, argument: str, channel: SlotChannel) -> str:
        return f"visits={self.visits}"

    def do_nice(self, argument: str, channel: SlotChannel) -> str:
        return f"nice={os.nice(0)}"

    def do_fds(self, argument: str, channel: SlotChannel) -> str:
        return f"fds={len(os.listdir('/proc/self/fd'))}"


def blueprint() -> SlotBlueprint:
    """Return what the template process asks for."""
    return SlotBlueprint(deployment_id=DEPLOYMENT_ID, create=FakeApplication)


def broken_blueprint() -> SlotBlueprint:
    """Return a blueprint whose slots cannot be set up."""

    def create() -> FakeApplication:
        raise OSError("the disk is full")

    return SlotBlueprint(deployment_id=DEPLOYMENT_ID, create=create)
