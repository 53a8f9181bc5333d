"""What a parser process gives up before it reads its first file, as far as its system lets it.

Nothing here needs privileges. Each measure says whether it is in force, for `sercha doctor`; one that a system
does not have leaves the others as they are.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

from sercha.adapters.parsing.landlock import allow_only_reading
from sercha.adapters.parsing.seccomp import refuse_calls

DESCRIPTORS_MAX = 64
ADDRESSES_PER_MEMORY = 4
"""Address space is given out in larger pieces than memory: libraries reserve what they never touch."""

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache")

Measures = dict[str, str]
"""Each measure with the reason why it is not in force; empty: it is."""


def confine(*, memory_bytes: int, cpu_seconds: int, parent: int) -> Measures:
    """Give everything up that parsing does not need.

    Raises:
        SystemExit: the parent is gone already.
    """
    measures: Measures = {}
    _try(measures, "ends with its worker", lambda: _end_with(parent))
    _try(measures, "no new privileges", lambda: _prctl(_PR_SET_NO_NEW_PRIVS, 1))
    _try(measures, "not to be traced", lambda: _prctl(_PR_SET_DUMPABLE, 0))
    _try(measures, "memory", lambda: _limit_memory(memory_bytes))
    _try(measures, "processor time", lambda: _limit(resource.RLIMIT_CPU, cpu_seconds))
    _try(measures, "no writing to files", lambda: _limit(resource.RLIMIT_FSIZE, 0))
    _try(measures, "descriptors", lambda: _limit(resource.RLIMIT_NOFILE, DESCRIPTORS_MAX))
    _limit(resource.RLIMIT_CORE, 0)
    _try(measures, "files (landlock)", lambda: _on_linux(lambda: allow_only_reading(_code())))
    _try(measures, "system calls (seccomp)", lambda: _on_linux(refuse_calls))
    if not measures["system calls (seccomp)"]:
        return measures | {"no network": "", "no processes": ""}
    _try(measures, "no network", _leave_network)
    _try(measures, "no processes", _no_processes)
    return measures


def _try(measures: Measures, name: str, take: Callable[[], str | None]) -> None:
    try:
        measures[name] = take() or ""
    except (OSError, ValueError, AttributeError) as error:
        measures[name] = str(error)[:200] or type(error).__name__


def _on_linux(take: Callable[[], str | None]) -> str | None:
    return take() if sys.platform == "linux" else f"{sys.platform} has it not"


def _prctl(option: int, value: int) -> str | None:
    if sys.platform != "linux":
        return f"{sys.platform} has it not"
    library = ctypes.CDLL(None, use_errno=True)
    return os.strerror(ctypes.get_errno()) if library.prctl(option, value, 0, 0, 0) else None


def _end_with(parent: int) -> str | None:
    reason = _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the kernel was told
        sys.exit(1)
    return reason


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))


def _limit_memory(most: int) -> str | None:
    if sys.platform != "linux":
        return f"{sys.platform} does not hold to it"
    _limit(resource.RLIMIT_DATA, most)
    _limit(resource.RLIMIT_AS, ADDRESSES_PER_MEMORY * most)
    return None


def _no_processes() -> str | None:
    _limit(resource.RLIMIT_NPROC, 0)
    return "it does not hold for root" if os.geteuid() == 0 else None


def _leave_network() -> str | None:
    """Move into a network without any interface: what there is where system calls cannot be refused."""
    if sys.platform != "linux":
        return f"{sys.platform} has no means for it"
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(_CLONE_NEWUSER | _CLONE_NEWNET):
        return f"namespaces are refused ({os.strerror(ctypes.get_errno())})"
    return None


def _code() -> list[Path]:
    """Return where Python, its packages and the system's libraries are."""
    paths = sysconfig.get_paths()
    names = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    names += [name for name in sys.path if name.endswith(("site-packages", "dist-packages"))]
    names += [*_LIBRARIES, f"{sys.base_prefix}/lib", str(Path(__file__).parents[2])]
    return [Path(name) for name in dict.fromkeys(names)]
