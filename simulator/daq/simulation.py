"""Lets a run's time pass: with the clock, or as fast as possible."""

from __future__ import annotations

__all__ = ["Ending", "RunSimulation"]

import logging
import math
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

import simpy

from models.streaming.daq import DaqParameters
from models.streaming.messages import RunMessage
from simulator.daq.control import Control
from simulator.daq.process import RunIdentity, RunProcess

_log = logging.getLogger(__name__)


class Ending(StrEnum):
    """Why a run is over."""

    COMPLETE = "complete"
    DURATION = "duration limit"
    STOPPED = "stopped"
    FAILED = "failed"


class RunSimulation:
    """A run.

    With ``parameters.realtime`` a simulated second lasts a second, and what
    came late is caught up, as in `simpy.rt.RealtimeEnvironment` of factor 1
    that is not strict. That one cannot be woken from its sleep, so the time
    is kept here.

    Parameters
    ----------
    identity : `simulator.daq.process.RunIdentity`
    parameters : `models.streaming.daq.DaqParameters`
    send : callable
        Takes each message, in order.
    control : `simulator.daq.control.Control`
        Stops take effect at once, pauses before the next file.
    """

    def __init__(
        self,
        *,
        identity: RunIdentity,
        parameters: DaqParameters,
        send: Callable[[RunMessage], None],
        control: Control,
    ) -> None:
        self._identity = identity
        self._parameters = parameters
        self._send = send
        self._control = control
        self._env = simpy.Environment()
        self._process: RunProcess | None = None
        self._error: str | None = None
        self._start = math.nan

    @property
    def tick(self) -> float:
        """Simulated seconds since the beginning."""
        return self._env.now

    @property
    def files(self) -> int:
        """How many files the run has so far."""
        return self._process.files if self._process else 0

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
        """
        self._start = time.monotonic()
        try:
            self._process = RunProcess(
                environment=self._env,
                identity=self._identity,
                parameters=self._parameters,
                send=self._send,
                control=self._control,
            )
            ending = self._pass_time(self._process)
        except Exception as error:
            # Whatever it was, agents must hear that the run is over.
            _log.exception("Run %s failed.", self._identity.run_id, extra=self._identity.labels)
            self._error = str(error) or type(error).__name__
            ending = Ending.FAILED
        try:
            if self._process is not None:
                self._process.end_early()
        except Exception as error:
            _log.exception(
                "The end of run %s could not be sent.", self._identity.run_id, extra=self._identity.labels
            )
            self._error = self._error or str(error)
            return Ending.FAILED
        return ending

    def _pass_time(self, process: RunProcess) -> Ending:
        alive = self._env.process(process.run())
        limit = self._parameters.duration or math.inf
        while alive.is_alive:
            if self._control.stopped:
                return self._stop(process)
            due = min(self._env.peek(), limit)
            if process.standing_still and self._env.peek() == math.inf:
                self._stand_still(process, limit)
            elif self._parameters.realtime and self._control.wait(self._start + due - time.monotonic()):
                return self._stop(process)
            elif due >= limit:
                self._advance_to(limit)
                return Ending.COMPLETE if process.ended else Ending.DURATION
            else:
                self._env.step()
        error = alive.value
        if isinstance(error, Exception):
            # SimPy would raise it in the next step, which is not made.
            raise error
        return Ending.COMPLETE

    def _stop(self, process: RunProcess) -> Ending:
        if self._parameters.realtime:
            self._advance_to(time.monotonic() - self._start)
        return Ending.COMPLETE if process.ended else Ending.STOPPED

    def _stand_still(self, process: RunProcess, limit: float) -> None:
        """Wait for the operator; with the clock, time passes meanwhile."""
        if not self._parameters.realtime:
            self._control.wait_while_paused(None)
        else:
            rest = None if limit == math.inf else self._start + limit - time.monotonic()
            self._control.wait_while_paused(rest)
            self._advance_to(min(time.monotonic() - self._start, limit))
            if self._env.now >= limit:
                # Something must be due, for the limit to be seen.
                self._env.timeout(0)
                return
        if not self._control.stopped:
            process.go_on()

    def _advance_to(self, tick: float) -> None:
        """Let time in which nothing is due pass at once."""
        tick = min(tick, self._env.peek())
        if tick > self._env.now:
            self._env.run(until=tick)
