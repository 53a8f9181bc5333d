"""Folders as engines keep them."""

from __future__ import annotations

import hashlib
from functools import lru_cache

from sercha.domain.filters import folder, folders

_FOLDERS_MAX = 4_096


def folder_key(path: str) -> str:
    """Return a name for a folder of any length and with any characters."""
    return _digest(folder(path))


def folder_keys(path: str) -> list[str]:
    """Return the names of all folders that a path lies in, and of the path itself."""
    whole = folder(path)
    above, _, name = whole.rpartition("/")
    return [*_keys_of_folder(above), _digest(whole)] if name else [*_keys_of_folder(above)]


@lru_cache(_FOLDERS_MAX)
def _keys_of_folder(path: str) -> tuple[str, ...]:
    """Do it once for all files of a folder: a folder is often indexed as a whole."""
    return tuple(_digest(each) for each in folders(path))


def _digest(spelled: str) -> str:
    return hashlib.sha256(spelled.encode("utf-8", "surrogatepass")).hexdigest()[:32]
