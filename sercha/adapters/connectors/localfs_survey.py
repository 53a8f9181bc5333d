"""Counting a folder before it is read: what a sync will read, and what it will leave out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from sercha.services.ports import ItemPage

_WORDS: Mapping[str, str] = {
    "too-large": "too large",
    "not-a-file": "no files",
    "broken-link": "links to nowhere",
    "link-outside": "links out of the folder",
    "path-too-long": "with too long a path",
    "placeholder": "only in a cloud",
    "unreadable": "unreadable",
}


@dataclass(frozen=True, slots=True)
class Survey:
    """What a walk over a source's folders has met."""

    files: int
    """Files to read; which of them are no texts shows when they are read."""
    bytes: int
    left_out: Mapping[str, int]
    """Entries for each reason, most first; a folder counts as one."""
    is_whole: bool
    """All of it was counted; else the time was up, and there is more."""


class Tally:
    """Counts pages of a walk, and what the walk says it leaves out."""

    def __init__(self) -> None:
        self._files = 0
        self._bytes = 0
        self._left_out: Counter[str] = Counter()

    def add(self, page: ItemPage) -> None:
        """Count a page."""
        self._files += len(page.items)
        self._bytes += sum(item.size for item in page.items)
        self._left_out.update(_WORDS.get(issue.code, issue.code) for issue in page.issues)

    def leave_out(self, reason: str) -> None:
        """Count an entry that no page shows; called in the walk's thread, one at a time."""
        self._left_out[reason] += 1

    def result(self, *, is_whole: bool) -> Survey:
        """Return what was counted so far."""
        return Survey(self._files, self._bytes, dict(self._left_out.most_common()), is_whole)
