"""Making the vectors of all documents, and letting another model take over when all of its vectors are there.

::

    the current model, and the one that is filled beside it:
        its kept vectors put in place, where the engine does not take them from the feed
        documents that lack vectors ─▶ their texts that are not kept ─▶ endpoint ─▶ kept ─▶ documents noted
        none lacks any, and the index has them: the filled one becomes current

Each batch is kept as it comes: whoever goes on after a crash asks for at most one batch again. The models do not wait
for each other, since an endpoint may hang while searches go by the other one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import structlog
import trio

from sercha.domain.document import DocumentId
from sercha.domain.embedding import Vector
from sercha.errors import SerchaError, Transient
from sercha.services import follow
from sercha.services.backoff import Backoff
from sercha.services.embedders import Embedders
from sercha.services.ports import Notices
from sercha.services.ports.embeddings import EmbeddingStore, ModelState, StoredModel
from sercha.services.ports.vector_search import VectorTables
from sercha.services.waiting import until_any
from sercha.telemetry import metrics

CHANNEL = "sercha_ai"
POLL_INTERVAL = 10.0
"""Seconds between looks when no notice comes; also while the index takes over a new model's vectors."""
SWAP_INTERVAL = 1.0
BATCH_DOCUMENTS = 64
BATCH_BYTES = 4 * 1024 * 1024
"""Text that is read at once, beyond one document."""
BATCH_TEXTS = 64
"""Texts that are sent at once: what a crash can make the endpoint do twice."""

_log = structlog.get_logger()


HasAll = Callable[[str], Awaitable[bool]]
"""Says whether an index has all that was committed by a moment, a ``pg_snapshot``."""


@dataclass
class EmbeddingState:
    """What the work is at; read by health."""

    waiting: dict[str, int] = field(default_factory=dict[str, int])
    """Documents that lack vectors, by model, as of the last look."""
    errors: dict[str, str] = field(default_factory=dict[str, str])
    """Why there is no progress, by model."""

    @property
    def pending(self) -> int:
        """Documents that lack vectors of some model."""
        return sum(self.waiting.values())

    def keep(self, names: Collection[str]) -> None:
        """Forget other models."""
        self.waiting = {name: count for name, count in self.waiting.items() if name in names}
        self.errors = {name: why for name, why in self.errors.items() if name in names}


class EmbeddingWork:
    """Makes vectors until cancelled; two at once do no harm, but cost twice."""

    def __init__(
        self,
        store: EmbeddingStore,
        embedders: Embedders,
        notices: Notices,
        *,
        has_all: HasAll | None = None,
        tables: VectorTables | None = None,
    ) -> None:
        """Either *has_all* or *tables* says where a model's vectors must be before searches use it.

        Args:
            store: of models and vectors.
            embedders: who makes vectors.
            notices: that there is something to do.
            has_all: asks the shared index, which takes them from the change feed.
            tables: where they are put by this very work; while that cannot be done, none are made.
        """
        self._store = store
        self._embedders = embedders
        self._notices = notices
        self._has_all = has_all
        self._tables = tables
        self._filled: dict[str, str] = {}
        """The moments at which models that are filled had all vectors for the first time."""
        self.state = EmbeddingState()

    async def run(self) -> None:
        """Work for ever; errors are met with a bounded, jittered back-off and shown in ``state``."""
        delays = Backoff(base=0.5, cap=POLL_INTERVAL)
        running: dict[str, tuple[StoredModel, trio.CancelScope]] = {}
        with self._notices.subscribe(CHANNEL) as settings:
            async with trio.open_nursery() as nursery:
                while True:
                    try:
                        models = await self._look()
                    except Transient as error:
                        _log.warning("embedding.failed", error=error.message)
                        await trio.sleep(delays.next())
                        continue
                    delays.reset()
                    for stored, scope in [
                        each for each in running.values() if each[0] not in models
                    ]:
                        scope.cancel("the model was changed, or is wanted no more")
                        del running[stored.name]
                    for stored in models:
                        if stored.name not in running:
                            running[stored.name] = stored, trio.CancelScope()
                            nursery.start_soon(self._keep_filled, *running[stored.name])
                    await until_any(POLL_INTERVAL, settings)

    async def _keep_filled(self, stored: StoredModel, scope: trio.CancelScope) -> None:
        delays = Backoff(base=0.5, cap=60.0)
        with (
            scope,
            self._notices.subscribe(follow.CHANNEL) as changes,
            self._notices.subscribe(CHANNEL) as settings,
        ):
            while True:
                try:
                    pause = await self._round(stored)
                except Transient as error:
                    _log.warning("embedding.failed", model=stored.name, error=error.message)
                    pause = error.retry_after or 0.0
                if pause is None:
                    delays.reset()
                    is_swapping = stored.name in self._filled
                    await until_any(SWAP_INTERVAL if is_swapping else POLL_INTERVAL, changes)
                else:
                    # Whoever has mended something and says so by setting it anew is not kept waiting.
                    await until_any(max(pause, delays.next()), settings)

    async def work(self) -> float | None:
        """Make all vectors that are missing, once; None: all are there, else the seconds to wait before another try.

        Raises:
            Transient: PostgreSQL is away.
        """
        pauses = [await self._round(stored) for stored in await self._look()]
        return max((pause for pause in pauses if pause is not None), default=None)

    async def _look(self) -> list[StoredModel]:
        """Return the models, and forget what is known of others."""
        models = await self._store.models()
        self._filled = {name: at for name, at in self._filled.items() if _is_filling(models, name)}
        self.state.keep({each.name for each in models})
        return models

    async def _round(self, stored: StoredModel) -> float | None:
        """Make the vectors of one model that are missing; as `work` else."""
        pause: float | None = None
        if await self._is_in_place(stored):
            try:
                await self._fill(stored)
            except SerchaError as error:
                if not error.error_code.startswith("embedder-"):
                    raise
                self.state.errors[stored.name] = error.message
                metrics.EMBEDDINGS.labels("failed").inc()
                _log.warning("embedding.failed", model=stored.name, error=error.message)
                retry_after = error.retry_after if isinstance(error, Transient) else None
                pause = retry_after or 0.0
            else:
                self.state.errors.pop(stored.name, None)
        self.state.waiting[stored.name] = (await self._store.progress(stored.name)).pending
        metrics.EMBEDDING_PENDING.set(self.state.pending)
        return pause

    async def _is_in_place(self, stored: StoredModel) -> bool:
        """Put what is kept in place; without a place nothing is made, since no search could use it."""
        why = None if self._tables is None else await self._tables.complete(stored.model)
        if why is not None and self.state.errors.get(stored.name) != why:
            _log.warning("embedding.no_place", model=stored.name, error=why)
            self.state.errors[stored.name] = why
        return why is None

    async def _fill(self, stored: StoredModel) -> None:
        after = DocumentId(0)
        while found := await self._store.lacking(stored.name, after=after, limit=BATCH_DOCUMENTS):
            after = found[-1][0]
            for ids in _groups(found):
                await self._embed(stored, ids)
                await self._store.complete(stored.name, ids)
        if stored.state is ModelState.FILLING:
            await self._promote(stored)

    async def _embed(self, stored: StoredModel, ids: Sequence[DocumentId]) -> None:
        missing = iter((await self._store.missing(stored.name, ids)).items())
        while batch := dict(islice(missing, BATCH_TEXTS)):
            embedder = await self._embedders.get(stored)
            vectors = await embedder.embed(list(batch.values()))
            await self._store.keep(stored.name, dict(zip(batch, vectors, strict=True)))
            made = sum(isinstance(each, Vector) for each in vectors)
            metrics.EMBEDDINGS.labels("made").inc(made)
            metrics.EMBEDDINGS.labels("refused").inc(len(vectors) - made)

    async def _promote(self, stored: StoredModel) -> None:
        """Let the model be current, once the index has what there is now."""
        if stored.name not in self._filled:
            self._filled[stored.name] = await self._store.moment()
        if self._has_all is not None and not await self._has_all(self._filled[stored.name]):
            return
        if await self._store.promote(stored.name):
            self._filled.pop(stored.name, None)
            _log.info("embedding.model_current", model=stored.name)


def _groups(found: Sequence[tuple[DocumentId, int]]) -> Iterator[list[DocumentId]]:
    """Cut documents into groups whose texts can be held at once."""
    group: list[DocumentId] = []
    size = 0
    for document_id, octets in found:
        if group and size + octets > BATCH_BYTES:
            yield group
            group, size = [], 0
        group.append(document_id)
        size += octets
    if group:
        yield group


def _is_filling(models: Sequence[StoredModel], name: str) -> bool:
    return any(each.name == name and each.state is ModelState.FILLING for each in models)
