"""Parsers that do what a hostile file might make a parser do; each says what came of it."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from sercha.adapters.parsing.builder import Job
from sercha.domain.document import ExtractedText, Section
from sercha.errors import ItemFailed

LIVES: list[str] = []
"""What was parsed in this process before."""


def echo(job: Job) -> ExtractedText:
    LIVES.append(job.path)
    facts = {"pid": str(os.getpid()), "files": str(len(LIVES))}
    return ExtractedText(job.content.decode(), "text/plain", metadata=facts)


def loop(job: Job) -> ExtractedText:
    while True:
        pass


def sleep(job: Job) -> ExtractedText:
    time.sleep(3_600)
    raise AssertionError


def memory(job: Job) -> ExtractedText:
    kept = []
    while True:
        kept.append(bytearray(8 * 1024**2))


def bloat(job: Job) -> ExtractedText:
    """Take what is allowed, and live."""
    LIVES.append("x" * 150 * 1024**2)
    return echo(job)


def crash(job: Job) -> ExtractedText:
    ctypes.string_at(0)
    raise AssertionError("still here")


def abort(job: Job) -> ExtractedText:
    os.abort()


def leave(job: Job) -> ExtractedText:
    os._exit(0)


def deep(job: Job) -> ExtractedText:
    return deep(job)


def raise_it(job: Job) -> ExtractedText:
    raise KeyError(job.content.decode())


def unknown_code(job: Job) -> ExtractedText:
    raise ItemFailed("x", code="not-a" + "-code")


def silence(job: Job) -> ExtractedText:
    for descriptor in range(3, 64):
        try:
            os.close(descriptor)
        except OSError:
            continue
    time.sleep(3_600)
    raise AssertionError


def garbage(job: Job) -> ExtractedText:
    """Write into the pipe by hand what is no frame."""
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, b"\xff" * 4_096)
        except OSError:
            continue
    return sleep(job)


def unclean(job: Job) -> ExtractedText:
    return ExtractedText("a\0b\r\n", "text/plain")


def bad_section(job: Job) -> ExtractedText:
    return ExtractedText("ab", "text/plain", sections=(Section(70, "x"),))


def longer_than_allowed(job: Job) -> ExtractedText:
    return ExtractedText("x" * (5 * job.chars_max), "text/plain")


def environment(job: Job) -> ExtractedText:
    return ExtractedText("\n".join(sorted(os.environ)), "text/plain")


def prints(job: Job) -> ExtractedText:
    print("a library says hello", flush=True)
    os.write(1, b"and so does C")
    os.write(2, b"and an error")
    return echo(job)


def _tries(action: Callable[[Job], object]) -> Callable[[Job], ExtractedText]:
    def parse(job: Job) -> ExtractedText:
        try:
            done = action(job)
        except (OSError, RuntimeError, ValueError) as error:
            return ExtractedText(f"refused: {type(error).__name__}", "text/plain")
        return ExtractedText(f"done: {done}", "text/plain")

    return parse


def _connect(job: Job) -> None:
    with socket.create_connection(("127.0.0.1", int(job.content))):
        pass


def _socket_pair(job: Job) -> None:
    socket.socketpair()


def _write(job: Job) -> None:
    with open(job.content, "wb") as file:
        file.write(b"x")


def _append(job: Job) -> None:
    descriptor = os.open(job.content, os.O_RDWR)
    os.write(descriptor, b"x")


def _read(job: Job) -> bytes:
    with open(job.content, "rb") as file:
        return file.read()


def _list(job: Job) -> list[str]:
    return os.listdir(job.content)


def _remove(job: Job) -> None:
    os.unlink(job.content)


def _rename(job: Job) -> None:
    os.rename(job.content, job.content + b".new")


def _change_mode(job: Job) -> None:
    os.chmod(job.content, 0o777)


def _make_folder(job: Job) -> None:
    os.mkdir(job.content)


def _run(job: Job) -> None:
    subprocess.run([sys.executable, "-c", ""], check=True)


def _replace(job: Job) -> None:
    os.execv("/bin/true", ["true"])


def _fork(job: Job) -> None:
    if os.fork() == 0:
        os._exit(0)


def _thread(job: Job) -> None:
    threading.Thread(target=str).start()


def _kill(job: Job) -> None:
    os.kill(int(job.content), signal.SIGKILL)


def _unlimit(job: Job) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (10, 10))


PARSERS: dict[str, Callable[[Job], ExtractedText]] = {
    "echo": echo,
    "loop": loop,
    "sleep": sleep,
    "memory": memory,
    "bloat": bloat,
    "crash": crash,
    "abort": abort,
    "leave": leave,
    "deep": deep,
    "raise": raise_it,
    "unknown-code": unknown_code,
    "silence": silence,
    "garbage": garbage,
    "unclean": unclean,
    "bad-section": bad_section,
    "too-long": longer_than_allowed,
    "environment": environment,
    "prints": prints,
    "connect": _tries(_connect),
    "socket-pair": _tries(_socket_pair),
    "write": _tries(_write),
    "append": _tries(_append),
    "read": _tries(_read),
    "list": _tries(_list),
    "remove": _tries(_remove),
    "rename": _tries(_rename),
    "mode": _tries(_change_mode),
    "folder": _tries(_make_folder),
    "run": _tries(_run),
    "replace": _tries(_replace),
    "fork": _tries(_fork),
    "thread": _tries(_thread),
    "kill": _tries(_kill),
    "unlimit": _tries(_unlimit),
}
