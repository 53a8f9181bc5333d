"""The clients of the models in use, kept open: each has connections, and a budget of requests."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import trio

from sercha.domain.embedding import EmbeddingModel
from sercha.services.ports.embedder import Embedder
from sercha.services.ports.embeddings import StoredModel

OpenEmbedder = Callable[[StoredModel], AbstractAsyncContextManager[Embedder]]
"""Opens a client; raises `Rejected` (``embedder-refused``) where the key cannot be read."""


class Embedders:
    """Clients by model, key and budget; closed when the block of `open_embedders` ends."""

    def __init__(self, opening: OpenEmbedder, stack: AsyncExitStack) -> None:
        self._opening = opening
        self._stack = stack
        self._lock = trio.Lock()
        self._opened: dict[tuple[EmbeddingModel, bytes | None, int | None], Embedder] = {}

    async def get(self, stored: StoredModel) -> Embedder:
        """Return the client of a model, the same one each time.

        Raises:
            Rejected: its key cannot be read (``embedder-refused``).
        """
        identity = (stored.model, stored.sealed_key, stored.requests_per_minute)
        async with self._lock:
            found = self._opened.get(identity)
            if found is None:
                found = await self._stack.enter_async_context(self._opening(stored))
                self._opened[identity] = found
            return found


@asynccontextmanager
async def open_embedders(opening: OpenEmbedder) -> AsyncGenerator[Embedders]:
    """Open clients as they are asked for."""
    async with AsyncExitStack() as stack:
        yield Embedders(opening, stack)
