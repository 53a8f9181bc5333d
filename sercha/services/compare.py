"""Comparing a copy with the truth, a range of ids at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterable, Awaitable, Callable, Sequence

from sercha.services.ports import DocumentVersion, VerifyReport

RANGE_DOCUMENTS = 1_000
EXAMPLES_MAX = 10
_ID_MAX = 2**63 - 1

ReadVersions = Callable[[int, int], Awaitable[list[DocumentVersion]]]
"""The copy's documents with ids above the first and up to the second, ascending, at most
`RANGE_DOCUMENTS` of them."""


async def compare(truth: AsyncIterable[list[DocumentVersion]], read: ReadVersions) -> VerifyReport:
    """Count what is missing, stale or a ghost in the copy; holds one batch of each side in memory."""
    tally = _Tally()
    above = -1
    async for batch in truth:
        if not batch:
            continue
        through = batch[-1].id
        tally.add(batch, await _read_range(read, above, through))
        above = through
    while ghosts := await read(above, _ID_MAX):
        tally.add([], ghosts)
        above = ghosts[-1].id
    return tally.report()


async def _read_range(read: ReadVersions, above: int, through: int) -> list[DocumentVersion]:
    found: list[DocumentVersion] = []
    while above < through and (page := await read(above, through)):
        found.extend(page)
        above = page[-1].id
    return found


class _Tally:
    """Counts differences and keeps the first few as examples."""

    def __init__(self) -> None:
        self._checked = 0
        self._counts: Counter[str] = Counter()
        self._examples: list[str] = []

    def add(self, truth: Sequence[DocumentVersion], copy: Sequence[DocumentVersion]) -> None:
        """Compare everything that both sides have in one range of ids."""
        self._checked += len(truth)
        entries: dict[int, list[DocumentVersion]] = {}
        for entry in copy:
            entries.setdefault(entry.id, []).append(entry)
        for expected in truth:
            found = entries.pop(expected.id, [])
            if not found:
                self._count("missing", expected.id, f"version {expected.version}")
            elif found != [expected]:
                self._count(
                    "stale", expected.id, f"expected {_show([expected])}, found {_show(found)}"
                )
        for number, found in entries.items():
            self._count("ghost", number, _show(found))

    def _count(self, kind: str, number: int, detail: str) -> None:
        self._counts[kind] += 1
        if len(self._examples) < EXAMPLES_MAX:
            self._examples.append(f"{kind}: document {number}, {detail}")

    def report(self) -> VerifyReport:
        return VerifyReport(
            checked=self._checked,
            missing=self._counts["missing"],
            stale=self._counts["stale"],
            ghost=self._counts["ghost"],
            examples=tuple(self._examples),
        )


def _show(entries: Sequence[DocumentVersion]) -> str:
    return " and ".join(f"version {it.version} with {it.chunk_count} chunks" for it in entries)
