"""Runs the command of `lockd run` in its own process group, and ends the whole group when lockd dies.

Run as a script, without lockd and without site packages: ``python -IS _child.py PARENT_PID COMMAND...``. It stays
as the leader of the group. On Linux the kernel tells it of its parent's death, also after ``kill -9``; elsewhere
nobody does. Signals to the group reach the command; the leader itself only heeds SIGKILL.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

PR_SET_PDEATHSIG = 1
NOT_FOUND, NOT_EXECUTABLE = 127, 126
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Meant for the command; ignored here."""
ORPHANED = signal.SIGUSR1
"""What the kernel sends when lockd has died."""


def main(arguments: list[str]) -> int:
    """Run the command to its end; returns its status, with 128 added to the signal that ended it."""
    parent, command = int(arguments[0]), arguments[1:]
    signal.signal(ORPHANED, _end_group)
    _tell_me_of_death(ORPHANED)
    if os.getppid() != parent:  # it died before anybody could be told
        return NOT_EXECUTABLE
    for number in PASSED_ON:
        signal.signal(number, signal.SIG_IGN)
    leader = os.getpid()
    pid = os.fork()
    if pid == 0:
        os._exit(_become(command, leader))
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status if status >= 0 else 128 - status


def _become(command: list[str], leader: int) -> int:
    """Replace this process by the command; returns only when that fails."""
    for number in (*PASSED_ON, ORPHANED, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)  # Python ignores SIGPIPE; commands do not expect that
    _tell_me_of_death(signal.SIGKILL)
    if os.getppid() != leader:
        return NOT_EXECUTABLE
    try:
        os.execvp(command[0], command)  # noqa: S606 - a command and its arguments, no shell
    except FileNotFoundError:
        sys.stderr.write(f"lockd: error: {command[0]}: no such command\n")
        return NOT_FOUND
    except OSError as error:
        sys.stderr.write(f"lockd: error: {command[0]}: {error.strerror}\n")
        return NOT_EXECUTABLE


def _tell_me_of_death(number: int) -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def _end_group(*_: object) -> None:
    with suppress(ProcessLookupError):
        os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
