"""Folders as engines keep them."""

from __future__ import annotations

import hashlib

from sercha.domain.filters import folder, folders


def folder_key(path: str) -> str:
    """Return a name for a folder of any length and with any characters."""
    return _digest(folder(path))


def folder_keys(path: str) -> list[str]:
    """Return the names of all folders that a path lies in, and of the path itself."""
    return [_digest(each) for each in folders(path)]


def _digest(spelled: str) -> str:
    return hashlib.sha256(spelled.encode("utf-8", "surrogatepass")).hexdigest()[:32]
