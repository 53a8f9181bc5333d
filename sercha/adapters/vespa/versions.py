"""Which documents, in which version, a generation holds; three numbers each, sorted, in memory."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import AsyncIterable
from contextlib import aclosing

from sercha.adapters.vespa.containers import Containers
from sercha.adapters.vespa.messages import as_object
from sercha.adapters.vespa.names import DOCUMENT
from sercha.adapters.vespa.visits import visit
from sercha.domain.document import DocumentId
from sercha.services.compare import RANGE_DOCUMENTS, compare
from sercha.services.ports import DocumentVersion, VerifyReport

_FIELDS = f"{DOCUMENT}:number,version,chunk_count,deleted"


class HeldVersions:
    """What was found by going through a generation once."""

    def __init__(self, found: dict[int, tuple[int, int]]) -> None:
        self._numbers = array("q", sorted(found))
        self._versions = array("q", (found[number][0] for number in self._numbers))
        self._chunk_counts = array("q", (found[number][1] for number in self._numbers))

    async def compare(self, truth: AsyncIterable[list[DocumentVersion]]) -> VerifyReport:
        """Count the differences to *truth*, which comes in ascending batches."""
        return await compare(truth, self._read)

    async def _read(self, above: int, through: int) -> list[DocumentVersion]:
        start = bisect_right(self._numbers, above)
        end = min(bisect_right(self._numbers, through), start + RANGE_DOCUMENTS)
        return [
            DocumentVersion(
                DocumentId(self._numbers[at]), self._versions[at], self._chunk_counts[at]
            )
            for at in range(start, end)
        ]


async def read_versions(containers: Containers, generation: str, cluster: str) -> HeldVersions:
    """Go through *generation*; tombstones are left out.

    Raises:
        Unavailable: Vespa does not answer (``vespa-away``).
    """
    found: dict[int, tuple[int, int]] = {}
    if generation:
        async with aclosing(visit(containers, generation, DOCUMENT, cluster, _FIELDS)) as pages:
            async for page in pages:
                for each in page:
                    fields = as_object(each.get("fields"))
                    if not fields.get("deleted", 0) and "number" in fields:
                        found[fields["number"]] = (fields["version"], fields["chunk_count"])
    return HeldVersions(found)
