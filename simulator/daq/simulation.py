"""Lets a run's time pass: with the clock, or as fast as possible."""

from __future__ import annotations

__all__ = ["RunSimulation"]

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import simpy

from models.errors import PromptProcessingError
from models.streaming.daq import DaqParameters
from models.streaming.messages import RunMessage
from simulator.daq.control import Control
from simulator.daq.identity import RunIdentity
from simulator.daq.process import RunProcess
from simulator.daq.progress import BEGINNING, CannotGoOn, Ending, Progress

_log = logging.getLogger(__name__)


#: Seconds between notes of how much time has passed.
_NOTE = 1.0


class RunSimulation:
    """A run.

    With ``parameters.realtime`` a simulated second lasts a second, and what
    came late is caught up, as in `simpy.rt.RealtimeEnvironment` of factor 1
    that is not strict. That one cannot be woken from its sleep, so the time
    is kept here.

    Parameters
    ----------
    identity : `simulator.daq.identity.RunIdentity`
    parameters : `models.streaming.daq.DaqParameters`
    send : callable
        Takes each message, in order, and how far the run is with it.
    control : `simulator.daq.control.Control`
        Stops take effect at once, pauses before the next file.
    note : callable, optional
        Is told now and then how far a run is that follows the clock.
    past : `simulator.daq.progress.Progress`, optional
        How far it had come when it was interrupted. Its time goes on from
        there: that in which nothing ran is none of the run's.
    """

    def __init__(
        self,
        *,
        identity: RunIdentity,
        parameters: DaqParameters,
        send: Callable[[RunMessage, Progress], None],
        control: Control,
        note: Callable[[Progress], None] = lambda _: None,
        past: Progress = BEGINNING,
    ) -> None:
        self._identity = identity
        self._parameters = parameters
        self._send = send
        self._control = control
        self._note = note
        self._past = past
        self._env = simpy.Environment()
        self._process: RunProcess | None = None
        self._error: str | None = None
        #: When the run's time was 0, and when that was noted last.
        self._start = math.nan
        self._noted = math.nan

    @property
    def tick(self) -> float:
        """Simulated seconds since the beginning."""
        return self._env.now

    @property
    def files(self) -> int:
        """How many files the run has so far."""
        return self._process.progress.files if self._process else 0

    @property
    def folder(self) -> Path:
        """Where the run's files are."""
        return self._parameters.container / self._identity.dataset

    @property
    def error(self) -> str | None:
        """What went wrong; None if nothing did."""
        return self._error

    def run(self) -> Ending:
        """Let the run's time pass, to its end.

        However it ends, ``end_run`` is sent if ``run_imminent`` was.

        Raises
        ------
        simulator.daq.progress.CannotGoOn
            Raised if the run was interrupted and cannot be gone on with;
            nothing is sent.
        """
        try:
            self._process = RunProcess(
                environment=self._env,
                identity=self._identity,
                parameters=self._parameters,
                send=self._send,
                control=self._control,
                past=self._past,
            )
            alive = self._env.process(self._process.run())
            self._catch_up(self._process, alive)
            ending = self._pass_time(self._process, alive)
        except CannotGoOn:
            raise
        except Exception as error:
            # Whatever it was, agents must hear that the run is over.
            _log.error(
                "Run %s failed: %s",
                self._identity.run_id,
                error,
                exc_info=not isinstance(error, PromptProcessingError),
                extra=self._identity.labels,
            )
            self._error = str(error) or type(error).__name__
            ending = Ending.FAILED
        try:
            if self._process is not None:
                self._process.end_early(ending)
        except Exception as error:
            _log.exception(
                "The end of run %s could not be sent.", self._identity.run_id, extra=self._identity.labels
            )
            self._error = self._error or str(error)
            return Ending.FAILED
        return ending

    def _catch_up(self, process: RunProcess, alive: simpy.Process) -> None:
        """Let happen at once what has happened before."""
        while alive.is_alive and process.catching_up:
            if process.standing_still and process.went_on is not None:
                self._advance_to(process.went_on)
                process.go_on()
            else:
                self._env.step()
        error = None if alive.is_alive else alive.value
        if isinstance(error, BaseException):
            raise error
        # What was known of the clock is as of its last note.
        self._noted = time.monotonic()
        self._start = self._noted - max(self._env.now, self._past.clock)

    def _pass_time(self, process: RunProcess, alive: simpy.Process) -> Ending:
        limit = self._parameters.duration or math.inf
        while alive.is_alive:
            if self._control.stopped:
                return self._stop(process)
            due = min(self._env.peek(), limit)
            if process.standing_still and self._env.peek() == math.inf:
                self._stand_still(process, limit)
            elif self._parameters.realtime and (rest := self._start + due - time.monotonic()) > 0:
                self._control.wait(min(rest, _NOTE))
                self._note_time(process)
            elif due >= limit:
                self._advance_to(limit)
                return Ending.COMPLETE if process.ended else Ending.DURATION
            else:
                self._env.step()
        error = alive.value
        if isinstance(error, BaseException):
            # SimPy would raise it in the next step, which is not made.
            raise error
        return Ending.COMPLETE

    def _note_time(self, process: RunProcess) -> None:
        now = time.monotonic()
        if now - self._noted >= _NOTE:
            self._noted = now
            self._note(process.progress.model_copy(update={"clock": now - self._start}))

    def _stop(self, process: RunProcess) -> Ending:
        if self._parameters.realtime:
            self._advance_to(time.monotonic() - self._start)
        return Ending.COMPLETE if process.ended else Ending.STOPPED

    def _stand_still(self, process: RunProcess, limit: float) -> None:
        """Wait for the operator; with the clock, time passes meanwhile."""
        if not self._parameters.realtime:
            self._control.wait_while_paused(None)
        else:
            rest = self._start + limit - time.monotonic()
            self._control.wait_while_paused(min(rest, _NOTE))
            self._note_time(process)
            self._advance_to(min(time.monotonic() - self._start, limit))
            if self._env.now >= limit:
                # Something must be due, for the limit to be seen.
                self._env.timeout(0)
                return
        if not self._control.stopped and self._control.pause_reason is None:
            process.go_on()

    def _advance_to(self, tick: float) -> None:
        """Let time in which nothing is due pass at once."""
        tick = min(tick, self._env.peek())
        if tick > self._env.now:
            self._env.run(until=tick)
