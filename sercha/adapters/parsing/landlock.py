"""Which files a parser process can reach: the code that it runs, to read. Nothing else, and nothing to write.

Landlock is in Linux from 5.13 on, where it was not left out of the kernel or of its list of modules.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""The same numbers on all architectures."""
_CREATE_VERSION = 1
_RULE_PATH_BENEATH = 1
_READ_FILE, _READ_FOLDER = 1 << 2, 1 << 3
_RIGHTS_BY_VERSION = {1: 13, 2: 14, 3: 15, 5: 16}
"""How many rights on files each version of the interface first knew."""
_NETWORK_VERSION, _NETWORK_RIGHTS = 4, 0b11
_SCOPE_VERSION, _SCOPES = 6, 0b11


def allow_only_reading(folders: Sequence[Path]) -> str | None:
    """Take all access to files away but reading below *folders*, for good; says why when that cannot be done.

    The process must have given up new privileges before.
    """
    version = _call(_CREATE_RULESET, None, 0, _CREATE_VERSION)
    if version < 1:
        return f"the kernel has it not ({os.strerror(ctypes.get_errno())})"
    attributes = _attributes(version)
    rules = _call(_CREATE_RULESET, attributes, len(attributes), 0)
    if rules < 0:
        return f"the kernel refuses ({os.strerror(ctypes.get_errno())})"
    try:
        for folder in folders:
            _allow(rules, folder)
        if _call(_RESTRICT_SELF, rules, 0):
            return f"the kernel refuses ({os.strerror(ctypes.get_errno())})"
    finally:
        os.close(rules)
    return None


def _attributes(version: int) -> bytes:
    """Return what is taken away, in the form that the kernel's version takes."""
    known = max(count for first, count in _RIGHTS_BY_VERSION.items() if first <= version)
    attributes = struct.pack("=Q", (1 << known) - 1)
    if version >= _NETWORK_VERSION:
        attributes += struct.pack("=Q", _NETWORK_RIGHTS)
    if version >= _SCOPE_VERSION:
        attributes += struct.pack("=Q", _SCOPES)
    return attributes


def _allow(rules: int, place: Path) -> None:
    """Let a folder, or a file, be read; one that is not there needs no permission."""
    try:
        descriptor = os.open(place, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rights = _READ_FILE | _READ_FOLDER if place.is_dir() else _READ_FILE
        rule = struct.pack("=Qi", rights, descriptor)
        _call(_ADD_RULE, rules, _RULE_PATH_BENEATH, rule, 0)
    finally:
        os.close(descriptor)


def _call(number: int, *arguments: bytes | int | None) -> int:
    """Make a system call; all numbers are as wide as a register."""
    library = ctypes.CDLL(None, use_errno=True)
    wide = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return int(library.syscall(ctypes.c_long(number), *wide))
