"""The embedded engine: Tantivy in this process, as a consumer of the change feed.

One lane writes (one task at a time, in one thread); searches run in threads beside it, each on the state of the last
commit. A copy whose files are damaged is never repaired: it is thrown away, `position` says None, and its
follower fills a new one from the truth.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog
import trio

from sercha.adapters.embedded_index.engine import EngineFailure, guarded
from sercha.adapters.embedded_index.entries import schema_hash
from sercha.adapters.embedded_index.local_copy import CopyDamaged, CopyStatistics, LocalCopy
from sercha.adapters.embedded_index.searching import search
from sercha.adapters.embedded_index.storage import claim_slot
from sercha.adapters.embedded_index.surveying import chunks, judge, survey
from sercha.adapters.embedded_index.verifying import read_versions
from sercha.adapters.text_analysis.spans import find_spans
from sercha.adapters.text_analysis.terms import plan_terms
from sercha.domain.document import DocumentId
from sercha.domain.query import SearchQuery
from sercha.errors import Transient
from sercha.services.compare import compare
from sercha.services.ports import (
    Change,
    DocumentVersion,
    FeedPosition,
    IndexPage,
    VerifyReport,
)
from sercha.services.ports.vector_search import Survey

SEARCHES_MAX = 8
"""Searches of one process that run at the same time; others wait for their turn."""

_T = TypeVar("_T")

log = structlog.get_logger()


@asynccontextmanager
async def open_embedded_index(directory: Path) -> AsyncGenerator[EmbeddedIndex]:
    """Open this process's own copy below *directory*, an empty one when the files are damaged.

    The slot is free for others when the block ends, also when it is cancelled.

    Raises:
        Transient: no slot is free, or the folder cannot be written.
    """
    generation = f"embedded-{schema_hash()}"
    slot = await trio.to_thread.run_sync(claim_slot, directory, generation)
    try:
        copy = LocalCopy(slot)
        index = EmbeddedIndex(generation, copy)
        await index.open()
        try:
            yield index
        finally:
            with trio.CancelScope(shield=True):  # bounded by the merges that are running
                await index.close()
    finally:
        slot.release()


class EmbeddedIndex:
    """Satisfies `sercha.services.ports.SearchIndex` and `WordIndex`; made by `open_embedded_index`."""

    def __init__(self, generation: str, copy: LocalCopy) -> None:
        self.generation = generation
        self._copy = copy
        self._lane = trio.Lock()
        self._write_limiter = trio.CapacityLimiter(1)
        self._search_limiter = trio.CapacityLimiter(SEARCHES_MAX)

    @property
    def consumer_id(self) -> str:
        """Whom the change feed knows this copy as; the same for a slot across restarts."""
        return self._copy.consumer_id

    async def open(self) -> None:
        """Load the copy; a damaged one is replaced by an empty one."""
        await self._write(self._copy.open)

    async def close(self) -> None:
        """Finish what is being written and let go of the files; safe to call twice."""
        async with self._lane:
            await self._in_thread(self._copy.close)

    async def position(self) -> FeedPosition | None:
        """How far this copy is; None: it is empty or damaged, `replace` it."""
        return self._copy.position

    async def apply(self, changes: Sequence[Change], position: FeedPosition | None) -> None:
        """Make *changes* durable and searchable, with *position* in the same commit.

        Cancelled: rolled back, unless the commit had begun; then it is completed.

        Raises:
            Transient: it could not be written; the last commit still answers. Code ``index-damaged``: the
                copy is lost, `position` is None from now on.
        """
        await self._write(partial(self._copy.apply, changes, position))

    async def replace(
        self, batches: AsyncIterable[Sequence[Change]], position: FeedPosition
    ) -> None:
        """Put *batches* in the place of everything there is, in one commit with *position*.

        The old content answers until then, and stays when this is cancelled or *batches* raises; a damaged
        copy has none to answer with. Other writes wait meanwhile. The caller closes *batches*.

        Raises:
            Transient: as in `apply`.
        """
        async with self._lane:
            with translated("replaced"):
                try:
                    await self._in_thread(self._copy.begin_replacing)
                    async for batch in batches:
                        await self._in_thread(partial(self._copy.stage, batch))
                    await self._in_thread(partial(self._copy.commit, position))
                except BaseException as error:
                    with trio.CancelScope(shield=True):
                        await self._in_thread(self._copy.undo)
                        if isinstance(error, EngineFailure):
                            await self._in_thread(self._copy.check)
                    raise

    async def search(self, query: SearchQuery, principals: frozenset[str]) -> IndexPage:
        """Find documents whose readers meet *principals*; off the loop, abandoned when cancelled.

        Raises:
            Transient: the copy is damaged (code ``index-damaged``) and answers again when it is refilled.
        """
        return await self._read(partial(self._answer, query, principals))

    def _answer(self, query: SearchQuery, principals: frozenset[str]) -> IndexPage:
        return search(self._copy.schema, self._copy.searcher, plan_terms(query), query, principals)

    async def survey(
        self, query: SearchQuery, principals: frozenset[str], *, ranked: int
    ) -> Survey | None:
        """Say what may be found, and the best *ranked* by words; None: nothing can be.

        Raises:
            Transient: as in `search`.
        """

        def work() -> Survey | None:
            copy = self._copy
            return survey(copy.schema, copy.searcher, plan_terms(query), query, principals, ranked)

        return await self._read(work)

    async def judge(
        self,
        query: SearchQuery,
        principals: frozenset[str],
        document_ids: Sequence[DocumentId],
        *,
        by_words: bool,
    ) -> frozenset[DocumentId]:
        """Return which of these documents pass; with *by_words* which of them match.

        Raises:
            Transient: as in `search`.
        """

        def work() -> frozenset[DocumentId]:
            copy, plans = self._copy, plan_terms(query)
            return judge(
                copy.schema, copy.searcher, plans, query, principals, document_ids, by_words
            )

        return await self._read(work)

    async def best_chunks(
        self, query: SearchQuery, document_ids: Sequence[DocumentId]
    ) -> dict[DocumentId, int]:
        """Return the chunk with most of the query's words, of those documents that have one with any.

        Raises:
            Transient: as in `search`.
        """

        def work() -> dict[DocumentId, int]:
            copy = self._copy
            return chunks(copy.schema, copy.searcher, plan_terms(query), document_ids)

        return await self._read(work)

    def spans(self, query: SearchQuery, text: str) -> list[tuple[int, int]]:
        """Where the query's terms are in *text*, as the index sees words; for texts of snippet size."""
        with translated("marked"), guarded("marking"):
            return find_spans(plan_terms(query), text)

    async def verify(self, truth: AsyncIterable[list[DocumentVersion]]) -> VerifyReport:
        """Compare with the truth, which comes in ascending batches.

        Changes that are applied meanwhile may show as differences: verify again before you believe them.
        """
        return await compare(truth, self._versions)

    async def _versions(self, above: int, through: int) -> list[DocumentVersion]:
        def read() -> list[DocumentVersion]:
            return read_versions(self._copy.schema, self._copy.searcher, above, through)

        return await self._read(read)

    async def statistics(self) -> CopyStatistics:
        """Count documents, chunks and bytes, for metrics."""
        return await self._read(self._copy.statistics)

    async def _read(self, work: Callable[[], _T]) -> _T:
        def read() -> _T:
            with guarded("searching"):
                return work()

        with translated("searched"):
            try:
                return await trio.to_thread.run_sync(
                    read, abandon_on_cancel=True, limiter=self._search_limiter
                )
            except CopyDamaged:
                raise
            except EngineFailure:
                await self._in_thread(self._copy.check)
                raise

    async def _write(self, work: Callable[[], None]) -> None:
        async with self._lane:
            with translated("written"):
                await self._in_thread(work)

    async def _in_thread(self, work: Callable[[], None]) -> None:
        await trio.to_thread.run_sync(work, limiter=self._write_limiter)


@contextmanager
def translated(verb: str) -> Generator[None]:
    """Turn the engine's failures into errors that callers know."""
    try:
        yield
    except EngineFailure as error:
        code = "index-damaged" if isinstance(error, CopyDamaged) else "index-failed"
        log.warning("index.failed", doing=verb, code=code, error=str(error))
        raise Transient(f"the index could not be {verb}: {error}", code=code) from error
