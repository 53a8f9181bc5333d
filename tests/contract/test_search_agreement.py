"""Every engine finds what the reference engine finds, whatever the documents went through and whatever is asked.

The embedded engine orders by the same arithmetic, but adds whole numbers, so scores that are hardly apart may change
places. Vespa orders words by its own BM25 and fuses by its own rule: there only the order by vectors is compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from sercha.adapters.memory import MemoryIndex
from sercha.adapters.memory.searching import Terms
from sercha.domain.document import DocumentId
from sercha.domain.query import SearchMode, SearchQuery
from sercha.services.ports import Change, DocumentVersion, IndexPage, VerifyReport
from tests.support.engines import ENGINES
from tests.support.random_search import GROUPS, WORDS, random_document, random_queries
from tests.support.search import batches, removed
from tests.support.vector_engines import IndexVectors, VectorEngine, open_vector_engine
from tests.support.vectors import MODEL, query_vector

OTHERS = [name for name in ENGINES if name != "memory"]
DOCUMENTS = 90
"""Fewer than fit on one page."""
ROUNDS, CHANGES, CASES = 3, 120, 60
WORDS_STEP, VECTORS_STEP = 0.005, 0.000_001
"""Scores that are less apart than that may be equal to one engine and not to another."""


def more_changes(random: Random, before: Sequence[Change]) -> list[Change]:
    """Give documents that come, change and go; each state is newer than those before it."""
    versions = {each.document_id: _version(each) for each in before}
    changes: list[Change] = []
    for _ in range(CHANGES):
        number = DocumentId(random.randint(1, DOCUMENTS))
        version = versions.get(number, 0)
        if version and random.random() < 0.2:
            changes.append(removed(number, version=version))
            continue
        versions[number] = version + 1
        changes.append(random_document(random, number, version=version + 1))
    return changes


def _version(change: Change) -> int:
    return change.document.version if change.document else change.buried or 0


def versions_after(changes: Sequence[Change]) -> list[DocumentVersion]:
    """Return what is there in the end."""
    last = {change.document_id: change.document for change in changes}
    return sorted(
        DocumentVersion(each.id, each.version, len(each.chunks)) for each in last.values() if each
    )


async def feed(random: Random, engine: VectorEngine, changes: Sequence[Change]) -> None:
    """Apply all of them, in batches of any size."""
    rest = list(changes)
    while rest:
        size = random.choice([1, 5, 20, 60])
        await engine.apply(rest[:size], None)
        del rest[:size]


def assert_same_order(page: IndexPage, expected: IndexPage, step: float) -> None:
    """Hold the order of *page* against the scores of the reference."""
    scores = {hit.document_id: hit.score for hit in expected.hits}
    for first, second in pairwise(hit.document_id for hit in page.hits):
        assert scores[first] > scores[second] - step, (first, second)


def assert_same_passages(page: IndexPage, reference: MemoryIndex, query: SearchQuery) -> None:
    """Hold the scores and the chunks of *page* against those of the reference."""
    terms = Terms(reference.entries, query)
    scores = terms.scores(hit.document_id for hit in page.hits)
    for hit in page.hits:
        assert abs(scores[hit.document_id] - hit.score) < WORDS_STEP, hit
        of_chunks = terms.chunk_scores(hit.document_id) or [0.0]
        assert of_chunks[hit.chunk_position] > max(of_chunks) - WORDS_STEP, hit


async def agree(random: Random, name: str, engine: VectorEngine, index: MemoryIndex) -> int:
    """Ask both; how many documents were found."""
    found = 0
    reference = IndexVectors(index, [MODEL])
    queries = random_queries(random)
    for _ in range(CASES):
        query = next(queries)
        principals = frozenset(random.sample(GROUPS, k=3))
        vector = query_vector(random.choice([query.text, *WORDS]))
        page = await engine.ask(query, principals, vector)
        expected = await reference.ask(query, principals, vector)
        numbers, wanted = ({hit.document_id for hit in each.hits} for each in (page, expected))
        assert numbers == wanted, (query, principals, numbers ^ wanted)
        assert page.total == expected.total == len(wanted), (query, principals)
        if name == "embedded" and query.mode is SearchMode.TEXT:
            assert_same_order(page, expected, WORDS_STEP)
            assert_same_passages(page, index, query)
        elif query.mode is SearchMode.SEMANTIC:
            assert_same_order(page, expected, VECTORS_STEP)
        found += len(wanted)
    return found


@pytest.mark.parametrize("name", OTHERS)
async def test_engine_finds_what_the_reference_finds(
    name: str, postgres_url: str, seed: int, tmp_path: Path
) -> None:
    """Between the searches documents change; what comes late, an older state, changes nothing in the reference."""
    random, found = Random(seed), 0
    changes: list[Change] = []
    reference = MemoryIndex()
    async with open_vector_engine(name, postgres_url, tmp_path, MODEL) as engine:
        for _ in range(ROUNDS):
            more = more_changes(random, changes)
            changes += more
            late = random.sample(changes, k=30)
            await feed(random, IndexVectors(reference, [MODEL]), [*more, *late])
            # Only one process ever writes to an embedded copy, and in order.
            await feed(random, engine, more if name == "embedded" else [*more, *late])
            truth = versions_after(changes)
            for each in (reference, engine.index):
                assert await each.verify(batches(truth)) == VerifyReport(len(truth))
            found += await agree(random, name, engine, reference)
    assert found > ROUNDS * CASES
