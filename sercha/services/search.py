"""From a parsed query to a page of results: the index finds, the truth gives the text."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter_ns

import structlog

from sercha.domain.document import Chunk, Document
from sercha.domain.query import SearchMode, SearchQuery
from sercha.domain.snippet import Snippet, make_snippet
from sercha.services.ports import DocumentStore, IndexPage, SearchIndex
from sercha.services.ports.documents import Twin
from sercha.services.ports.vector_search import VectorSearch
from sercha.services.query_vectors import QueryVectors
from sercha.telemetry import metrics

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One document with the chunk that matched best."""

    document: Document
    chunk: Chunk
    content: str
    score: float
    snippet: Snippet
    twins: tuple[Twin, ...] = ()
    """Where the very same content is too; such documents are not on the page by themselves."""


@dataclass(frozen=True, slots=True)
class SearchPage:
    """One page of results."""

    query: SearchQuery
    mode: SearchMode
    """The mode that answered; hybrid and semantic fall back to text where there is no embedder."""
    results: tuple[SearchResult, ...]
    total: int
    took_ns: int
    coverage: int = 100
    """Percentage of the documents that were searched."""
    degraded: tuple[str, ...] = ()
    """Why the page may lack results; empty: it does not."""


class Search:
    """Answers queries on one index."""

    def __init__(
        self,
        index: SearchIndex,
        documents: DocumentStore,
        vectors: QueryVectors | None = None,
        by_vector: VectorSearch | None = None,
    ) -> None:
        """Without *vectors* and *by_vector* everything is answered by text."""
        self._index = index
        self._documents = documents
        self._vectors = vectors
        self._by_vector = by_vector

    async def search(self, query: SearchQuery, principals: frozenset[str]) -> SearchPage:
        """Find documents that *principals* may read, those with the same content once.

        A hit whose document was deleted, or closed to the caller, after the index saw it is left out, and so is
        a twin of one before it; so a page may be shorter than its limit. Cancellation only stops reading.
        """
        started_ns = perf_counter_ns()
        mode, page = await self._find(query, principals)
        passages = await self._documents.passages(
            [(hit.document_id, hit.chunk_position) for hit in page.hits], principals
        )
        results: list[SearchResult] = []
        shown: set[bytes] = set()
        for hit in page.hits:
            passage = passages.get(hit.document_id)
            if passage is None or passage.content_hash in shown:
                continue
            if passage.content_hash is not None:
                shown.add(passage.content_hash)
            spans = self._index.spans(query, passage.content)
            results.append(
                SearchResult(
                    document=passage.document,
                    chunk=passage.chunk,
                    content=passage.content,
                    score=hit.score,
                    snippet=make_snippet(passage.content, spans),
                    twins=passage.twins,
                )
            )
        took_ns = perf_counter_ns() - started_ns
        metrics.SEARCHES.labels(mode).inc()
        metrics.SEARCH_DURATION.observe(took_ns / 1e9)
        if page.degraded:
            metrics.SEARCHES_DEGRADED.inc()
            _log.warning("search.degraded", coverage=page.coverage, reasons=page.degraded)
        return SearchPage(
            query=query,
            mode=mode,
            results=tuple(results),
            total=page.total,
            took_ns=took_ns,
            coverage=page.coverage,
            degraded=page.degraded,
        )

    async def _find(
        self, query: SearchQuery, principals: frozenset[str]
    ) -> tuple[SearchMode, IndexPage]:
        """Return hits, and the mode that gave them: by text where there is no vector, or no use of it."""
        if query.mode is not SearchMode.TEXT and self._vectors and self._by_vector:
            vector = await self._vectors.find(query.text)
            if vector is not None:
                page = await self._by_vector.search_vectors(query, principals, vector)
                if page is not None:
                    return query.mode, page
        return SearchMode.TEXT, await self._index.search(query, principals)
