"""Whoever asks, whatever they ask: nothing is found that they may not read or did not ask for, in any engine."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from sercha.services.ports import SearchIndex
from tests.support.engines import ENGINES, open_engine
from tests.support.search_cases import GROUPS, allowed, documents, queries

DOCUMENTS = 120
CASES, CASES_PROOF = 2_500, 50_000


async def nothing_forbidden(engine: SearchIndex, random: Random, cases: int) -> int:
    """Ask that often; how many documents were found in all."""
    changes = documents(random, DOCUMENTS)
    await engine.apply(changes, None)
    found = 0
    for number, query in enumerate(queries(random)):
        if number == cases:
            return found
        principals = frozenset(random.sample(GROUPS, k=random.randint(0, 3)))
        may_be_found = allowed(changes, query, principals)
        page = await engine.search(query, principals)
        seen = {hit.document_id for hit in page.hits}
        assert seen <= may_be_found, (query, principals)
        assert page.total <= len(may_be_found), (query, principals)
        found += len(seen)
    raise AssertionError


@pytest.mark.parametrize("name", ENGINES)
async def test_nothing_is_found_that_may_not_be_read(name: str, seed: int, tmp_path: Path) -> None:
    async with open_engine(name, tmp_path) as engine:
        assert await nothing_forbidden(engine, Random(seed), CASES) > CASES


@pytest.mark.proof
@pytest.mark.parametrize("name", ENGINES)
async def test_nothing_is_found_that_may_not_be_read_in_many_cases(
    name: str, seed: int, tmp_path: Path
) -> None:
    async with open_engine(name, tmp_path) as engine:
        found = await nothing_forbidden(engine, Random(seed), CASES_PROOF)
    print(f"{name}: {CASES_PROOF} searches, {found} documents found, none forbidden")
    assert found > CASES_PROOF
