"""A parser process: ``python -m sercha.adapters.parsing.child OPTIONS``, with frames on its two pipes.

It confines itself, says that it is ready and what is in force, and then parses one file after another until its
input ends. Whatever a file does to it costs that file only: the worker starts another process.
"""

from __future__ import annotations

import gc
import json
import mimetypes
import os
import re
import resource
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from sercha.adapters.parsing import frames
from sercha.adapters.parsing.builder import Job
from sercha.adapters.parsing.confine import confine
from sercha.adapters.parsing.frames import Refusal
from sercha.adapters.parsing.parsers import Parse
from sercha.domain.document import ExtractedText
from sercha.errors import ItemFailed

MEMORY_STATUS = 86
"""Exit status of a process that could not even say that it has no memory left."""

_NAME_CHARS_MAX = 100
_NO_MEMORY = re.compile(r"out of memory|memory allocation|bad_alloc", re.IGNORECASE)


def main(arguments: list[str]) -> int:
    """Serve frames until the input ends."""
    options: dict[str, Any] = json.loads(arguments[0])
    parsers: Mapping[str, Parse] = import_module(options["parsers"]).PARSERS
    source, sink = _take_pipes()
    mimetypes.init()  # it reads files of the system, which cannot be reached later
    memory = _Memory()
    measures = confine(
        memory_bytes=options["memory_bytes"],
        cpu_seconds=options["cpu_seconds"],
        parent=options["parent"],
    )
    _send(sink, frames.pack({"measures": measures}))
    gc.collect()
    gc.freeze()
    while prefix := source.read(frames.PREFIX.size):
        head_bytes, body_bytes = frames.sizes(prefix, options["file_bytes_max"])
        head = frames.parse_head(source.read(head_bytes))
        job = Job(head["path"], source.read(body_bytes), head["chars_max"])
        try:
            _send(sink, _answer(parsers[head["kind"]], job, memory))
        except MemoryError:
            return MEMORY_STATUS
    return 0


def _take_pipes() -> tuple[Any, int]:
    """Keep both pipes to ourselves: what a library prints must not get between the frames."""
    source = os.fdopen(os.dup(0), "rb")
    sink = os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    return source, sink


class _Memory:
    """How much memory this process has; a file of /proc that is opened while it can be.

    What the kernel says of the most that a process had includes what its parent had when it started it.
    """

    def __init__(self) -> None:
        is_linux = sys.platform == "linux"
        self._statistics = os.open("/proc/self/statm", os.O_RDONLY) if is_linux else None

    def bytes(self) -> int:
        """Return the bytes that are resident now; where that is not known, the most that there were."""
        if self._statistics is None:
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        pages = os.pread(self._statistics, 200, 0).split()[1]
        return int(pages) * resource.getpagesize()


def _answer(parse: Parse, job: Job, memory: _Memory) -> bytes:
    outcome = _outcome(parse, job)
    used = resource.getrusage(resource.RUSAGE_SELF)
    answer = frames.Answer(outcome, memory.bytes(), used.ru_utime + used.ru_stime)
    return frames.pack_answer(answer)


def _outcome(parse: Parse, job: Job) -> ExtractedText | Refusal:
    try:
        return parse(job)
    except ItemFailed as error:
        return Refusal(error.error_code, error.message, error.is_skip)
    except RecursionError:
        return Refusal(code="too-deep", reason="It is nested too deep.", is_skip=False)
    except Exception as error:  # noqa: BLE001  whatever a library stumbles over
        if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
            reason = "Reading it takes more memory than is allowed."
            return Refusal(code="parser-memory", reason=reason, is_skip=False)
        # Its message may hold anything; its name does not.
        name = type(error).__name__[:_NAME_CHARS_MAX]
        return Refusal(
            code="broken", reason=f"It is damaged, or of a kind not known ({name}).", is_skip=False
        )


def _send(sink: int, frame: bytes) -> None:
    view = memoryview(frame)
    while view:
        view = view[os.write(sink, view) :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
