"""Whoever asks, whatever they ask, in whichever mode: nothing is found that they may not read or did not ask for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pytest

from sercha.domain.query import SearchMode
from tests.support.engines import ENGINES
from tests.support.random_search import GROUPS, WORDS, allowed, random_document, random_queries
from tests.support.vector_engines import VectorEngine, open_vector_engine
from tests.support.vectors import MODEL, query_vector

DOCUMENTS = 120
CASES = {"memory": 1_500, "embedded": 2_000, "vespa": 1_500}
PROOF = 20
"""So many times as many in the long run: 100,000 in all."""


async def nothing_forbidden(
    engine: VectorEngine, random: Random, cases: int
) -> Counter[SearchMode]:
    """Ask that often; how many documents were found in each mode."""
    changes = [random_document(random, number) for number in range(1, DOCUMENTS + 1)]
    await engine.apply(changes, None)
    found: Counter[SearchMode] = Counter()
    for number, query in enumerate(random_queries(random)):
        if number == cases:
            return found
        principals = frozenset(random.sample(GROUPS, k=random.randint(0, 3)))
        may_be_found = allowed(changes, query, principals)
        vector = query_vector(random.choice([query.text, *WORDS]))
        page = await engine.ask(query, principals, vector)
        seen = {hit.document_id for hit in page.hits}
        assert seen <= may_be_found, (query, principals)
        assert page.total <= len(may_be_found), (query, principals)
        found[query.mode] += len(seen)
    raise AssertionError


@pytest.mark.parametrize("name", ENGINES)
async def test_nothing_is_found_that_may_not_be_read(
    name: str, postgres_url: str, seed: int, tmp_path: Path
) -> None:
    async with open_vector_engine(name, postgres_url, tmp_path, MODEL) as engine:
        found = await nothing_forbidden(engine, Random(seed), CASES[name])
    assert min(found[mode] for mode in SearchMode) > CASES[name] / 10


@pytest.mark.proof
@pytest.mark.parametrize("name", ENGINES)
async def test_nothing_is_found_that_may_not_be_read_in_many_cases(
    name: str, postgres_url: str, seed: int, tmp_path: Path
) -> None:
    async with open_vector_engine(name, postgres_url, tmp_path, MODEL) as engine:
        cases = PROOF * CASES[name]
        found = await nothing_forbidden(engine, Random(seed), cases)
    counts = ", ".join(f"{found[mode]} in mode {mode}" for mode in SearchMode)
    print(f"{name}: {cases} searches; found {counts}; none forbidden")
    assert min(found[mode] for mode in SearchMode) > cases / 10
