"""Runs a server for as long as its starter lives.

Run as a script, with nothing but the standard library:
``watch.py STARTER_PID STOP_SIGNAL USER TEMPORARY -- COMMAND...``, where
TEMPORARY is a directory that goes with an orphaned server, or empty. The kernel's own
notice of a parent's death comes when the *thread* that started a child ends,
which is no use to programs that start servers from threads; so this process
stands between them, looks whether its parent is still there, and its only
thread is what the server's own notice is tied to.
"""

from __future__ import annotations

__all__ = ["main"]

import ctypes
import os
import pwd
import shutil
import signal
import sys
import time

#: ``PR_SET_PDEATHSIG`` of ``prctl(2)``.
_SET_PARENT_DEATH_SIGNAL = 1
#: Seconds between looks at the parent.
_INTERVAL = 0.2
#: Seconds that an orphaned server has to end.
_GRACE = 5.0


def main(arguments: list[str]) -> int:
    """Run the command; return its exit status."""
    starter, stop_signal, user = int(arguments[0]), int(arguments[1]), arguments[2]
    temporary, command = arguments[3], arguments[5:]
    asked = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, asked)
    child = os.fork()
    if child == 0:
        _become_server(user, command)
    orphaned_at: float | None = None
    while True:
        received = signal.sigtimedwait(asked, _INTERVAL)
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            if orphaned_at is not None and temporary:
                shutil.rmtree(temporary, ignore_errors=True)
            return os.waitstatus_to_exitcode(status) & 0xFF
        if received is not None and received.si_signo in (signal.SIGTERM, signal.SIGHUP):
            os.kill(child, stop_signal)
        if os.getppid() != starter:
            if orphaned_at is None:
                orphaned_at = time.monotonic()
                os.kill(child, stop_signal)
            elif time.monotonic() > orphaned_at + _GRACE:
                os.killpg(child, signal.SIGKILL)


def _become_server(user: str, command: list[str]) -> None:
    try:
        os.setpgid(0, 0)
        if user:
            entry = pwd.getpwnam(user)
            os.initgroups(user, entry.pw_gid)
            os.setgid(entry.pw_gid)
            os.setuid(entry.pw_uid)
        # After the change of user, which clears it.
        ctypes.CDLL(None, use_errno=True).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        os.execv(command[0], command)
    except BaseException as error:
        print(f"cannot run {command[0]}: {error}", file=sys.stderr, flush=True)
    os._exit(127)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
