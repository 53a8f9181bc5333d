"""One copy on disk: opening, writing, and what happens when it is damaged. Everything here blocks.

Writing is for one thread at a time. `searcher` and `position` are replaced as a whole after each commit, so
that any thread may read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog
import tantivy
import trio
from tantivy import Query

from sercha.adapters.embedded_index import engine
from sercha.adapters.embedded_index.engine import EngineFailure, guarded
from sercha.adapters.embedded_index.entries import (
    KIND_CHUNK,
    KIND_DOCUMENT,
    KIND_POSITION,
    build_schema,
    entries,
    position_entry,
    read_position,
    register_analyzers,
)
from sercha.adapters.embedded_index.storage import Slot, damage
from sercha.services.ports import Change, FeedPosition

HEAP_BYTES = 32_000_000
"""What the writer gathers in memory before it writes a segment; Tantivy asks for 15 MB at least."""

log = structlog.get_logger()


class CopyDamaged(EngineFailure):
    """The files are not what was written; only throwing them away helps."""


@dataclass(frozen=True, slots=True)
class CopyStatistics:
    """What one copy holds, for metrics."""

    documents: int
    chunks: int
    bytes_on_disk: int
    segments: int
    commits: int
    """Since this process opened the copy."""


class LocalCopy:
    """Tantivy's index in one slot."""

    def __init__(self, slot: Slot) -> None:
        self.schema = build_schema()
        self.position: FeedPosition | None = None
        self.is_damaged = False
        self._slot = slot
        self._index: tantivy.Index | None = None
        self._writer: tantivy.IndexWriter | None = None
        self._searcher: tantivy.Searcher | None = None
        self._commits = 0

    @property
    def consumer_id(self) -> str:
        """The slot's identity in the change feed."""
        return self._slot.consumer_id

    @property
    def searcher(self) -> tantivy.Searcher:
        """The state of the last commit."""
        if self._searcher is None or self.is_damaged:
            raise CopyDamaged("the copy is being rebuilt")
        return self._searcher

    def open(self) -> None:
        """Load what is there; throw it away when it is damaged or belongs to another slot."""
        reason = damage(self._slot.files)
        if reason is None and self._slot.is_new and any(self._slot.files.iterdir()):
            reason = "the folder is a copy of another one"
        if reason is None:
            try:
                self._load()
            except EngineFailure as error:
                reason = str(error)
            else:
                if self.position is None or self.position.consumer_id == self.consumer_id:
                    return
                reason = f"it belongs to {self.position.consumer_id}"
        log.warning("index.discarded", path=str(self._slot.path), reason=reason)
        self.reset()

    def reset(self) -> None:
        """Replace the copy by an empty one."""
        self._unload()
        self._slot.wipe()
        self._load()

    def apply(self, changes: Sequence[Change], position: FeedPosition | None) -> None:
        """Write and commit; on any failure or cancellation everything since the last commit is undone."""
        if self.is_damaged:
            raise CopyDamaged("the copy is damaged: put new content in its place")
        if self._writer is None:
            self._load()
        try:
            self.stage(changes)
            self.commit(position)
        except BaseException as error:
            self.undo()
            if isinstance(error, EngineFailure):
                self.check()
            raise

    def begin_replacing(self) -> None:
        """Stage the removal of everything; a damaged copy is wiped and answers nothing until `commit`."""
        if self.is_damaged:
            self.reset()
            self.is_damaged = True
            return
        if self._writer is None:
            self._load()
        with guarded("writing"):
            assert self._writer is not None
            self._writer.delete_documents_by_query(Query.all_query())

    def stage(self, changes: Sequence[Change]) -> None:
        """Write without a commit; to be called in a thread of Trio's, where a cancellation ends it."""
        writer = self._writer
        assert writer is not None
        with guarded("writing"):
            for change in changes:
                trio.from_thread.check_cancelled()
                writer.delete_documents_by_term("document_id", change.document_id)
                if change.document is not None:
                    for entry in entries(change.document):
                        writer.add_document(entry)

    def commit(self, position: FeedPosition | None) -> None:
        """Make what was staged durable and searchable, with *position* if there is one."""
        index, writer = self._index, self._writer
        assert index is not None
        assert writer is not None
        trio.from_thread.check_cancelled()
        with guarded("writing"):
            if position is not None:
                writer.delete_documents_by_term("kind", KIND_POSITION)
                writer.add_document(position_entry(position))
            writer.commit()
            self._commits += 1
            self.position = position or self.position
            index.reload()
            self._searcher = index.searcher()
            self.is_damaged = False

    def undo(self) -> None:
        """Forget what was staged; a writer that cannot is replaced at the next write."""
        if self._writer is None:
            return
        try:
            with guarded("rolling back"):
                self._writer.rollback()
        except EngineFailure as error:
            log.warning("index.failed", doing="rolling back", error=str(error))
            self._drop_writer()

    def check(self) -> None:
        """Find out whether a failure came from damaged files.

        Raises:
            CopyDamaged: it did; the copy answers nothing until it is `reset`.
        """
        reason = damage(self._slot.files)
        if reason is not None:
            log.error("index.damaged", path=str(self._slot.path), reason=reason)
            self.is_damaged = True
            self.position = None
            raise CopyDamaged(reason)

    def close(self) -> None:
        """Wait for merges, which would otherwise go on behind the back of the slot's next owner."""
        self._unload()

    def statistics(self) -> CopyStatistics:
        """Count what the last commit holds."""
        with guarded("counting"):
            searcher = self.searcher
            documents, chunks = (
                engine.count(searcher, Query.term_query(self.schema, "kind", kind))
                for kind in (KIND_DOCUMENT, KIND_CHUNK)
            )
            segments = searcher.num_segments
        return CopyStatistics(
            documents, chunks, self._slot.bytes_on_disk(), segments, self._commits
        )

    def _load(self) -> None:
        with guarded("opening"):
            index = tantivy.Index(self.schema, str(self._slot.files))
            register_analyzers(index)
            index.config_reader("manual")
            index.reload()
            searcher = index.searcher()
            position = self._read_position(searcher)
            self._writer = index.writer(HEAP_BYTES, 1)
        self._index, self._searcher, self.position = index, searcher, position
        self.is_damaged = False

    def _read_position(self, searcher: tantivy.Searcher) -> FeedPosition | None:
        query = Query.term_query(self.schema, "kind", KIND_POSITION)
        hits, _ = engine.top(searcher, query, 1)
        return read_position(searcher.doc(hits[0][1])) if hits else None

    def _unload(self) -> None:
        self._index = self._searcher = self.position = None
        self._drop_writer()

    def _drop_writer(self) -> None:
        """Wait for its merges and free the lock in the folder, which a mere ``del`` may do too late."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            with guarded("closing"):
                writer.wait_merging_threads()
        except EngineFailure as error:
            log.warning("index.failed", doing="closing", error=str(error))
