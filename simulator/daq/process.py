"""A run in simulated time: what happens when, and what is said of it.

The delays follow each other as in the field, each an event of its own, so
that ticks carry the same rounding.
"""

from __future__ import annotations

__all__ = ["STANDBY_REASON", "RunIdentity", "RunProcess"]

import json
from collections.abc import Callable, Generator
from dataclasses import dataclass
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
from models.streaming.names import dataset_name, stf_filename
from simulator.daq.control import Control
from simulator.daq.states import Readiness, State, StateMachine
from simulator.daq.stf_files import StfFolder

#: Seconds that every message costs.
_BROADCAST_TIME = 0.1
#: Why data taking stands still between periods.
STANDBY_REASON = "Brief standby period"

_Events = Generator[simpy.Event, Any, None]


@dataclass(frozen=True)
class RunIdentity:
    """Whose run it is, and which.

    Attributes
    ----------
    run_id : `str`
        Digits.
    sender : `str`
        The agent that signs the run's messages.
    """

    namespace: str
    execution_id: str
    run_id: str
    sender: str

    @property
    def dataset(self) -> str:
        """Name of the run's dataset, and of its folder."""
        return dataset_name(self.run_id)

    @property
    def labels(self) -> dict[str, str]:
        """What lines of the log about the run are labelled with."""
        return {"execution_id": self.execution_id, "run_id": self.run_id}


class RunProcess:
    """A run as a process of SimPy.

    Parameters
    ----------
    environment : `simpy.Environment`
        At time 0.
    identity : `RunIdentity`
    parameters : `models.streaming.daq.DaqParameters`
    send : callable
        Takes each message, in order.
    control : `simulator.daq.control.Control`
        A pause that was asked for begins before the next file.

    Raises
    ------
    simulator.daq.stf_files.FolderUnusable
        Raised if the run's folder cannot be made.
    """

    def __init__(
        self,
        *,
        environment: simpy.Environment,
        identity: RunIdentity,
        parameters: DaqParameters,
        send: Callable[[RunMessage], None],
        control: Control,
    ) -> None:
        self._env = environment
        self._identity = identity
        self._parameters = parameters
        self._send = send
        self._control = control
        self._machine = StateMachine()
        self._folder = StfFolder(self.folder)
        self._announced = False
        self._ended = False
        self._files = 0
        self._going_on: simpy.Event | None = None

    @property
    def folder(self) -> Path:
        """Where the run's files are."""
        return self._parameters.container / self._identity.dataset

    @property
    def files(self) -> int:
        """How many files the run has so far."""
        return self._files

    @property
    def ended(self) -> bool:
        """Whether ``end_run`` was sent."""
        return self._ended

    @property
    def standing_still(self) -> bool:
        """Whether nothing happens until `go_on`."""
        return self._going_on is not None

    def run(self) -> _Events:
        """Run through; what SimPy calls.

        Raises
        ------
        simulator.daq.stf_files.FolderUnusable
            Raised if a file cannot be written.
        """
        p, wait = self._parameters, self._env.timeout
        self._machine.move(State.NO_BEAM, Readiness.NOT_READY)
        yield wait(p.no_beam_not_ready_delay)
        self._machine.move(State.BEAM, Readiness.NOT_READY)
        self._announced = True
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
        yield from self._end()
        yield wait(p.broadcast_delay)
        yield wait(p.beam_not_ready_end_delay)

    def end_early(self) -> None:
        """Say that the run is over, if anybody was told of it."""
        if self._announced and not self._ended:
            for _ in self._end():
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
        self._files += 1
        name = stf_filename(self._identity.run_id, self._files)
        message = self._message(StfGen, filename=name, sequence=self._files, **self._state())
        content = json.dumps({k: v for k, v in message.to_body().items() if k != "sender"}).encode()
        try:
            written = self._folder.write(name, content)
        except Exception:
            self._files -= 1
            raise
        self._send(message.model_copy(update=written._asdict()))
        yield self._env.timeout(_BROADCAST_TIME)
        yield self._env.timeout(self._parameters.stf_generation_time)

    def _hold(self) -> _Events:
        """Stand still if an operator wants it."""
        reason = self._control.pause_reason
        if reason is None:
            return
        yield from self._stand_by(reason)
        self._going_on = self._env.event()
        yield self._going_on
        yield from self._take_data(ResumeRun)

    def _take_data(self, kind: type[RunMessage]) -> _Events:
        self._machine.move(State.RUN, Readiness.PHYSICS)
        yield from self._broadcast(kind, **self._state())
        yield self._env.timeout(self._parameters.broadcast_delay)

    def _stand_by(self, reason: str) -> _Events:
        self._machine.move(State.RUN, Readiness.STANDBY)
        yield from self._broadcast(PauseRun, **self._state(), reason=reason)
        yield self._env.timeout(self._parameters.broadcast_delay)

    def _end(self) -> _Events:
        state = self._machine.state
        if state.state is State.RUN or state.readiness is Readiness.READY:
            self._machine.move(State.BEAM, Readiness.NOT_READY)
        self._ended = True
        return self._broadcast(EndRun, total_stf_files=self._files)

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
        self._send(self._message(kind, **fields))
        yield self._env.timeout(_BROADCAST_TIME)
