"""What makes text of files, with the processes in which it does."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from sercha.adapters.parsing.extractor import DocumentExtractor
from sercha.adapters.parsing.pool import open_parsers
from sercha.services.ports import TextExtractor
from sercha.wiring.process import Process


@asynccontextmanager
async def open_extractor(process: Process) -> AsyncGenerator[TextExtractor]:
    """Open this worker's extractor; its processes are gone when the block ends."""
    seats = min(process.settings.worker_concurrency, os.cpu_count() or 1)
    async with open_parsers(seats) as parsers:
        yield DocumentExtractor(parsers)
