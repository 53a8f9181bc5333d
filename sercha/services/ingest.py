"""One page of a source: decide what to read, read it, and hand over what is to be written.

Pure decisions (`PagePlan`) are apart from reading (`Ingest`); nothing here writes.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import accumulate
from pathlib import PurePosixPath

import trio

from sercha.domain.chunking import chunk_text
from sercha.domain.document import TRUNCATED, Chunk, DocumentDraft, ExtractedText
from sercha.domain.source import IssueKind, ItemIssue, SyncStats
from sercha.errors import ItemFailed
from sercha.services.ports import Connector, Item, ItemPage, KnownItem, TextExtractor

PENDING_CHARS_MAX = 8_000_000
"""Text held before it is committed: bounds memory whatever a page holds."""
GROUP_ITEMS_MAX = 32
GROUP_BYTES_MAX = 512 * 1024
"""Items are fetched together up to these, by the sizes that were listed."""
EXTERNAL_ID_BYTES_MAX = 2_000
"""Longer identities do not fit PostgreSQL's index."""
TITLE_CHARS_MAX = 500

_CHUNKERS = trio.CapacityLimiter(2)
"""Threads that cut long texts into chunks: seconds for the longest, so not on the loop."""
_CHUNKED_INLINE_CHARS_MAX = 4_000
"""A text up to this is cut in about a millisecond at most, small ones in a tenth of what a thread and back cost."""


@dataclass(frozen=True, slots=True)
class PageResult:
    """What one transaction is to write."""

    drafts: tuple[DocumentDraft, ...] = ()
    touched: tuple[tuple[str, str], ...] = ()
    gone: tuple[str, ...] = ()
    issues: tuple[ItemIssue, ...] = ()
    cleared: tuple[str, ...] = ()
    stats: SyncStats = field(default_factory=SyncStats)
    items_done: int = 0

    def __add__(self, other: PageResult) -> PageResult:
        return PageResult(
            self.drafts + other.drafts,
            self.touched + other.touched,
            self.gone + other.gone,
            self.issues + other.issues,
            self.cleared + other.cleared,
            self.stats + other.stats,
            self.items_done + other.items_done,
        )


@dataclass(frozen=True, slots=True)
class PagePlan:
    """What to do with each item of a page."""

    to_read: tuple[tuple[Item, KnownItem | None], ...]
    """Items with the document that is known, if one is."""
    known_issues: frozenset[str]
    unchanged: int
    gone: tuple[str, ...]
    """Documents that are no more, and items that can be none."""
    forgotten: tuple[str, ...]
    """Issues whose item is no more."""
    issues: tuple[ItemIssue, ...]

    @classmethod
    def of(cls, page: ItemPage, known: Sequence[KnownItem], now: datetime) -> PagePlan:
        """Compare a page with what is known of its range."""
        documents = {item.external_id: item for item in known if not item.is_issue}
        issues = {item.external_id: item for item in known if item.is_issue}
        to_read: list[tuple[Item, KnownItem | None]] = []
        too_long: list[ItemIssue] = []
        unchanged = 0
        for item in page.items:
            if len(item.external_id.encode()) > EXTERNAL_ID_BYTES_MAX:
                too_long.append(_too_long(item))
            elif _is_settled(item, documents.get(item.external_id), issues, now):
                unchanged += 1
            else:
                to_read.append((item, documents.get(item.external_id)))
        found = tuple(too_long) + tuple(
            issue
            for issue in page.issues
            if len(issue.external_id.encode()) <= EXTERNAL_ID_BYTES_MAX
        )
        return cls(
            to_read=tuple(to_read),
            known_issues=frozenset(issues),
            unchanged=unchanged,
            gone=_missing(page, documents, found),
            forgotten=_missing(page, issues, found),
            issues=tuple(issue for issue in found if not _is_old_news(issue, issues)),
        )

    def rest(self) -> PageResult:
        """Return what is to be written without reading anything."""
        return PageResult(
            gone=self.gone,
            issues=self.issues,
            cleared=self.forgotten,
            stats=SyncStats(
                documents_unchanged=self.unchanged,
                documents_skipped=sum(1 for i in self.issues if i.kind is IssueKind.SKIPPED),
                errors=sum(1 for i in self.issues if i.kind is IssueKind.FAILED),
            ),
        )


class Ingest:
    """Reads a plan's items and collects the results until they are taken."""

    def __init__(self, connector: Connector, extractor: TextExtractor, plan: PagePlan) -> None:
        self._connector = connector
        self._extractor = extractor
        self._plan = plan
        self._begun = 0
        self._fetched: deque[tuple[Item, KnownItem | None, bytes | ItemFailed]] = deque()
        self._pending = PageResult()
        self._chars = 0

    @property
    def is_full(self) -> bool:
        """Whether what is pending should be written before reading on."""
        return self._chars >= PENDING_CHARS_MAX

    def take(self) -> PageResult:
        """Return what is pending and begin anew."""
        pending, self._pending, self._chars = self._pending, PageResult(), 0
        return pending

    async def read_next(self) -> bool:
        """Read one more item; False when there is none left.

        Raises:
            Transient: the source is away as a whole.
        """
        if not self._fetched:
            group = self._next_group()
            if not group:
                return False
            outcomes = await self._connector.fetch([item for item, _ in group])
            read = group[: len(outcomes)]
            self._fetched.extend((*each, found) for each, found in zip(read, outcomes, strict=True))
            self._begun += len(read)
        item, known, found = self._fetched.popleft()
        self._pending += await self._read_one(item, known, found)
        return True

    def _next_group(self) -> Sequence[tuple[Item, KnownItem | None]]:
        """Return what to fetch together: one item, and more as long as they are small."""
        group = self._plan.to_read[self._begun : self._begun + GROUP_ITEMS_MAX]
        sizes = accumulate(item.size for item, _ in group)
        return group[: max(1, sum(1 for size in sizes if size <= GROUP_BYTES_MAX))]

    async def _read_one(
        self, item: Item, known: KnownItem | None, found: bytes | ItemFailed
    ) -> PageResult:
        had_issue = item.external_id in self._plan.known_issues
        extracted: ExtractedText | None = None
        drafts: tuple[DocumentDraft, ...] = ()
        touched: tuple[tuple[str, str], ...] = ()
        try:
            if isinstance(found, ItemFailed):
                raise found
            content_hash = hashlib.sha256(found).digest()
            is_same = known is not None and known.content_hash == content_hash
            if had_issue or not is_same:  # else nobody asks what the text is
                extracted = await self._extractor.extract(item, found)
            if extracted is None or is_same:
                touched = ((item.external_id, item.fingerprint),)
            else:
                drafts = (await self._draft(item, extracted, content_hash),)
                self._chars += len(extracted.text)
        except ItemFailed as error:
            return _failed(item, known, error)
        return PageResult(
            drafts=drafts,
            touched=touched,
            issues=_cut_off(item, extracted) if extracted else (),
            cleared=(item.external_id,) if had_issue else (),
            stats=SyncStats(documents_read=1),
            items_done=1,
        )

    async def _draft(
        self, item: Item, extracted: ExtractedText, content_hash: bytes
    ) -> DocumentDraft:
        name = PurePosixPath(item.path).name
        metadata = dict(extracted.metadata)
        if extracted.charset:
            metadata["charset"] = extracted.charset
        return DocumentDraft(
            external_id=item.external_id,
            path=item.path,
            title=(extracted.title or name)[:TITLE_CHARS_MAX],
            mime_type=extracted.mime_type,
            text=extracted.text,
            chunks=await _chunks_of(extracted),
            fingerprint=item.fingerprint,
            content_hash=content_hash,
            metadata=metadata,
            modified_at=item.modified_at,
        )


async def _chunks_of(extracted: ExtractedText) -> tuple[Chunk, ...]:
    cut = partial(chunk_text, extracted.text, extracted.mime_type, extracted.sections)
    if len(extracted.text) <= _CHUNKED_INLINE_CHARS_MAX:
        return cut()
    return await trio.to_thread.run_sync(cut, limiter=_CHUNKERS)


def _is_settled(
    item: Item, document: KnownItem | None, issues: dict[str, KnownItem], now: datetime
) -> bool:
    """Whether nothing about the item has changed since it was looked at."""
    issue = issues.get(item.external_id)
    if issue is not None and issue.fingerprint == item.fingerprint:
        return issue.retry_at is None or now < issue.retry_at
    return issue is None and document is not None and document.fingerprint == item.fingerprint


def _missing(
    page: ItemPage, known: dict[str, KnownItem], issues: Sequence[ItemIssue]
) -> tuple[str, ...]:
    """Return the known ids of the page's range that it does not list.

    An item that turned into something that can be no document (a FIFO) counts as missing among documents;
    one that only could not be looked at is kept.
    """
    listed = {item.external_id for item in page.items}
    kept = {issue.external_id for issue in issues if issue.kind is IssueKind.FAILED}
    skipped = {issue.external_id for issue in issues if issue.kind is IssueKind.SKIPPED}
    return tuple(
        external_id
        for external_id, item in known.items()
        if external_id not in listed
        and external_id not in kept
        and not (item.is_issue and external_id in skipped)
        and not external_id.startswith(page.unknown_prefixes)
    )


def _is_old_news(issue: ItemIssue, known: dict[str, KnownItem]) -> bool:
    old = known.get(issue.external_id)
    return old is not None and old.retry_at is None and old.fingerprint == issue.fingerprint


def _too_long(item: Item) -> ItemIssue:
    return ItemIssue(
        external_id=item.external_id[: EXTERNAL_ID_BYTES_MAX // 4],
        kind=IssueKind.SKIPPED,
        code="path-too-long",
        reason=f"the path has more than {EXTERNAL_ID_BYTES_MAX} bytes",
        fingerprint=item.fingerprint,
    )


def _cut_off(item: Item, extracted: ExtractedText) -> tuple[ItemIssue, ...]:
    """Record that a text is too long; what was kept of it is a document all the same."""
    if TRUNCATED not in extracted.metadata:
        return ()
    issue = ItemIssue(
        external_id=item.external_id,
        kind=IssueKind.SKIPPED,
        code="truncated",
        reason=f"Only the first {extracted.metadata[TRUNCATED]} are kept.",
        fingerprint=item.fingerprint,
    )
    return (issue,)


def _failed(item: Item, known: KnownItem | None, error: ItemFailed) -> PageResult:
    """Record why an item is no document.

    One that vanished or is no document any more is deleted; one that could not be read is kept as it was.
    """
    is_gone = error.error_code == "vanished"
    issue = ItemIssue(
        external_id=item.external_id,
        kind=IssueKind.SKIPPED if error.is_skip else IssueKind.FAILED,
        code=error.error_code,
        reason=error.message,
        fingerprint=item.fingerprint,
    )
    return PageResult(
        gone=(item.external_id,) if known is not None and (is_gone or error.is_skip) else (),
        issues=(issue,),
        stats=SyncStats(
            documents_read=1,
            documents_skipped=1 if error.is_skip else 0,
            errors=0 if error.is_skip else 1,
        ),
        items_done=1,
    )
