"""What makes vectors, and what asks for one: clients of endpoints, with the keys that are kept for them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

from lockd import LeaseStore, OnOverrun
from sercha.adapters.embeddings import open_embedder
from sercha.adapters.postgres.embeddings import PostgresEmbeddingStore
from sercha.adapters.security.sealing import SecretSeal
from sercha.errors import Rejected
from sercha.roles.embedding import Embedding
from sercha.services.embedders import Embedders, open_embedders
from sercha.services.embedding import EmbeddingWork
from sercha.services.ports.embedder import Embedder
from sercha.services.ports.embeddings import StoredModel
from sercha.wiring.process import Process
from sercha.wiring.search import CONSUMER, VESPA


@asynccontextmanager
async def open_embedding(
    process: Process, leases: LeaseStore, on_overrun: OnOverrun
) -> AsyncGenerator[Embedding]:
    """Open this worker's candidate for making vectors."""
    consumer = CONSUMER if process.settings.search_engine == VESPA else None
    async with open_process_embedders(process) as embedders:
        work = EmbeddingWork(
            PostgresEmbeddingStore(process.pool), embedders, process.notices, consumer=consumer
        )
        made = Embedding(work, leases, on_overrun=on_overrun)
        process.health.probes["embedding"] = made.probe
        yield made


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
