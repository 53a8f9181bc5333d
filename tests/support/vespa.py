"""Sercha's adapter on the stand-in, ready for documents."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from sercha.adapters.vespa import VespaIndex, open_vespa_index
from sercha.domain.embedding import EmbeddingModel
from sercha.services.ports.generations import GenerationStore
from tests.support.generations import MemoryGenerations
from tests.vespa import Vespa, open_vespa


@dataclass
class Setup:
    """The adapter, the server that it talks to, and which generation answers."""

    vespa: Vespa
    generations: GenerationStore
    models: list[EmbeddingModel] = field(default_factory=list)
    """Whose vectors documents may have."""
    index: VespaIndex = field(init=False)

    async def known_models(self) -> list[EmbeddingModel]:
        """Return the models, as the database would."""
        return self.models

    def open_index(self) -> AbstractAsyncContextManager[VespaIndex]:
        """Open the adapter, as one more process would."""
        return open_vespa_index(
            self.vespa.container_urls,
            [self.vespa.config_url],
            self.generations,
            cluster="sercha",
            models=self.known_models,
        )


@asynccontextmanager
async def open_setup(
    *, containers: int = 2, generations: GenerationStore | None = None
) -> AsyncGenerator[Setup]:
    """Start the stand-in and deploy to it; generations are kept in memory where none are given."""
    async with open_vespa(containers=containers) as vespa:
        setup = Setup(vespa, generations or MemoryGenerations())
        async with setup.open_index() as setup.index:
            await setup.index.prepare()
            yield setup
