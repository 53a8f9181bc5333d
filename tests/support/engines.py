"""The search engines behind the port, for suites that hold for all of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from sercha.adapters.embedded_index import open_embedded_index
from sercha.adapters.memory import MemoryIndex
from sercha.domain.embedding import EmbeddingModel
from sercha.services.ports import SearchIndex
from tests.support.vespa import open_setup

ENGINES = ["memory", "embedded", "vespa"]


@asynccontextmanager
async def open_engine(
    name: str, folder: Path, *models: EmbeddingModel
) -> AsyncGenerator[SearchIndex]:
    """Open an empty one, Vespa's on the stand-in; documents may have vectors of *models*, where it compares any itself."""
    if name == "vespa":
        async with open_setup() as setup:
            setup.models += models
            yield setup.index
    elif name == "memory":
        yield MemoryIndex()
    else:
        async with open_embedded_index(folder / "index") as index:
            yield index
