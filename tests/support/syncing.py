"""One source on one folder, and syncs of it under claims of a registered owner."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

import trio

from sercha.adapters.clock import SystemClock
from sercha.adapters.connectors.localfs import Localfs
from sercha.adapters.parsing.text import PlainTextExtractor
from sercha.adapters.postgres.schedules import PostgresScheduleStore
from sercha.domain.source import ProviderType, Source, SyncState
from sercha.domain.task import Claim, Outcome, TaskKind
from sercha.errors import ItemFailed
from sercha.services.attempt import Attempt
from sercha.services.ports import Item, ItemPage, TextExtractor
from sercha.services.sources import Sources
from sercha.services.sync import SyncSource
from sercha.services.task_kinds import sync_task
from tests.support.truth import Truth, open_truth

KINDS = [TaskKind.SYNC_SOURCE]
TEXT_CHARS_MAX = 50_000


class Setup:
    """One source on one folder, and the handler that syncs it."""

    def __init__(
        self,
        truth: Truth,
        root: Path,
        source: Source,
        connector: Localfs,
        extractor: TextExtractor | None = None,
    ) -> None:
        self.truth = truth
        self.root = root
        self.source = source
        self.connector = connector
        self.draining = trio.Event()
        self.owner: UUID | None = None
        self.rules = self._rules()
        self.handler = SyncSource(
            truth.pool,
            truth.sources,
            truth.documents,
            truth.queue,
            {ProviderType.LOCALFS: connector},
            extractor or PlainTextExtractor(text_chars_max=TEXT_CHARS_MAX),
            SystemClock(),
        )

    def rules_with_schedules(self) -> Sources:
        """Return rules that give new sources a schedule."""
        return self._rules(PostgresScheduleStore(self.truth.pool))

    def _rules(self, schedules: PostgresScheduleStore | None = None) -> Sources:
        return Sources(
            self.truth.pool,
            self.truth.sources,
            self.truth.documents,
            self.truth.queue,
            {ProviderType.LOCALFS: self.connector},
            SystemClock(),
            schedules=schedules,
        )

    async def live(self) -> UUID:
        """Return an owner that lives."""
        if self.owner is None:
            self.owner = uuid4()
            await self.truth.live(self.owner)
        return self.owner

    async def die(self) -> None:
        """Let the owner's time be over, and its claims be given back."""
        await self.truth.expire()
        await self.truth.queue.reap()
        self.owner = None

    async def claim(self) -> Claim:
        await self.truth.queue.add([sync_task(self.source.id)])
        return await self.claim_again()

    async def claim_again(self) -> Claim:
        """Claim what is queued."""
        (claim,) = await self.truth.queue.claim(await self.live(), 1, KINDS)
        return claim

    async def attempt(self, claim: Claim) -> None:
        await self.handler(Attempt(claim, self.draining))

    async def sync(self) -> SyncState:
        claim = await self.claim()
        await self.attempt(claim)
        await self.truth.queue.settle([Outcome(claim)])
        return await self.state()

    async def fail(self, claim: Claim, error: Exception, *, delay: float = 0.0) -> None:
        """Settle a failed attempt as a worker does, but due at once."""
        await self.truth.queue.settle([Outcome(claim, error=str(error), retry_delay=delay)])

    async def state(self) -> SyncState:
        state = await self.truth.sources.sync_state(self.source.id)
        assert state is not None
        return state

    async def paths(self) -> list[str]:
        documents, _ = await self.truth.documents.list(
            self.source.id, frozenset({"team"}), limit=10_000, offset=0
        )
        return [str(Path(document.path).relative_to(self.root)) for document in documents]


@asynccontextmanager
async def setup_on(
    url: str, place: Path, *, page_items: int = 7, extractor: TextExtractor | None = None
) -> AsyncIterator[Setup]:
    """Make a folder in *place*, and a source of it in the database at *url*."""
    root = place / "root"
    root.mkdir()
    async with open_truth(url) as truth:
        source = await truth.add_source(paths=[str(root)])
        connector = Localfs([root], None, page_items=page_items, settle_seconds=0)
        yield Setup(truth, root, source, connector, extractor)


Fetch = Callable[[Sequence[Item]], Awaitable[Sequence[bytes | ItemFailed]]]


async def read_one(fetch: Fetch, item: Item) -> bytes:
    """Return what an item holds, or raise why it cannot be read."""
    (outcome,) = await fetch([item])
    if isinstance(outcome, ItemFailed):
        raise outcome
    return outcome


def one_by_one(read: Callable[[Item], Awaitable[bytes]]) -> Fetch:
    """Return a connector's `fetch` that asks *read* for one item at a time."""

    async def fetch(items: Sequence[Item]) -> Sequence[bytes | ItemFailed]:
        try:
            return [await read(items[0])]
        except ItemFailed as failure:
            return [failure]

    return fetch


class Pages:
    """Pages that pass through *change*, with their number from 1."""

    def __init__(
        self, pages: AsyncIterator[ItemPage], change: Callable[[int, ItemPage], ItemPage]
    ) -> None:
        self._pages = pages
        self._change = change
        self._number = 0

    def __aiter__(self) -> AsyncIterator[ItemPage]:
        return self

    async def __anext__(self) -> ItemPage:
        self._number += 1
        return self._change(self._number, await self._pages.__anext__())


def fill(root: Path, count: int) -> None:
    for number in range(count):
        folder = root / f"d{number % 5}"
        folder.mkdir(exist_ok=True)
        (folder / f"f{number:03}.md").write_text(f"# Title {number}\n\nword{number} text\n")
