"""Query profiles: only the limits ``maxHits`` and ``maxOffset``; anything else in one is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from xml.etree.ElementTree import Element

from tests.vespa.model import QueryProfile

FOLDER = "search/query-profiles/"
_LIMITS = {"maxHits": "hits_max", "maxOffset": "offset_max"}


def read_profile(path: str, root: Element) -> QueryProfile:
    """Read one file.

    Raises:
        ValueError: it is not named after its id, or has what is not supported here.
    """
    name = root.get("id")
    if root.tag != "query-profile" or not name:
        raise ValueError(f"{path}: a query profile needs an id")
    if PurePosixPath(path).stem != name:
        raise ValueError(f"The file name of '{path}' does not match the id '{name}'")
    limits: dict[str, int] = {}
    for field in root:
        key, text = field.get("name", ""), (field.text or "").strip()
        if field.tag != "field" or key not in _LIMITS:
            raise ValueError(f"{path}: '{key or field.tag}' is not supported")
        if not text.isdecimal():
            raise ValueError(f"{path}: '{text}' of '{key}' is not a valid integer")
        limits[_LIMITS[key]] = int(text)
    return QueryProfile(name, **limits)


def with_default(profiles: Mapping[str, QueryProfile]) -> dict[str, QueryProfile]:
    """Add the profile that each application has."""
    return {"default": QueryProfile("default"), **profiles}
