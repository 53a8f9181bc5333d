"""The configuration of a folder source: its fields, its canonical form, and which paths are allowed.

Fields: ``paths`` (absolute folders or files), ``include_hidden``, ``exclude`` (globs). The canonical form adds
``mount_points``: the paths that were file systems of their own, so that an unmounted drive, which leaves an
empty folder behind, is not taken for a folder whose files were all deleted.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from sercha.adapters.connectors.localfs_open import Identity, Place, mac_hint
from sercha.errors import Rejected

PATHS_MAX = 100
PATTERNS_MAX = 100
FIELD_CHARS_MAX = 2_000

Roots = Sequence[Path] | Callable[[], Sequence[Path]]

_FIELDS = frozenset({"paths", "include_hidden", "exclude", "mount_points"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class LocalfsConfig:
    """A configuration with the right types; says nothing about what is on disk."""

    paths: tuple[str, ...]
    include_hidden: bool = False
    exclude: tuple[str, ...] = ()
    mount_points: tuple[str, ...] = ()

    @classmethod
    def parse(cls, config: dict[str, object]) -> LocalfsConfig:
        """Check fields and types.

        Raises:
            Rejected: naming the field.
        """
        for field in config:
            if field not in _FIELDS:
                raise _bad(f"{field!r} is unknown; there are paths, include_hidden and exclude")
        include_hidden = config.get("include_hidden", False)
        if not isinstance(include_hidden, bool):
            raise _bad("include_hidden must be true or false")
        return cls(
            _texts(config, "paths", PATHS_MAX, required=True),
            include_hidden,
            _texts(config, "exclude", PATTERNS_MAX),
            _texts(config, "mount_points", PATHS_MAX),
        )

    def as_dict(self) -> dict[str, object]:
        """Return the form that is stored; fields with their default are left out."""
        canonical: dict[str, object] = {"paths": list(self.paths)}
        if self.include_hidden:
            canonical["include_hidden"] = True
        if self.exclude:
            canonical["exclude"] = list(self.exclude)
        if self.mount_points:
            canonical["mount_points"] = list(self.mount_points)
        return canonical


class AllowedRoots:
    """The folders that the administrator opened to sources, without Sercha's own data."""

    def __init__(self, roots: Roots, own_data_dir: Path | None) -> None:
        self._roots = roots
        self._own_data_dir = own_data_dir

    def own_data(self) -> Identity | None:
        """Identify the own data folder, which can be made or moved while we run."""
        try:
            return Identity.of(os.stat(self._own_data_dir)) if self._own_data_dir else None
        except OSError:
            return None

    def place(self, path: bytes) -> Place | None:
        """Return *path*, which must be absolute and without links, as a place below an allowed root.

        The place starts from the folder above the allowed root, since the root can be a file. None: the
        path is not allowed.
        """
        for root in self._real_roots():
            if is_within(path, root):
                base = os.path.dirname(root)
                names = path[len(base) :].split(b"/")
                return Place(base, tuple(name for name in names if name))
        return None

    def require(self, path: str) -> None:
        """Check that the real path *path* may be read.

        Raises:
            Rejected: it may not, with the reason.
        """
        roots = self._real_roots()
        if not roots:
            raise Rejected(
                "paths: no folder may be read yet; set LOCALFS_ALLOWED_ROOTS to the folders"
                " that sources may use",
                code="path-not-allowed",
            )
        if self.place(os.fsencode(path)) is None:
            allowed = ", ".join(os.fsdecode(root) for root in roots)
            raise Rejected(
                f"paths: {path} is outside of the folders that may be read ({allowed});"
                " LOCALFS_ALLOWED_ROOTS sets them",
                code="path-not-allowed",
            )
        if self._own_data_dir and is_within(
            os.fsencode(path), os.path.realpath(os.fsencode(self._own_data_dir))
        ):
            raise Rejected(
                f"paths: {path} is Sercha's own data folder, which is never searched",
                code="path-not-allowed",
            )

    def _real_roots(self) -> list[bytes]:
        roots = self._roots() if callable(self._roots) else self._roots
        return [os.path.realpath(os.fsencode(root)) for root in roots]


def canonical(config: LocalfsConfig, allowed: AllowedRoots) -> LocalfsConfig:
    """Resolve the paths, check each, merge nested ones, and note which are mounted.

    Raises:
        Rejected: naming the path that is not allowed, missing or unreadable.
    """
    real = sorted({_checked(path, allowed) for path in config.paths}, key=os.fsencode)
    merged = [
        path
        for path in real
        if not any(
            path != other and is_within(os.fsencode(path), os.fsencode(other)) for other in real
        )
    ]
    mounted = tuple(path for path in merged if path != "/" and os.path.ismount(path))
    return LocalfsConfig(tuple(merged), config.include_hidden, config.exclude, mounted)


def is_within(path: bytes, folder: bytes) -> bool:
    """Whether *path* is *folder* or below it; both real and absolute."""
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


def _checked(path: str, allowed: AllowedRoots) -> str:
    if not os.path.isabs(path):
        raise _bad(f"paths: {path!r} is not absolute; give the whole path, from /")
    real = os.path.realpath(path)
    if _CONTROL.search(real):
        raise _bad(f"paths: the name {real!r} holds control characters or is no UTF-8")
    allowed.require(real)
    try:
        mode = os.stat(real).st_mode
        if stat.S_ISDIR(mode):
            with os.scandir(real) as entries:
                next(entries, None)
        elif stat.S_ISREG(mode):
            os.close(os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        else:
            raise _bad(f"paths: {path} is neither a folder nor a regular file")
    except (FileNotFoundError, NotADirectoryError):
        raise Rejected(f"paths: {path} does not exist", code="path-missing") from None
    except OSError as error:
        raise Rejected(
            f"paths: {path} cannot be read ({error.strerror}{mac_hint(error)})",
            code="path-unreadable",
        ) from None
    return real


def _texts(
    config: dict[str, object], field: str, count_max: int, *, required: bool = False
) -> tuple[str, ...]:
    value = config.get(field)
    if value is None and not required:
        return ()
    if not isinstance(value, list | tuple):
        raise _bad(f"{field} must be a list of texts")
    texts = cast("Sequence[object]", value)
    if required and not texts:
        raise _bad(f"{field} must not be empty")
    if len(texts) > count_max:
        raise _bad(f"{field} has {len(texts)} entries; at most {count_max} are allowed")
    return tuple(_text(field, text) for text in texts)


def _text(field: str, text: object) -> str:
    if not isinstance(text, str):
        raise _bad(f"{field} must hold texts only, not {type(text).__name__}")
    if not text.strip("/") and text != "/":
        raise _bad(f"{field} must not hold an empty text")
    if len(text) > FIELD_CHARS_MAX:
        raise _bad(f"{field} holds a text of {len(text)} characters; at most {FIELD_CHARS_MAX}")
    if _CONTROL.search(text):
        raise _bad(f"{field} holds control characters or what is no UTF-8: {text!r}")
    return text


def _bad(reason: str) -> Rejected:
    return Rejected(f"config: {reason}", code="bad-field")
