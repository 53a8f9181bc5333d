"""Documents and searches with vectors, made of their words by the stand-in's rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sercha.domain.embedding import EmbeddingModel, Vector, embedded_text
from sercha.services.ports import Change
from sercha.services.ports.vector_search import QueryVector
from tests.support.embeddings import DIMENSIONS, vector_of

MODEL = EmbeddingModel("http://localhost/v1", "words", DIMENSIONS)
OTHER = EmbeddingModel("http://localhost/v1", "others", 16)


def _always(text: str) -> bool:
    return True


def embedded(
    change: Change,
    *models: EmbeddingModel,
    number: int = 1,
    has_vector: Callable[[str], bool] = _always,
) -> Change:
    """Give the document of *change* vectors; *has_vector* says of each chunk's text whether it gets one."""
    document = change.document
    assert document is not None
    texts = [
        embedded_text(each.heading, document.text[each.start : each.end])
        for each in document.chunks
    ]
    vectors: dict[str, tuple[Vector | None, ...]] = {
        model.name: tuple(
            Vector.unit(vector_of(text, model.dimensions)) if has_vector(text) else None
            for text in texts
        )
        for model in models or (MODEL,)
    }
    return replace(change, document=replace(document, vectors=vectors, vectors_number=number))


def query_vector(text: str, model: EmbeddingModel = MODEL) -> QueryVector:
    """Return the vector of a search."""
    return QueryVector(model.name, Vector.unit(vector_of(text, model.dimensions)))
