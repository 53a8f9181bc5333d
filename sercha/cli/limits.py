"""What the system grants a process, and how much of it Sercha takes."""

from __future__ import annotations

import resource

OPEN_FILES_WANTED = 8_192
OPEN_FILES_MIN = 200
"""A quiet `sercha up` has about 60 open; searches and requests under way add to that."""


def open_files() -> tuple[int, int]:
    """Return how many files this process may have open now, and up to how many it may ask for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    most = OPEN_FILES_WANTED if hard == unlimited else hard
    return (most if soft == unlimited else soft), most


def raise_open_files() -> None:
    """Ask for as many open files as are wanted: many systems grant 256 or 1,024 to whoever does not ask."""
    now, most = open_files()
    wanted = min(OPEN_FILES_WANTED, most)
    if now < wanted:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
