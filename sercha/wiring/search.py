"""The engine that answers searches: a copy of the index in this process, or Vespa, which all processes share."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from lockd import LeaseStore, OnOverrun
from sercha.adapters.embedded_index import open_embedded_index
from sercha.adapters.postgres.embeddings import PostgresEmbeddingStore
from sercha.adapters.postgres.generations import PostgresGenerationStore
from sercha.adapters.postgres.neighbours import PostgresNeighbours
from sercha.adapters.vespa import open_vespa_index
from sercha.adapters.vespa.index import VespaIndex
from sercha.errors import SettingsError
from sercha.roles.feeder import Feeder
from sercha.services.embedding import HasAll
from sercha.services.follow import Follower, Following
from sercha.services.neighbour_search import NeighbourSearch
from sercha.services.ports import SearchIndex
from sercha.services.ports.vector_search import VectorSearch, VectorsState
from sercha.services.ports.vespa_admin import VespaAdmin
from sercha.services.remote_follow import RemoteFollower
from sercha.telemetry.health import ComponentHealth
from sercha.wiring.probes import probe_index, probe_vectors
from sercha.wiring.process import Process

VESPA = "vespa"
CONSUMER = "vespa"
"""Whom the change feed knows Vespa as; one, whichever process feeds it."""


@dataclass(frozen=True, slots=True)
class OpenSearch:
    """The engine of one process, with what keeps it true or watches over that."""

    index: SearchIndex
    follower: Following
    vectors: Callable[[], Awaitable[VectorsState]]
    """Says whether the engine can use vectors."""
    by_vector: VectorSearch | None
    """None: it finds by text only."""
    count: Callable[[], Awaitable[int]] | None = None
    """Counts the documents of this process's copy; None where there is no such copy."""
    vespa: VespaAdmin | None = None
    """Its application; None: it is not Vespa, or another program deploys there."""


@asynccontextmanager
async def open_search(process: Process) -> AsyncGenerator[OpenSearch]:
    """Open the engine that the settings name. Nothing follows the feed until somebody runs the follower."""
    if process.settings.search_engine == VESPA:
        opening = _open_vespa(process)
    else:
        opening = _open_embedded(process)
    async with opening as search:
        follower = search.follower
        process.health.probes["index"] = lambda: probe_index(follower)
        process.health.is_caught_up = lambda: follower.state.is_caught_up
        yield search


@asynccontextmanager
async def _open_embedded(process: Process) -> AsyncGenerator[OpenSearch]:
    data_dir = process.settings.data_dir
    if data_dir is None:
        raise SettingsError("DATA_DIR: is required: the index copy lives there")
    async with open_embedded_index(data_dir / "index") as index:
        follower = Follower(
            index, process.feed, process.documents, process.notices, lambda: index.consumer_id
        )

        async def count() -> int:
            return (await index.statistics()).documents

        neighbours = PostgresNeighbours(process.pool)
        process.health.probes["vectors"] = lambda: probe_vectors(neighbours.state)
        yield OpenSearch(
            index, follower, neighbours.state, NeighbourSearch(index, neighbours), count
        )


@asynccontextmanager
async def _open_vespa(process: Process) -> AsyncGenerator[OpenSearch]:
    async with _open_index(process) as index:
        follower = RemoteFollower(index, process.feed, process.notices, CONSUMER)
        # Only what we deploy is known to have the fields.
        ours = index if process.settings.vespa_config_url else None

        async def vectors() -> VectorsState:
            await trio.lowlevel.checkpoint()
            is_healthy = follower.state.error is None
            if ours is None:
                message = "vectors need VESPA_CONFIG_URL: their fields are deployed there"
                return VectorsState(False, True, is_healthy, message)
            return VectorsState(is_usable=True, is_vespa=True, is_healthy=is_healthy)

        yield OpenSearch(index, follower, vectors, ours, vespa=ours)


@asynccontextmanager
async def open_feeder(
    process: Process, leases: LeaseStore, on_overrun: OnOverrun
) -> AsyncGenerator[Feeder | None]:
    """Open what feeds an index that all processes share; None where each has a copy of its own."""
    if process.settings.search_engine != VESPA:
        yield None
        return
    async with _open_index(process) as index:

        def new_follower() -> Follower:
            return Follower(
                index, process.feed, process.documents, process.notices, lambda: CONSUMER
            )

        feeder = Feeder(VESPA, index, new_follower, leases, on_overrun=on_overrun)

        async def probe() -> ComponentHealth:
            return await feeder.probe()

        process.health.probes["feeder"] = probe
        yield feeder


@asynccontextmanager
async def open_extent(process: Process) -> AsyncGenerator[HasAll]:
    """Give what says whether Vespa has all that was committed by a moment."""
    async with _open_index(process) as index:

        async def has_all(moment: str) -> bool:
            position = await index.position()
            return position is not None and await process.feed.covers(position, moment)

        yield has_all


@asynccontextmanager
async def _open_index(process: Process) -> AsyncGenerator[VespaIndex]:
    settings = process.settings
    async with open_vespa_index(
        settings.vespa_container_url,
        settings.vespa_config_url,
        PostgresGenerationStore(process.pool, VESPA),
        cluster=settings.vespa_cluster,
        models=PostgresEmbeddingStore(process.pool).known,
    ) as index:
        yield index
