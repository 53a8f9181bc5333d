"""Fixtures of the tests about embeddings and what is searched with them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.embeddings import EmbeddingEndpoint, running_endpoint
from tests.support.truth import Truth, open_truth


@pytest.fixture
async def truth(postgres_url: str) -> AsyncIterator[Truth]:
    """Give a database with everything that documents, copies and vectors need."""
    async with open_truth(postgres_url) as truth:
        yield truth


@pytest.fixture
def endpoint() -> Iterator[EmbeddingEndpoint]:
    """Give an embedding endpoint whose vectors follow from the words of a text."""
    with running_endpoint() as endpoint:
        yield endpoint
