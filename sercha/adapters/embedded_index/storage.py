"""Folders of copies on disk: who owns which, and whether the files are what was written.

``<directory>/<schema-hash>/<slot>/`` holds ``lock`` (held by flock for as long as a process uses the slot),
``consumer`` (the slot's identity in the change feed) and ``files/`` (Tantivy's own). Several processes may
share the directory: each takes the first slot that nobody holds. All functions block: call them off the loop.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import zlib
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import structlog

from sercha.errors import Transient

SLOTS_MAX = 64
_SEGMENT_SUFFIXES = ("idx", "pos", "term", "store", "fast", "fieldnorm")
_FOOTER_MAGIC = 1337
_FOOTER_TAIL_BYTES = 8
_READ_BYTES = 1 << 20

log = structlog.get_logger()


@dataclass(slots=True)
class Slot:
    """A folder that this process alone may write to, until `release`."""

    path: Path
    lock: int
    """The descriptor that holds the flock."""
    consumer_id: str
    is_new: bool
    """The identity was made just now: whatever the files say belongs to another one."""

    @property
    def files(self) -> Path:
        return self.path / "files"

    def wipe(self) -> None:
        """Throw the copy away and leave an empty folder."""
        shutil.rmtree(self.files, ignore_errors=True)
        self.files.mkdir(parents=True)

    def bytes_on_disk(self) -> int:
        """Bytes that the copy's files take."""
        total = 0
        for entry in os.scandir(self.files):
            try:
                total += entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:  # merged away meanwhile
                continue
        return total

    def release(self) -> None:
        os.close(self.lock)


def claim_slot(directory: Path, generation: str) -> Slot:
    """Take the first free slot of *generation* and remove copies of other generations that nobody uses.

    Raises:
        Transient: every slot is taken, or the folder cannot be written.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _directory_lock(directory):
            _remove_unused(directory, keep=generation)
            slot = _first_free(directory / generation, generation)
    except OSError as error:
        raise Transient(f"the index folder {directory} cannot be used: {error}") from error
    if slot is None:
        raise Transient(f"all {SLOTS_MAX} slots of the index folder {directory} are taken")
    return slot


def _first_free(folder: Path, generation: str) -> Slot | None:
    for number in range(SLOTS_MAX):
        path = folder / str(number)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = _try_lock(path / "lock")
        if lock is None:
            continue
        try:
            consumer_id, is_new = _identity(path / "consumer", generation)
            (path / "files").mkdir(exist_ok=True)
        except BaseException:
            os.close(lock)
            raise
        return Slot(path, lock, consumer_id, is_new)
    return None


def _identity(path: Path, generation: str) -> tuple[str, bool]:
    """The slot's consumer id, a new one for a copied folder: two copies must never share a consumer."""
    try:
        known: object = json.loads(path.read_text())
        consumer_id, inode = cast("list[object]", known)
        if isinstance(consumer_id, str) and inode == path.stat().st_ino:
            return consumer_id, False
    except (OSError, ValueError, TypeError):
        pass
    consumer_id = f"{generation}:{uuid4()}"
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump([consumer_id, os.fstat(descriptor).st_ino], file)
        file.flush()
        os.fsync(descriptor)
    return consumer_id, True


@contextmanager
def _directory_lock(directory: Path) -> Generator[None]:
    """Hold the lock under which slots are claimed and removed; held for moments only."""
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _try_lock(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _remove_unused(directory: Path, *, keep: str) -> None:
    for folder in directory.iterdir():
        if folder.name == keep or not folder.is_dir() or not folder.name.startswith("embedded-"):
            continue
        with ExitStack() as held:
            locks = [_try_lock(path) for path in folder.glob("*/lock")]
            for lock in locks:
                if lock is not None:
                    held.callback(os.close, lock)
            if None not in locks:
                shutil.rmtree(folder, ignore_errors=True)
                log.info("index.removed", generation=folder.name)


def damage(files: Path) -> str | None:
    """What is wrong with the files, as one sentence; None when each is as it was written.

    Tantivy ends each file with the checksum of what comes before but reads past flipped bits. A missing
    ``meta.json`` it would take for an empty index.
    """
    meta_path = files / "meta.json"
    if not meta_path.exists():
        return "meta.json is missing" if any(files.iterdir()) else None
    while True:
        meta = meta_path.read_bytes()
        reason = _damage_of(files, meta)
        if reason is None or meta == meta_path.read_bytes():
            return reason  # otherwise a merge ended meanwhile and removed files


def _damage_of(files: Path, meta: bytes) -> str | None:
    try:
        names = list(_segment_files(json.loads(meta)))
    except (ValueError, TypeError, KeyError) as error:
        return f"meta.json cannot be read: {error}"
    for name in names:
        if not _is_whole(files / name):
            return f"{name} is missing or damaged"
    return None


def _segment_files(meta: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    for segment in meta["segments"]:
        stem = str(segment["segment_id"]).replace("-", "")
        for suffix in _SEGMENT_SUFFIXES:
            yield f"{stem}.{suffix}"
        if segment["deletes"] is not None:
            yield f"{stem}.{segment['deletes']['opstamp']}.del"


def _is_whole(path: Path) -> bool:
    """Whether the checksum in the file's footer fits: body, footer as JSON, its length, a magic number."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _FOOTER_TAIL_BYTES))
            tail = file.read(_FOOTER_TAIL_BYTES)
            length = int.from_bytes(tail[:4], "little")
            body_bytes = size - _FOOTER_TAIL_BYTES - length
            if int.from_bytes(tail[4:], "little") != _FOOTER_MAGIC or body_bytes < 0:
                return False
            file.seek(body_bytes)
            expected = json.loads(file.read(length))["crc"]
            file.seek(0)
            checksum = 0
            while body_bytes > 0:
                block = file.read(min(_READ_BYTES, body_bytes))
                if not block:
                    return False
                checksum = zlib.crc32(block, checksum)
                body_bytes -= len(block)
            return checksum == expected
    except (OSError, ValueError, TypeError, KeyError):
        return False
