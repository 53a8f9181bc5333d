"""Sercha's own data folder: mode 0700, one process at a time, of a format that we understand.

`lock` is held by flock for as long as the folder is in use, so it ends with its process however that
ends. `VERSION` says who wrote the folder; a folder of another format is refused and left untouched.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sercha.errors import Conflict, Rejected, SettingsError
from sercha.version import __version__

FORMAT = 1
POSTGRES_MAJOR = 18
MODE = 0o700
# What a fresh volume or a first start cut short may hold; anything else is somebody's files.
HARMLESS = frozenset({"lock", "VERSION.new", "lost+found", ".DS_Store", ".gitignore", ".gitkeep"})


@dataclass(frozen=True, slots=True)
class DataFolder:
    """A data folder that this process holds; `path` is absolute and free of links."""

    path: Path


@contextmanager
def data_folder(path: Path) -> Generator[DataFolder]:
    """Make the folder if it is missing, and hold it until the block ends.

    Raises `SettingsError` when it cannot be used, `Conflict` (`data-dir-in-use`) when another process
    holds it, `Rejected` (`data-dir-version`, `data-dir-foreign`) when it is not of our format.
    Blocks for a few file operations only.
    """
    try:
        place = _make(path)
        lock = os.open(place / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SettingsError(f"--data-dir: {path} cannot be used: {reason}") from error
    try:
        hold(lock, place)
        _check_format(place)  # before anything is written
        place.chmod(MODE)
        like_folder(lock, place)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        _write_version(place)
        yield DataFolder(place)
    finally:
        os.close(lock)


def _make(path: Path) -> Path:
    """Return the folder, made if it was missing; the first look at its format changes nothing."""
    place = Path(os.path.realpath(path))
    if not set("\n\r").isdisjoint(os.fspath(place)):
        raise ValueError("its path has a line break, which PostgreSQL does not take")
    if place.exists() and not place.is_dir():
        raise NotADirectoryError(0, "it is not a folder")
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        place.mkdir(mode=MODE, exist_ok=True)
    owner = place.stat().st_uid
    if os.geteuid() not in (0, owner):
        raise PermissionError(0, f"it belongs to uid {owner}")
    if not (place / "lock").exists():
        _check_format(place)
    return place


def hold(lock: int, place: Path) -> None:
    """Lock this open file for us, or raise `Conflict` (`data-dir-in-use`) about the place."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Conflict(
            f"the data folder {place} is in use by another Sercha{_holder(lock)}: stop that one, "
            "or choose another folder with --data-dir",
            code="data-dir-in-use",
        ) from error


def _holder(lock: int) -> str:
    if not stat.S_ISREG(os.fstat(lock).st_mode):
        return ""
    pid = os.pread(lock, 32, 0).decode(errors="replace").strip()
    return f" (pid {pid})" if pid.isdecimal() else ""


def like_folder(descriptor: int, folder: Path) -> None:
    """Give what root makes in somebody's folder to that somebody, who may come back without root."""
    if os.geteuid() == 0:
        found = folder.stat()
        os.fchown(descriptor, found.st_uid, found.st_gid)


def _check_format(place: Path) -> None:
    """Refuse a folder that another version or another program wrote."""
    try:
        text = (place / "VERSION").read_text(encoding="utf-8")
    except FileNotFoundError:
        if {entry.name for entry in place.iterdir()} - HARMLESS:
            raise Rejected(
                f"{place} holds files but is no data folder of Sercha: choose an empty or a new "
                "folder with --data-dir",
                code="data-dir-foreign",
            ) from None
        return
    except UnicodeDecodeError:
        text = ""
    found = _parse(text)
    if found.get("format") == FORMAT and found.get("postgres") == POSTGRES_MAJOR:
        return
    raise Rejected(
        f"the data folder {place} was written by {_author(found)}, which this Sercha "
        f"{__version__} (format {FORMAT}, PostgreSQL {POSTGRES_MAJOR}) does not read; nothing "
        "was changed: start the version that wrote it, or choose another folder with --data-dir "
        "and index again",
        code="data-dir-version",
    )


def _parse(text: str) -> dict[str, Any]:
    try:
        found: object = json.loads(text)
    except ValueError:
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _author(found: dict[str, Any]) -> str:
    if not found:
        return "an unknown version of Sercha (its VERSION file cannot be read)"
    words = [str(found.get(key, "unknown"))[:40] for key in ("sercha", "format", "postgres")]
    return "Sercha {} (format {}, PostgreSQL {})".format(*words)


def _write_version(place: Path) -> None:
    content = {"format": FORMAT, "sercha": __version__, "postgres": POSTGRES_MAJOR}
    if _parse(read_small(place / "VERSION")) != content:
        write_private(place / "VERSION", json.dumps(content) + "\n")


def read_small(path: Path) -> str:
    """Return the text of a small file, empty when there is none; never through a link."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    with open(descriptor, encoding="utf-8", errors="surrogateescape") as file:
        return file.read(65_536) if stat.S_ISREG(os.fstat(descriptor).st_mode) else ""


def write_private(path: Path, text: str) -> None:
    """Replace the file in one step by one of mode 0600 with this text, durably."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(
        os.open(draft, flags, 0o600), "w", encoding="utf-8", errors="surrogateescape"
    ) as file:
        like_folder(file.fileno(), path.parent)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
