"""A server's own log: appended by the server, put aside when it has grown, quoted when a start fails."""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path

from sercha.adapters.embedded_servers.folder import like_folder

LOG_BYTES_MAX = 10_000_000
QUOTE_BYTES_MAX = 2_000


def rotate_log(path: Path) -> None:
    """Put an overgrown log aside, in place of the one put aside before."""
    try:
        size = path.lstat().st_size
    except FileNotFoundError:
        return
    if size > LOG_BYTES_MAX:
        path.replace(path.with_name(f"{path.name}.1"))


def open_log(path: Path) -> tuple[FileIO, int]:
    """Open the log to append; return it with its size so far."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    file = FileIO(os.open(path, flags, 0o600), "ab")
    like_folder(file.fileno(), path.parent)
    return file, os.fstat(file.fileno()).st_size


def read_log(path: Path, start: int) -> str:
    """Return the last words of the log from this byte on."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(start, end - QUOTE_BYTES_MAX))
            return file.read(QUOTE_BYTES_MAX).decode(errors="replace").strip()
    except FileNotFoundError:
        return ""
