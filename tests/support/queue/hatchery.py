"""A process that has imported everything and forks workers from itself: a start costs milliseconds, not a second.

It reads orders from standard input and tells of births and deaths on standard output, one JSON object a line.
When its input ends, because the test has ended or was killed, it kills what it has made, and ends.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

import trio

from tests.support.queue import node


class Hatchery:
    """The children and their lives."""

    def __init__(self) -> None:
        self._lives: dict[int, int] = {}

    def serve(self) -> None:
        """Carry out orders until the input ends."""
        ears, mouth = os.pipe()
        os.set_blocking(ears, False)
        os.set_blocking(mouth, False)
        signal.set_wakeup_fd(mouth)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        gc.freeze()
        rest = b""
        while True:
            ready, _, _ = select.select([0, ears], [], [])
            if ears in ready:
                os.read(ears, 4096)
                self._bury()
            if 0 in ready:
                chunk = os.read(0, 65536)
                if not chunk:
                    return
                *orders, rest = (rest + chunk).split(b"\n")
                for order in orders:
                    self._hatch(**json.loads(order))

    def end(self) -> None:
        """Kill all children."""
        for pid in self._lives:
            os.kill(pid, signal.SIGKILL)

    def _bury(self) -> None:
        while self._lives:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            self._tell(life=self._lives.pop(pid), status=os.waitstatus_to_exitcode(status))

    def _hatch(
        self, life: int, arguments: list[str], environment: dict[str, str], log: str
    ) -> None:
        pid = os.fork()
        if pid:
            self._lives[pid] = life
            self._tell(life=life, pid=pid)
            return
        _become(lambda: node.run(arguments), environment, log)

    def _tell(self, **details: Any) -> None:
        os.write(1, json.dumps(details).encode() + b"\n")


def _become(program: Callable[[], None], environment: dict[str, str], log: str) -> None:
    """Be the child from here to the end: with signals, environment and files of its own."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.environ.clear()
        os.environ.update(environment)
        for source, flags, targets in (
            (os.devnull, os.O_RDONLY, (0,)),
            (log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, (1, 2)),
        ):
            file = os.open(source, flags, 0o644)
            for target in targets:
                os.dup2(file, target)
            os.close(file)
        trio._core._run._r.seed()  # type: ignore[attr-defined]  # else all would schedule alike
        program()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    hatchery = Hatchery()
    try:
        hatchery.serve()
    finally:
        hatchery.end()
