"""What a walk over folders leaves out without a word: hidden files, tools' output, editors' leftovers.

Folders named ``build``, ``dist`` or ``target`` may well hold documents; they are left out only when they say
themselves that they are a cache (``CACHEDIR.TAG``, see https://bford.info/cachedir/).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

BUILD_FOLDERS = frozenset(
    {
        b".eggs",
        b".git",
        b".gradle",
        b".hg",
        b".mypy_cache",
        b".nox",
        b".pytest_cache",
        b".ruff_cache",
        b".svn",
        b".terraform",
        b".tox",
        b".venv",
        b"__pycache__",
        b"bower_components",
        b"node_modules",
    }
)
"""Left out also where hidden files are asked for."""

VENV_MARK = b"pyvenv.cfg"
"""A folder with this file is a virtual environment of Python."""
CACHE_TAG = b"CACHEDIR.TAG"
CACHE_TAG_SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"

HIDDEN, TOOLS, LEFTOVER, EXCLUDED = ("hidden", "of tools", "left by editors", "excluded")
"""Why an entry is left out, in words that follow a number."""

_LEFTOVERS = (b"~", b".swp", b".swo", b".swx")


class LeaveOut:
    """Decides by name and path; patterns are compiled once."""

    def __init__(self, *, include_hidden: bool, exclude: Sequence[str]) -> None:
        self._include_hidden = include_hidden
        self._patterns = [_Pattern(pattern) for pattern in exclude]

    def reason(self, name: bytes, path: Sequence[str], *, is_folder: bool) -> str | None:
        """Return why to leave out the entry *name*, at *path* below the source's folder; None: take it."""
        if is_folder and name in BUILD_FOLDERS:
            return TOOLS
        if name.startswith(b".") and not self._include_hidden:
            return HIDDEN
        if not is_folder and (name.endswith(_LEFTOVERS) or (name[:1] == b"#" == name[-1:])):
            return LEFTOVER
        if any(pattern.matches(path, is_folder=is_folder) for pattern in self._patterns):
            return EXCLUDED
        return None


class _Pattern:
    """A glob: without a slash it means a name anywhere, else a path below the source's folder.

    ``*`` and ``?`` stay within a name, ``**`` stands for any number of folders, a slash at the end means
    folders only. What matches a folder leaves out all below it.
    """

    def __init__(self, pattern: str) -> None:
        self._is_folder_only = pattern.endswith("/")
        parts = [part for part in pattern.strip("/").split("/") if part]
        if len(parts) == 1 and not pattern.startswith("/"):
            parts.insert(0, "**")
        # The expressions that fnmatch makes do not backtrack over their stars.
        self._parts = [
            None if part == "**" else re.compile(fnmatch.translate(part)) for part in parts
        ]

    def matches(self, path: Sequence[str], *, is_folder: bool) -> bool:
        if self._is_folder_only and not is_folder:
            return False
        # reached[i]: the first i parts of the pattern can match the names seen so far.
        reached = self._skip_stars([True] + [False] * len(self._parts))
        for name in path:
            following = [False] * len(reached)
            for index, part in enumerate(self._parts):
                if reached[index] and part is None:
                    following[index] = True
                elif reached[index] and part is not None and part.match(name):
                    following[index + 1] = True
            reached = self._skip_stars(following)
        return reached[-1]

    def _skip_stars(self, reached: list[bool]) -> list[bool]:
        for index, part in enumerate(self._parts):
            if reached[index] and part is None:
                reached[index + 1] = True
        return reached
