"""Which model makes vectors: shown without its key, changed once its endpoint has answered."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit
from uuid import UUID

import trio

from sercha.domain.embedding import EmbeddingModel, Vector
from sercha.errors import Conflict, Rejected, SerchaError
from sercha.services.ports import Database
from sercha.services.ports.embedder import Embedder
from sercha.services.ports.embeddings import (
    EmbeddingProgress,
    EmbeddingStore,
    ModelState,
    StoredModel,
)
from sercha.services.ports.secrets import SecretSeal

PROBE_TEXT = "word"
AVAILABLE_SECONDS = 10.0
"""How long it is believed that the endpoint answers, or does not."""


class AIProvider(StrEnum):
    """Who makes vectors, in the names of the Go program."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    OLLAMA = "ollama"
    COHERE = "cohere"
    VOYAGE = "voyage"


_ADDRESSES = {
    AIProvider.OPENAI: "https://api.openai.com/v1",
    AIProvider.OLLAMA: "http://localhost:11434/v1",
}

OpenProbe = Callable[[str, str, str | None], AbstractAsyncContextManager[Embedder]]
"""Opens a client that gives up soon, by address, model and key."""


@dataclass(frozen=True, slots=True)
class EmbeddingChange:
    """What is wanted."""

    provider: AIProvider
    model: str
    base_url: str | None = None
    """None: the provider's own."""
    api_key: str | None = field(default=None, repr=False)
    """None: the one that is kept for this address, if there is one."""
    requests_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class AIStatus:
    """How vectors are doing."""

    current: StoredModel | None
    is_available: bool
    """Whether the endpoint of the current model answers, as of a moment ago."""
    progress: tuple[tuple[StoredModel, EmbeddingProgress], ...]


class AISettings:
    """The rules about models."""

    def __init__(
        self, database: Database, store: EmbeddingStore, seal: SecretSeal, open_probe: OpenProbe
    ) -> None:
        self._database = database
        self._store = store
        self._seal = seal
        self._open_probe = open_probe
        self._known: tuple[StoredModel, float, bool] | None = None
        """What the last look at an endpoint gave, and when."""

    async def wanted(self) -> StoredModel | None:
        """Return the model that was asked for last; None: there is none."""
        models = await self._store.models()
        return models[-1] if models else None

    async def change(self, change: EmbeddingChange | None, *, changed_by: UUID) -> None:
        """Want another model, or none; the present one answers until the vectors of the new one are made.

        The endpoint is asked first, which also tells the dimensions.

        Raises:
            Rejected: a field is wrong (``bad-field``), or the endpoint refuses (``embedder-refused``).
            Unavailable: the endpoint does not answer (``embedder-away``).
        """
        if change is None:
            async with self._database.transaction() as tx:
                await self._store.clear(tx)
            return
        address = _address(change)
        key = change.api_key or await self._kept_key(address)
        dimensions = await self._dimensions(address, change.model, key)
        stored = StoredModel(
            EmbeddingModel(address, change.model, dimensions),
            change.provider,
            sealed_key=None if key is None else self._seal.close(key, address),
            requests_per_minute=change.requests_per_minute,
        )
        async with self._database.transaction() as tx:
            await self._store.configure(tx, stored, changed_by=changed_by)

    async def test(self) -> None:
        """Ask the endpoint of the wanted model for a vector.

        Raises:
            Conflict: there is no model (``no-embedder``).
            Rejected: the endpoint refuses (``embedder-refused``).
            Unavailable: the endpoint does not answer (``embedder-away``).
        """
        stored = await self.wanted()
        if stored is None:
            raise Conflict("no embedding model is set: set one first", code="no-embedder")
        await self._ask(stored)

    async def status(self) -> AIStatus:
        """Say how far the vectors are, and whether the current model's endpoint answers."""
        models = await self._store.models()
        progress = [(each, await self._store.progress(each.name)) for each in models]
        current = next((each for each in models if each.state is ModelState.CURRENT), None)
        is_available = current is not None and await self._is_available(current)
        return AIStatus(current, is_available, tuple(progress))

    async def _is_available(self, stored: StoredModel) -> bool:
        now = trio.current_time()
        if self._known is not None:
            known, at, was_available = self._known
            if known == stored and now < at + AVAILABLE_SECONDS:
                return was_available
        try:
            await self._ask(stored)
        except SerchaError:
            self._known = (stored, now, False)
            return False
        self._known = (stored, now, True)
        return True

    async def _ask(self, stored: StoredModel) -> None:
        key = None
        if stored.sealed_key is not None:
            key = self._seal.open(stored.sealed_key, stored.model.base_url)
            if key is None:
                raise Rejected(
                    "the key was sealed with another MASTER_KEY: set it anew",
                    code="embedder-refused",
                )
        dimensions = await self._dimensions(stored.model.base_url, stored.model.model, key)
        if dimensions != stored.model.dimensions:
            raise Rejected(
                f"the model {stored.model.model} has {dimensions} dimensions by now and not "
                f"{stored.model.dimensions}: set it anew",
                code="embedder-refused",
            )

    async def _dimensions(self, address: str, model: str, key: str | None) -> int:
        async with self._open_probe(address, model, key) as embedder:
            [vector] = await embedder.embed([PROBE_TEXT])
        if not isinstance(vector, Vector):
            raise Rejected(
                f"the embedding endpoint gives no vector: {vector.reason}", code="embedder-refused"
            )
        return vector.dimensions

    async def _kept_key(self, address: str) -> str | None:
        """Return the key that is kept for this very address: no other one gets to see it."""
        for stored in reversed(await self._store.models()):
            if stored.model.base_url == address and stored.sealed_key is not None:
                return self._seal.open(stored.sealed_key, address)
        return None


def _address(change: EmbeddingChange) -> str:
    if not change.model:
        raise Rejected("embedding.model: is required", code="bad-field")
    given = change.base_url or _ADDRESSES.get(change.provider)
    if given is None:
        raise Rejected(
            f"embedding.base_url: is required for the provider {change.provider}", code="bad-field"
        )
    try:
        parts = urlsplit(given)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname)
        has_more = bool(parts.username or parts.password or parts.query or parts.fragment)
    except ValueError:
        is_address, has_more = False, False
    if not is_address or has_more or not given.isascii() or not given.isprintable():
        raise Rejected(
            "embedding.base_url: give an address like http://localhost:11434/v1, without a name, a password or a query",
            code="bad-field",
        )
    return given.rstrip("/")
