"""What the three formats of Office Open XML have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from typing import Any

from sercha.adapters.parsing.builder import Facts

_etree: Any = import_module("lxml.etree")  # has no types

FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
"""Repeats for older programs what stands beside it."""

_PROPERTIES = {
    "author": "author",
    "creator": "author",
    "created": "created",
    "modified": "modified",
    "language": "language",
}


def note_properties(facts: Facts, properties: Any) -> None:
    """Take title, author, dates and language from a library's view of the core properties."""
    with suppress(ValueError, KeyError, AttributeError, TypeError):
        facts.name(properties.title)
    for name, key in _PROPERTIES.items():
        # Each may be malformed by itself.
        with suppress(ValueError, KeyError, AttributeError, TypeError):
            facts.note(key, getattr(properties, name))


def parse_xml(content: bytes) -> Any:
    """Parse XML without resolving entities; libxml2 bounds depth and size."""
    return _etree.fromstring(
        content, _etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)
    )


def walk(element: Any, skipped: frozenset[str]) -> Iterator[Any]:
    """Give the elements below *element* in order, without those *skipped* and what is in them."""
    stack = [iter(element)]
    while stack:
        for child in stack[-1]:
            if not isinstance(child.tag, str) or child.tag in skipped:
                continue
            yield child
            stack.append(iter(child))
            break
        else:
            stack.pop()
