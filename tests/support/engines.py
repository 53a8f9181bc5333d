"""The search engines behind the port, for suites that hold for all of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from sercha.adapters.embedded_index import open_embedded_index
from sercha.services.ports import SearchIndex
from tests.support.vespa import open_setup

ENGINES = ["embedded", "vespa"]


@asynccontextmanager
async def open_engine(name: str, folder: Path) -> AsyncGenerator[SearchIndex]:
    """Open an empty one; Vespa's is on the stand-in."""
    if name == "vespa":
        async with open_setup() as setup:
            yield setup.index
    else:
        async with open_embedded_index(folder / "index") as index:
            yield index
