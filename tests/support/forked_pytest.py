"""Run pytest many times, each in a fork of one process that has already imported what all runs need.

python -P tests/support/forked_pytest.py SECONDS MODULE...

It imports pytest and the modules, then reads lines of stdin, each the arguments of a run as a JSON list, and answers
each with a line of JSON: the status and the output. A run that takes longer than the seconds is ended by a signal.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

OUTPUTS = (1, 2)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run has ended; *status* is negative for a signal."""

    status: int
    output: str


class ForkedPytest:
    """A process to fork from."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, *arguments: str) -> Outcome:
        """Run pytest with these arguments."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the process to fork from has ended"
        return Outcome(**json.loads(line))


@contextmanager
def forked_pytest(
    folder: Path, environ: Mapping[str, str], *, seconds: int, modules: Sequence[str]
) -> Iterator[ForkedPytest]:
    """Start a process to fork from, with *folder* as its current one; it ends with the block."""
    process = subprocess.Popen(
        [sys.executable, "-P", __file__, str(seconds), *modules],
        cwd=folder,
        env={**os.environ, **environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield ForkedPytest(process)


def serve(seconds: int) -> None:
    """Answer each line of stdin."""
    for line in sys.stdin:
        with tempfile.TemporaryFile("w+") as file:
            pid = os.fork()
            if pid == 0:
                run_here(json.loads(line), seconds, file.fileno())
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            file.seek(0)
            print(json.dumps({"status": status, "output": file.read()}), flush=True)


def run_here(arguments: Sequence[str], seconds: int, descriptor: int) -> None:
    """Run pytest in this process, which ends with it."""
    import pytest

    status = 70
    try:
        for output in OUTPUTS:
            os.dup2(descriptor, output)
        signal.alarm(seconds)
        status = int(pytest.main(list(arguments)))
        sys.stdout.flush()
    finally:
        os._exit(status)


if __name__ == "__main__":
    for name in ("pytest", *sys.argv[2:]):
        importlib.import_module(name)
    serve(int(sys.argv[1]))
