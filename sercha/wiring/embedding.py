"""What makes vectors, and what asks for one: clients of endpoints, with the keys that are kept for them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial

from lockd import LeaseStore, OnOverrun
from sercha.adapters.embeddings import open_embedder
from sercha.adapters.postgres.embeddings import PostgresEmbeddingStore
from sercha.adapters.postgres.vector_tables import PostgresVectorTables
from sercha.adapters.security.sealing import SecretSeal
from sercha.errors import Rejected, SettingsError
from sercha.roles.embedding import Embedding
from sercha.services.ai_settings import AISettings
from sercha.services.embedders import Embedders, open_embedders
from sercha.services.embedding import EmbeddingWork
from sercha.services.ports.embedder import Embedder
from sercha.services.ports.embeddings import StoredModel
from sercha.wiring.process import Process
from sercha.wiring.search import VESPA, open_extent

PROBE_SECONDS = 5.0


@asynccontextmanager
async def open_embedding(
    process: Process, leases: LeaseStore, on_overrun: OnOverrun
) -> AsyncGenerator[Embedding | None]:
    """Open this worker's candidate for making vectors; None where the engine cannot use any."""
    is_vespa = process.settings.search_engine == VESPA
    if is_vespa and not process.settings.vespa_config_url:
        yield None
        return
    async with AsyncExitStack() as stack:
        has_all = await stack.enter_async_context(open_extent(process)) if is_vespa else None
        work = EmbeddingWork(
            PostgresEmbeddingStore(process.pool),
            await stack.enter_async_context(open_process_embedders(process)),
            process.notices,
            has_all=has_all,
            tables=None if is_vespa else PostgresVectorTables(process.pool),
        )
        made = Embedding(work, leases, on_overrun=on_overrun)
        process.health.probes["embedding"] = made.probe
        yield made


def make_ai_settings(process: Process) -> AISettings:
    """Put the rules about models together.

    Raises:
        SettingsError: ``MASTER_KEY`` is missing.
    """
    if process.settings.master_key is None:
        raise SettingsError("MASTER_KEY: is required")
    return AISettings(
        process.pool,
        PostgresEmbeddingStore(process.pool),
        SecretSeal(process.settings.master_key),
        open_probe,
    )


def open_probe(
    base_url: str, model: str, api_key: str | None
) -> AbstractAsyncContextManager[Embedder]:
    """Open a client that gives up before the transaction of a request with a key does."""
    return open_embedder(base_url, model, api_key=api_key, call_seconds=PROBE_SECONDS)


def open_process_embedders(process: Process) -> AbstractAsyncContextManager[Embedders]:
    """Open the clients of a process."""
    return open_embedders(partial(_open, process.settings.master_key))


def _open(master_key: bytes | None, stored: StoredModel) -> AbstractAsyncContextManager[Embedder]:
    key: str | None = None
    if stored.sealed_key is not None:
        seal = None if master_key is None else SecretSeal(master_key)
        key = None if seal is None else seal.open(stored.sealed_key, stored.model.base_url)
        if key is None:
            raise Rejected(
                f"the key of the model {stored.model.model} was sealed with another MASTER_KEY than this "
                "process has: set it anew",
                code="embedder-refused",
            )
    return open_embedder(
        stored.model.base_url,
        stored.model.model,
        api_key=key,
        dimensions=stored.model.dimensions,
        requests_per_minute=stored.requests_per_minute,
    )
