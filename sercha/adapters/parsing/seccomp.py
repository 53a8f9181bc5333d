"""The system calls that a parser process keeps: memory, time, reading files and its two pipes. All others fail.

A list of what is allowed, so that calls of newer kernels are refused too. What is refused answers EPERM, and
ENOSYS where the C library then takes an older call. Written for the two architectures that Sercha runs on.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from dataclasses import dataclass

_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_LOAD, _EQUAL, _AND, _RETURN = 0x20, 0x15, 0x54, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
_WRITES = (
    os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | 0o20000000  # O_TMPFILE's own
)


@dataclass(frozen=True, slots=True)
class _Calls:
    """The numbers of system calls on one architecture."""

    architecture: int
    allowed: tuple[int, ...]
    missing: tuple[int, ...]
    """Answered ENOSYS."""
    opens: tuple[tuple[int, int], ...]
    """With the argument that has the flags: to read only."""
    signals_self: int
    """tgkill: to this process only."""
    limits: int
    """prlimit64: to ask only."""


# read write close stat fstat lstat poll lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask rt_sigreturn
# ioctl pread64 readv writev access select sched_yield mremap mincore madvise dup nanosleep getpid exit uname
# fcntl getdents getcwd readlink gettimeofday getrlimit getrusage sysinfo times getuid getgid geteuid getegid
# getppid sigaltstack statfs fstatfs arch_prctl gettid time futex sched_getaffinity getdents64 restart_syscall
# fadvise64 clock_gettime clock_getres clock_nanosleep exit_group newfstatat readlinkat faccessat pselect6 ppoll
# set_robust_list getrandom membarrier statx rseq
_X86_64_ALLOWED = (
    0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 19, 20, 21, 23, 24, 25, 27, 28, 32, 35, 39,
    60, 63, 72, 78, 79, 89, 96, 97, 98, 99, 100, 102, 104, 107, 108, 110, 131, 137, 138, 158, 186, 201, 202,
    204, 217, 219, 221, 228, 229, 230, 231, 262, 267, 269, 270, 271, 273, 318, 324, 332, 334
)  # fmt: skip
_X86_64 = _Calls(
    0xC000003E,
    _X86_64_ALLOWED,
    (435, 437, 439, 449),  # clone3 openat2 faccessat2 futex_waitv
    ((2, 1), (257, 2)),
    234,
    302,
)
# getcwd dup fcntl ioctl statfs fstatfs faccessat close getdents64 lseek read write readv writev pread64 pselect6
# ppoll readlinkat newfstatat fstat exit exit_group futex set_robust_list nanosleep clock_gettime clock_getres
# clock_nanosleep sched_getaffinity sched_yield restart_syscall rt_sigaction rt_sigprocmask rt_sigreturn
# sigaltstack times uname getrlimit getrusage gettimeofday getpid getppid getuid geteuid getgid getegid gettid
# sysinfo brk munmap mremap mmap fadvise64 mprotect mincore madvise getrandom membarrier statx rseq
_AARCH64_ALLOWED = (
    17, 23, 25, 29, 43, 44, 48, 57, 61, 62, 63, 64, 65, 66, 67, 72, 73, 78, 79, 80, 93, 94, 98, 99, 101, 113,
    114, 115, 123, 124, 128, 132, 134, 135, 139, 153, 160, 163, 165, 169, 172, 173, 174, 175, 176, 177, 178,
    179, 214, 215, 216, 222, 223, 226, 232, 233, 278, 283, 291, 293
)  # fmt: skip
_AARCH64 = _Calls(
    0xC00000B7,
    _AARCH64_ALLOWED,
    (435, 437, 439, 449),
    ((56, 2),),
    131,
    261,
)
_MACHINES = {"x86_64": _X86_64, "aarch64": _AARCH64}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def refuse_calls() -> str | None:
    """Refuse everything else from now on, for good; says why when that cannot be done.

    The process must have given up new privileges before.
    """
    calls = _MACHINES.get(platform.machine())
    if calls is None:
        return f"no list of system calls for {platform.machine()}"
    instructions = b"".join(_filter(calls, os.getpid()))
    program = _Program(len(instructions) // 8, instructions)
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0):
        return f"the kernel refuses ({os.strerror(ctypes.get_errno())})"
    return None


def _filter(calls: _Calls, pid: int) -> list[bytes]:
    refuse = _instruction(_RETURN, _ERRNO | errno.EPERM)
    allow = _instruction(_RETURN, _ALLOW)
    program = [
        _instruction(_LOAD, _ARCHITECTURE_AT),
        _instruction(_EQUAL, calls.architecture, 1, 0),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER_AT),
    ]
    for number in calls.allowed:
        program += [_instruction(_EQUAL, number, 0, 1), allow]
    for number in calls.missing:
        answer = _instruction(_RETURN, _ERRNO | errno.ENOSYS)
        program += [_instruction(_EQUAL, number, 0, 1), answer]
    for number, argument in calls.opens:
        program += [
            _instruction(_EQUAL, number, 0, 5),
            _instruction(_LOAD, _ARGUMENTS_AT + 8 * argument),
            _instruction(_AND, _WRITES),
            _instruction(_EQUAL, 0, 0, 1),
            allow,
            refuse,
        ]
    program += [
        _instruction(_EQUAL, calls.signals_self, 0, 4),
        _instruction(_LOAD, _ARGUMENTS_AT),
        _instruction(_EQUAL, pid, 0, 1),
        allow,
        refuse,
        _instruction(_EQUAL, calls.limits, 0, 5),
        _instruction(_LOAD, _ARGUMENTS_AT + 16),
        _instruction(_EQUAL, 0, 0, 3),
        _instruction(_LOAD, _ARGUMENTS_AT + 20),
        _instruction(_EQUAL, 0, 0, 1),
        allow,
        refuse,
    ]
    return program


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
