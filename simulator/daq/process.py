"""A run in simulated time: what happens when, and what is said of it.

The delays follow each other as in the field, each an event of its own, so
that ticks carry the same rounding. It depends on nothing but parameters and
the pauses of operators, so a run that was interrupted is gone on with by
letting it happen again, in silence, as far as it had come.
"""

from __future__ import annotations

__all__ = ["STANDBY_REASON", "RunProcess"]

import math
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import simpy

from models.streaming.daq import DaqParameters
from models.streaming.messages import (
    EndRun,
    PauseRun,
    ResumeRun,
    RunImminent,
    RunMessage,
    StartRun,
    StfGen,
    naive_timestamp,
)
from models.streaming.names import stf_filename
from simulator.daq.control import Control
from simulator.daq.identity import RunIdentity
from simulator.daq.progress import BEGINNING, CannotGoOn, Ending, Pause, Progress
from simulator.daq.states import Readiness, State, StateMachine
from simulator.daq.stf_files import StfFolder, as_announced_by, stf_content

#: Seconds that every message costs.
_BROADCAST_TIME = 0.1
#: Why data taking stands still between periods.
STANDBY_REASON = "Brief standby period"

_Events = Generator[simpy.Event, Any, None]


class RunProcess:
    """A run as a process of SimPy.

    Parameters
    ----------
    environment : `simpy.Environment`
        At time 0.
    identity : `simulator.daq.identity.RunIdentity`
    parameters : `models.streaming.daq.DaqParameters`
    send : callable
        Takes each message, in order, and how far the run is with it.
    control : `simulator.daq.control.Control`
        A pause that was asked for begins before the next file.
    past : `simulator.daq.progress.Progress`, optional
        How far it had come when it was interrupted.

    Raises
    ------
    simulator.daq.stf_files.FolderUnusable
        Raised if the run's folder cannot be made.
    simulator.daq.progress.CannotGoOn
        Raised if the folder of a run that was interrupted is not there.
    """

    def __init__(
        self,
        *,
        environment: simpy.Environment,
        identity: RunIdentity,
        parameters: DaqParameters,
        send: Callable[[RunMessage, Progress], None],
        control: Control,
        past: Progress = BEGINNING,
    ) -> None:
        self._env = environment
        self._identity = identity
        self._parameters = parameters
        self._send = send
        self._control = control
        self._past = past
        self._progress = BEGINNING
        self._machine = StateMachine()
        self._folder = StfFolder(self.folder, there=past.told > 0)
        #: A file that was written, but not announced any more.
        self._found = self._folder.read(self._next_name(past)) if past.told else None
        self._going_on: simpy.Event | None = None

    @property
    def folder(self) -> Path:
        """Where the run's files are."""
        return self._parameters.container / self._identity.dataset

    @property
    def progress(self) -> Progress:
        """How far the run is."""
        return self._progress

    @property
    def ended(self) -> bool:
        """Whether ``end_run`` was sent."""
        return self._progress.ended is not None

    @property
    def standing_still(self) -> bool:
        """Whether nothing happens until `go_on`."""
        return self._going_on is not None

    @property
    def catching_up(self) -> bool:
        """Whether what happens has happened before."""
        if self.standing_still and self.went_on is None:
            return False
        told = self._progress.told
        return told < self._past.told or (told == self._past.told and self._found is not None)

    @property
    def went_on(self) -> float | None:
        """Tick at which the latest pause had ended; None if that is not past."""
        number = len(self._progress.pauses)
        return self._past.pauses[number - 1].until if 0 < number <= len(self._past.pauses) else None

    def run(self) -> _Events:
        """Run through; what SimPy calls.

        Raises
        ------
        simulator.daq.stf_files.FolderUnusable
            Raised if a file cannot be written.
        simulator.daq.progress.CannotGoOn
            Raised if it does not happen again as it did.
        """
        p, wait = self._parameters, self._env.timeout
        self._machine.move(State.NO_BEAM, Readiness.NOT_READY)
        yield wait(p.no_beam_not_ready_delay)
        self._machine.move(State.BEAM, Readiness.NOT_READY)
        yield from self._broadcast(
            RunImminent, **self._state(), dataset=self._identity.dataset, container=str(p.container)
        )
        yield wait(p.broadcast_delay)
        yield wait(p.beam_not_ready_delay)
        self._machine.move(State.BEAM, Readiness.READY)
        yield wait(p.beam_ready_delay)
        period = 0
        while True:
            period += 1
            yield from self._take_data(StartRun if period == 1 else ResumeRun)
            yield from self._physics()
            if period == p.physics_period_count:
                break
            yield from self._stand_by(STANDBY_REASON)
            yield wait(p.standby_duration)
        yield from self._end(Ending.COMPLETE)
        yield wait(p.broadcast_delay)
        yield wait(p.beam_not_ready_end_delay)

    def end_early(self, ending: Ending) -> None:
        """Say that the run is over, if anybody was told of it."""
        if self._progress.told and not self.ended:
            for _ in self._end(ending):
                return

    def go_on(self) -> None:
        """Have data taking, which stands still, go on now."""
        if self._going_on is not None:
            event, self._going_on = self._going_on, None
            event.succeed()

    def _physics(self) -> _Events:
        """Make the files of a period."""
        p = self._parameters
        if p.stf_count:
            for number in range(p.stf_count):
                if number:
                    yield self._env.timeout(p.stf_interval)
                yield from self._hold()
                yield from self._make_file()
            return
        # What an operator's pause took is added to the period.
        end = self._env.now + p.physics_period_duration
        while self._env.now < end:
            before = self._env.now
            yield from self._hold()
            end += self._env.now - before
            yield from self._make_file()
            rest = end - self._env.now
            if rest <= p.stf_interval:
                yield self._env.timeout(max(rest, 0))
                return
            yield self._env.timeout(p.stf_interval)

    def _make_file(self) -> _Events:
        sequence = self._progress.files + 1
        if self._progress.told < self._past.told:
            self._repeat(files=sequence)
        else:
            name = self._next_name(self._progress)
            message = self._message(StfGen, filename=name, sequence=sequence, **self._state())
            found, self._found = self._found, None
            if found is not None:
                message = as_announced_by(message, found)
            written = self._folder.write(name, stf_content(message))
            self._tell(message.model_copy(update=written._asdict()), files=sequence)
        yield self._env.timeout(_BROADCAST_TIME)
        yield self._env.timeout(self._parameters.stf_generation_time)

    def _next_name(self, progress: Progress) -> str:
        return stf_filename(self._identity.run_id, progress.files + 1)

    def _hold(self) -> _Events:
        """Stand still if an operator wants it."""
        pauses = self._progress.pauses
        if not self.catching_up:
            reason = self._control.pause_reason
        else:
            # As it was then, whatever is wanted now.
            again = self._past.pauses[len(pauses) : len(pauses) + 1]
            reason = "" if again and again[0].after == self._progress.told else None
        if reason is None:
            return
        pause = Pause(after=self._progress.told)
        self._progress = self._progress.model_copy(update={"pauses": (*pauses, pause)})
        yield from self._stand_by(reason)
        self._going_on = self._env.event()
        yield self._going_on
        over = pause.model_copy(update={"until": self._env.now})
        self._progress = self._progress.model_copy(update={"pauses": (*pauses, over)})
        yield from self._take_data(ResumeRun)

    def _take_data(self, kind: type[RunMessage]) -> _Events:
        self._machine.move(State.RUN, Readiness.PHYSICS)
        yield from self._broadcast(kind, **self._state())
        yield self._env.timeout(self._parameters.broadcast_delay)

    def _stand_by(self, reason: str) -> _Events:
        self._machine.move(State.RUN, Readiness.STANDBY)
        yield from self._broadcast(PauseRun, **self._state(), reason=reason)
        yield self._env.timeout(self._parameters.broadcast_delay)

    def _end(self, ending: Ending) -> _Events:
        state = self._machine.state
        if state.state is State.RUN or state.readiness is Readiness.READY:
            self._machine.move(State.BEAM, Readiness.NOT_READY)
        self._tell(self._message(EndRun, total_stf_files=self._progress.files), ended=ending)
        yield self._env.timeout(_BROADCAST_TIME)

    def _state(self) -> dict[str, str | None]:
        state, readiness = self._machine.state
        return {"state": state.value, "substate": readiness.value if readiness else None}

    def _message(self, kind: type[RunMessage], **fields: Any) -> RunMessage:
        return kind.model_validate(
            {
                "namespace": self._identity.namespace,
                "execution_id": self._identity.execution_id,
                "run_id": self._identity.run_id,
                "timestamp": naive_timestamp(),
                "simulation_tick": self._env.now,
                "sender": self._identity.sender,
                **fields,
            }
        )

    def _broadcast(self, kind: type[RunMessage], **fields: Any) -> _Events:
        if self._progress.told < self._past.told:
            self._repeat()
        else:
            self._tell(self._message(kind, **fields))
        yield self._env.timeout(_BROADCAST_TIME)

    def _tell(self, message: RunMessage, **changes: Any) -> None:
        """Send a message; `changes` are those of the progress."""
        now = self._env.now
        progress = self._progress.model_copy(
            update={"told": self._progress.told + 1, "tick": now, "clock": now, **changes}
        )
        self._send(message, progress)
        # Not before: what cannot be said has not happened, and is not counted.
        self._progress = progress

    def _repeat(self, **changes: Any) -> None:
        """Take note of a message that was sent before the interruption."""
        now, past = self._env.now, self._past
        told = self._progress.told + 1
        self._progress = self._progress.model_copy(
            update={"told": told, "tick": now, "clock": now, **changes}
        )
        if told < past.told:
            return
        if self._progress.files != past.files or not math.isclose(now, past.tick, abs_tol=1e-6):
            raise CannotGoOn(
                f"message {told} was sent at {past.tick} s with {past.files} files, "
                f"and is now due at {now} s with {self._progress.files}"
            )
        self._progress = past
