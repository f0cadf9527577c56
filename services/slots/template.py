"""The template process: imports everything once and forks slots of itself.

It is started by exec, as ``python -m services.slots.template``, so it has one
thread and inherits nothing from a threaded server. It connects to nothing.
Each connection to its Unix socket becomes a slot, or a control connection on
which the parent learns how slots ended. It leaves nothing behind: slots die
with it, slots of a parent whose control connection closes are killed, and it
ends when its standard input closes.
"""

from __future__ import annotations

__all__ = ["Template", "main"]

import argparse
import contextlib
import ctypes
import gc
import importlib
import logging
import os
import selectors
import shutil
import signal
import socket
import struct
import sys
from collections import OrderedDict
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from services.slots.interruption import Interruption
from services.slots.memory_limit import limit_growth
from services.slots.protocol import Exited, ForkSlot, HowExited, OpenControl, SlotBlueprint, TemplateReady
from services.slots.slot import run_slot

_log = logging.getLogger(__name__)

#: Seconds a new connection has to say what it wants.
_FIRST_MESSAGE = 5.0
#: How many exit codes are remembered for later questions.
_REMEMBERED = 1000
# linux/prctl.h and glibc's malloc.h
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_M_ARENA_MAX = -8
#: Memory pools of glibc's malloc in a slot. By default there may be eight for
#: each core, and what one thread frees does not serve another.
_ARENAS = 2


class Template:
    """Serves one listening socket.

    Parameters
    ----------
    listener : `socket.socket`
        Bound and listening.
    blueprint : `services.slots.protocol.SlotBlueprint`
        What slots are made from.
    lifeline : `int`
        File descriptor; the template ends when it reaches end of file.
    """

    def __init__(self, *, listener: socket.socket, blueprint: SlotBlueprint, lifeline: int) -> None:
        self._listener = listener
        self._blueprint = blueprint
        self._lifeline = lifeline
        self._selector = selectors.DefaultSelector()
        self._running: dict[int, int] = {}  # slot's pid -> its parent's pid
        self._exited: OrderedDict[int, int] = OrderedDict()
        self._controls: dict[Connection, int] = {}  # -> the parent's pid
        self._questions: list[tuple[Connection, int]] = []
        self._wakeup, self._wakeup_end = socket.socketpair()

    def serve(self) -> None:
        """Fork slots until the lifeline ends."""
        for end in (self._wakeup, self._wakeup_end):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wakeup_end.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        # Whoever signals the whole group or control group means the visits:
        # slots must get their time to end, which they would not if their
        # template died.
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        # What a dead slot's tasks had started is reaped here too.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wakeup, selectors.EVENT_READ, self._reap)
        self._selector.register(self._lifeline, selectors.EVENT_READ, None)
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    if not os.read(self._lifeline, 1024):
                        self._kill(list(self._running))
                        _reap_all()
                        return
                else:
                    key.data()

    def _accept(self) -> None:
        accepted, _ = self._listener.accept()
        parent, uid = _peer(accepted)
        connection = Connection(accepted.detach())
        order: object = None
        try:
            # Anyone else is kept out by the directory's mode; this is for a
            # socket put somewhere unsafe.
            if uid == os.getuid() and connection.poll(_FIRST_MESSAGE):
                order = connection.recv()
        except (EOFError, OSError):
            pass
        match order:
            case ForkSlot():
                self._fork(connection, order, parent)
                connection.close()
            case OpenControl():
                self._controls[connection] = parent
                self._selector.register(connection, selectors.EVENT_READ, lambda: self._answer(connection))
                self._send(
                    connection, TemplateReady(pid=os.getpid(), deployment_id=self._blueprint.deployment_id)
                )
            case _:
                connection.close()

    def _fork(self, connection: Connection, order: ForkSlot, parent: int) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        template = os.getpid()
        pid = os.fork()
        if pid:
            self._running[pid] = parent
            return
        code = 1
        try:
            self._become_slot(template, order)
            run_slot(
                connection=connection,
                blueprint=self._blueprint,
                interruption=Interruption(),
                idle_interval=order.idle_interval,
            )
            code = 0
        except BaseException:
            _log.exception("A slot ended with an unexpected error.")
        finally:
            _leave(code)

    def _become_slot(self, template: int, order: ForkSlot) -> None:
        """Let go of all that belongs to the template."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        # A group of its own: no signal from a terminal, and what its tasks
        # start can be killed with it.
        os.setsid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != template:
            _leave(1)  # the template died before the line above
        self._selector.close()
        for control in self._controls:
            control.close()
        for end in (self._listener, self._wakeup, self._wakeup_end):
            end.close()
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, self._lifeline)
        os.close(null)
        if order.nice:
            os.nice(order.nice)
        if order.memory_limit is not None:
            limit_growth(order.memory_limit)

    def _answer(self, connection: Connection) -> None:
        try:
            question = connection.recv()
        except (EOFError, OSError):
            self._drop(connection)
            return
        if isinstance(question, HowExited):
            self._questions.append((connection, question.pid))
            self._answer_questions()

    def _answer_questions(self) -> None:
        waiting = []
        for connection, pid in self._questions:
            if pid in self._running:
                waiting.append((connection, pid))
            else:
                self._send(connection, Exited(pid=pid, code=self._exited.get(pid)))
        self._questions = waiting

    def _send(self, connection: Connection, message: object) -> None:
        try:
            connection.send(message)
        except OSError:
            _log.debug("A parent is gone before its answer.")

    def _drop(self, connection: Connection) -> None:
        """Forget a parent that is gone, and kill what it left."""
        self._selector.unregister(connection)
        parent = self._controls.pop(connection)
        connection.close()
        self._questions = [q for q in self._questions if q[0] is not connection]
        if parent not in self._controls.values():
            self._kill([pid for pid, owner in self._running.items() if owner == parent])

    def _kill(self, pids: list[int]) -> None:
        for pid in pids:
            _kill_group(pid)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wakeup.recv(4096)
        while True:
            try:
                # Left unreaped for the moment, so that its process group's
                # number cannot be another's when the group is killed.
                info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                break
            if info is None:
                break
            ours = info.si_pid in self._running
            if ours:
                _kill_group(info.si_pid)
            _, status = os.waitpid(info.si_pid, 0)
            if not ours:
                continue
            del self._running[info.si_pid]
            self._exited[info.si_pid] = os.waitstatus_to_exitcode(status)
            while len(self._exited) > _REMEMBERED:
                self._exited.popitem(last=False)
        self._answer_questions()


def _peer(accepted: socket.socket) -> tuple[int, int]:
    """Return pid and user id of the process at the other end."""
    layout = struct.Struct("3i")
    pid, uid, _ = layout.unpack(accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, layout.size))
    return pid, uid


def _kill_group(pid: int) -> None:
    # A slot that is just being born has no group yet.
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _reap_all() -> None:
    """Wait for all children, which have been killed."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


def _leave(code: int) -> NoReturn:
    """End a forked process without what belongs to the template's own end."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(code)


def load(spec: str) -> Callable[[], Any]:
    """Return what ``module:function`` names."""
    module, _, name = spec.partition(":")
    found: Callable[[], Any] = getattr(importlib.import_module(module), name)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run a template process.

    Parameters
    ----------
    arguments : `list` [`str`], optional
        The command line without the program's name: ``--listener``, the file
        descriptor of the listening socket, and ``--application``, a
        ``module:function`` that returns a
        `services.slots.protocol.SlotBlueprint`.

    Returns
    -------
    code : `int`
        Exit code.
    """
    parser = argparse.ArgumentParser(prog="services.slots.template")
    parser.add_argument("--listener", type=int, required=True)
    parser.add_argument("--application", required=True)
    options = parser.parse_args(arguments)
    listener = socket.socket(fileno=options.listener)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)
    blueprint = load(options.application)()
    # What survives until now lives as long as the process: collecting it would
    # only write to pages that the slots share.
    gc.collect()
    gc.freeze()
    _log.info("Template process %d is ready, deployment id %s.", os.getpid(), blueprint.deployment_id)
    directory = os.path.dirname(listener.getsockname())
    try:
        Template(listener=listener, blueprint=blueprint, lifeline=sys.stdin.fileno()).serve()
    finally:
        # Whoever made it may be gone.
        shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    # Imported under its real name, so that classes pickled here are the ones
    # that the parent knows.
    from services.slots.template import main as run

    sys.exit(run())
