"""Opens files below an allowed folder without ever following a link.

Paths are walked name by name from a directory that the administrator allowed, so a folder that is swapped for
a link between listing and reading leads nowhere, and paths longer than the system's limit still work.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from sercha.errors import ItemFailed, Transient

# With O_PATH a folder that may be entered but not listed can be passed, as with any other program.
_STEP = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_LEAF = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_READ_BYTES = 1 << 20
_DATALESS = 0x40000000
"""``SF_DATALESS`` of a Mac: the content is in a cloud, and reading or listing would fetch it."""
PLACEHOLDER = (
    "Its content is in a cloud and not on this disk; open it once to download it, or tell the cloud's"
    " program to keep it here."
)
_OUR_SHORTAGE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


@dataclass(frozen=True, slots=True)
class Place:
    """A path as the folder to start from and the names below it."""

    base: bytes
    names: tuple[bytes, ...]

    @property
    def path(self) -> bytes:
        return os.path.join(self.base, *self.names)

    def child(self, name: bytes) -> Place:
        return Place(self.base, (*self.names, name))


@dataclass(frozen=True, slots=True)
class Identity:
    """Which file or folder it is, whatever its name."""

    device: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        return cls(status.st_dev, status.st_ino)


class WithinOwnData(Exception):
    """The path leads into Sercha's own data folder."""


def open_place(place: Place, *, own_data: Identity | None = None, folder: bool = False) -> int:
    """Open *place* for reading and return its descriptor; the caller closes it.

    Raises:
        WithinOwnData: the place is *own_data* or below it.
        OSError: also where a name on the way is a link.
    """
    if not place.names:
        return os.open(place.base, os.O_RDONLY | os.O_CLOEXEC | (os.O_DIRECTORY if folder else 0))
    parent = open_folder(place.base, place.names[:-1], own_data)
    try:
        descriptor = os.open(
            place.names[-1], _LEAF | (os.O_DIRECTORY if folder else 0), dir_fd=parent
        )
    finally:
        os.close(parent)
    try:
        _require_not(own_data, descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_folder(base: bytes, names: Sequence[bytes], own_data: Identity | None) -> int:
    """Open a folder as a place to start from, not necessarily for reading."""
    descriptor = os.open(base, _STEP)
    try:
        for name in names:
            below = os.open(name, _STEP | os.O_NOFOLLOW, dir_fd=descriptor)
            descriptor, done = below, descriptor
            os.close(done)
            _require_not(own_data, descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def is_placeholder(status: os.stat_result) -> bool:
    """Whether only the name is on this disk.

    Blocks say nothing about it: compressed, sparse and just written files have none either.
    """
    return bool(getattr(status, "st_flags", 0) & _DATALESS)


def status_of(place: Place) -> os.stat_result:
    """Return the status of *place* itself, which may be a link.

    Raises:
        OSError: it is not there, or a name on the way is a link.
    """
    if not place.names:
        return os.stat(place.base)
    parent = open_folder(place.base, place.names[:-1], None)
    try:
        return os.stat(place.names[-1], dir_fd=parent, follow_symlinks=False)
    finally:
        os.close(parent)


def read_place(place: Place, own_data: Identity | None, bytes_max: int) -> bytes:
    """Read a regular file whole.

    A file that changes meanwhile is read once more and then taken as it is: its fingerprint was taken
    before, so the next listing shows the change and it is read again.

    Raises:
        ItemFailed: it is gone, not a regular file any more, too large, or cannot be read.
        Transient: this process is out of descriptors or memory.
    """
    try:
        # Opening a device can have effects, so look first; what is opened is checked again.
        status = status_of(place)
        _require_regular(status)
        if is_placeholder(status):
            raise ItemFailed(PLACEHOLDER, code="placeholder")
        descriptor = open_place(place, own_data=own_data)
        try:
            content, is_stable = _read_once(descriptor, bytes_max)
            if not is_stable:
                os.lseek(descriptor, 0, os.SEEK_SET)
                content, _ = _read_once(descriptor, bytes_max)
        finally:
            os.close(descriptor)
    except WithinOwnData:
        raise ItemFailed(
            "It is in Sercha's own data folder.", code="own-data", is_skip=True
        ) from None
    except OSError as error:
        raise read_failure(error) from error
    return content


def read_failure(error: OSError) -> ItemFailed | Transient:
    """Say what an error of the system means for the item."""
    if error.errno in _OUR_SHORTAGE:
        return Transient(f"This process cannot open more files ({error.strerror}).")
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return ItemFailed("The file is gone.", code="vanished")
    if error.errno == errno.ELOOP:
        return _no_file("It is a link by now.")
    if error.errno in (errno.EACCES, errno.EPERM):
        return ItemFailed(f"There is no permission to read it{mac_hint(error)}.", code="unreadable")
    return ItemFailed(f"It cannot be read ({error.strerror}).", code="unreadable")


def mac_hint(error: OSError) -> str:
    """Say where a Mac's user mends a refusal that no rights of the file explain; else nothing."""
    if error.errno == errno.EPERM and sys.platform == "darwin":
        return "; allow it under System Settings, Privacy & Security, Full Disk Access"
    return ""


def too_large(size: int, bytes_max: int) -> str:
    """The reason that is recorded for a file over the limit."""
    return f"It has {size:,} bytes; files of more than {bytes_max:,} bytes are left out."


def _read_once(descriptor: int, bytes_max: int) -> tuple[bytes, bool]:
    before = os.fstat(descriptor)
    _require_regular(before)
    pieces: list[bytes] = []
    size = 0
    while piece := os.read(descriptor, min(_READ_BYTES, bytes_max + 1 - size)):
        pieces.append(piece)
        size += len(piece)
        if size > bytes_max:
            after = os.fstat(descriptor).st_size
            raise ItemFailed(too_large(max(after, size), bytes_max), code="too-large", is_skip=True)
    after = os.fstat(descriptor)
    is_stable = (before.st_mtime_ns, before.st_ctime_ns, before.st_size) == (
        after.st_mtime_ns,
        after.st_ctime_ns,
        size,
    )
    return b"".join(pieces), is_stable


def _require_not(own_data: Identity | None, descriptor: int) -> None:
    if own_data is not None and Identity.of(os.fstat(descriptor)) == own_data:
        raise WithinOwnData


def _require_regular(status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise _no_file("It is a link by now.")
    if not stat.S_ISREG(status.st_mode):
        raise _no_file("It is not a regular file any more.")


def _no_file(reason: str) -> ItemFailed:
    return ItemFailed(reason, code="not-a-file", is_skip=True)
