"""Who listens on a port: for people who are told that it is in use."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_LISTENS = "0A"
"""The state of a socket in ``/proc/net/tcp``."""
_NAME_CHARS_MAX = 60


def holder_of(port: int) -> str | None:
    """Return who listens on *port* of this machine, as ``name (process 123)``.

    None where that is not to be found out: the process is another user's, or the system is no Linux.
    """
    sockets = {f"socket:[{inode}]" for inode in _listening(port)}
    if not sockets:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with suppress(OSError):
                    if os.readlink(descriptor) in sockets:
                        return f"{_name(process)} (process {process.name})"
    return None


def _listening(port: int) -> set[str]:
    inodes: set[str] = set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path("/proc/net", table).read_text("ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(fields[9])
    return inodes


def _name(process: Path) -> str:
    words = (process / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    if "sercha" in words[:3] or Path(words[0]).name == "sercha":
        return "another Sercha"
    if len(words) > 1 and Path(words[1]).name == "sercha":
        return "another Sercha"
    name = (process / "comm").read_text("utf-8", "replace").strip()
    return "".join(char for char in name if char.isprintable())[:_NAME_CHARS_MAX] or "a program"
