"""Vespa as a consumer of the change feed.

Every write is conditional on the version that Vespa has, deletions too, which leave a tombstone for that: a write that
was delayed for any time, by whomever, never brings back what is older. A tombstone is two numbers of the document, set
by an update that works in a full cluster as well; the document goes for good with the next sweep.

The position in the feed is a document of the generation, written after everything before it was taken. Positions are
numbered, and each names the one before: a feeder that was replaced meanwhile finds out there.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from time import time
from typing import Any

import structlog
import trio

from sercha.adapters.text_analysis.spans import find_spans
from sercha.adapters.text_analysis.terms import plan_terms
from sercha.adapters.vespa.answers import Asker
from sercha.adapters.vespa.application import read_application
from sercha.adapters.vespa.connections import ConnectionFailed
from sercha.adapters.vespa.containers import Containers, open_containers
from sercha.adapters.vespa.deploy import Deployer
from sercha.adapters.vespa.fields import document_fields
from sercha.adapters.vespa.messages import Reply, Request, json_request
from sercha.adapters.vespa.names import DOCUMENT, POSITION, document_path, position_path
from sercha.adapters.vespa.package import VectorField, make_package
from sercha.adapters.vespa.queries import text_query, vector_query
from sercha.adapters.vespa.throttle import Throttle
from sercha.adapters.vespa.versions import read_versions
from sercha.adapters.vespa.visits import remove_all
from sercha.adapters.vespa.writer import CLIENT_TIME, SERVER_TIME, Write, open_writer
from sercha.domain.document import VECTORS_BITS
from sercha.domain.embedding import EmbeddingModel
from sercha.domain.query import SearchQuery
from sercha.errors import Transient, Unavailable
from sercha.services.ports import (
    Change,
    DocumentVersion,
    FeedPosition,
    IndexPage,
    VerifyReport,
)
from sercha.services.ports.generations import GenerationStore
from sercha.services.ports.vector_search import QueryVector
from sercha.services.ports.vespa_admin import VespaApplication
from sercha.services.retry import retrying

SEARCH_CONNECTIONS = 64
"""To each container, from one process."""
FEED_CONNECTIONS = 64
FEED_LOW = 16
"""Writes under way at a time, to each container, when there are too many."""
SEARCH_SECONDS = 8.0
"""For one search, all tries together: less than a balancer waits for it."""
VERSION_MAX = 2**62
"""The version of what is known to be gone and nothing else."""
TOMBSTONE_SECONDS = 24 * 3600.0
"""How long a tombstone keeps older writes away; far longer than any write can be under way."""
RETIRED_SECONDS = 10.0
"""How long a generation is kept after another one took its place: every API has heard of that by then."""

Models = Callable[[], Awaitable[Sequence[EmbeddingModel]]]

_log = structlog.get_logger()


async def _no_models() -> Sequence[EmbeddingModel]:
    await trio.lowlevel.checkpoint()
    return ()


@asynccontextmanager
async def open_vespa_index(
    container_urls: Sequence[str],
    config_urls: Sequence[str],
    generations: GenerationStore,
    *,
    cluster: str,
    models: Models = _no_models,
) -> AsyncGenerator[VespaIndex]:
    """Open connections to *container_urls* as they are needed, those of searches apart from those of documents.

    Args:
        container_urls: of one cluster; at least one.
        config_urls: where the application is deployed; none: somebody else does it.
        generations: which generation answers.
        cluster: the content cluster with the documents.
        models: which models' vectors documents may have.
    """
    async with (
        open_containers(container_urls, connections=SEARCH_CONNECTIONS) as searches,
        open_containers(container_urls, connections=FEED_CONNECTIONS) as feed,
    ):
        low = FEED_LOW * len(container_urls)
        throttle = Throttle(low, FEED_CONNECTIONS * len(container_urls))
        deployer = Deployer(config_urls, container_urls) if config_urls else None
        yield VespaIndex(
            searches, feed, generations, throttle, deployer, cluster=cluster, models=models
        )


class VespaIndex:
    """Satisfies `sercha.services.ports.SearchIndex`; any number of processes search, one feeds."""

    def __init__(
        self,
        searches: Containers,
        feed: Containers,
        generations: GenerationStore,
        throttle: Throttle,
        deployer: Deployer | None = None,
        *,
        cluster: str,
        models: Models = _no_models,
        clock: Callable[[], float] = time,
    ) -> None:
        self._asker = Asker(searches)
        self._feed = feed
        self._generations = generations
        self._throttle = throttle
        self._deployer = deployer
        self._cluster = cluster
        self._models = models
        self._fields: frozenset[str] = frozenset()
        """The models whose field Vespa has, as this feeder knows: vectors of others would be refused."""
        self._clock = clock
        self._lane = trio.Lock()
        self._places: dict[str, int] = {}
        """The number of each generation's position, as this feeder knows it."""
        self.generation = ""

    async def refresh(self) -> None:
        """Find out which generation answers; to be called at the start, and whenever that may have changed."""
        self.generation = await self._generations.current() or ""

    async def position(self) -> FeedPosition | None:
        """How far the current generation is; None: there is none, or it lost its position.

        Whoever calls this feeds from there on: positions saved by others afterwards stop it.
        """
        await self.refresh()
        if not self.generation:
            return None
        place, position = await self._read_position(self.generation)
        self._places[self.generation] = place
        return position

    async def apply(self, changes: Sequence[Change], position: FeedPosition | None) -> None:
        """Write *changes* to the current generation, then *position*.

        Removals first: they are taken by a full cluster too. Cancelled: some are written, and *position* is not.

        Raises:
            Transient: Vespa is away or full, or another feeder has taken over (``index-overtaken``).
        """
        async with self._lane:
            if not self.generation:
                self.generation = await self._generations.begin()
                await self._generations.promote(self.generation)
            await self._write(self.generation, changes)
            if position is not None:
                await self._save_position(self.generation, position)

    async def replace(
        self, batches: AsyncIterable[Sequence[Change]], position: FeedPosition
    ) -> None:
        """Fill a new generation and let it answer in the place of the present one.

        The old one answers until then, and stays when this is cancelled or *batches* raises.

        Raises:
            Transient: as in `apply`.
        """
        async with self._lane:
            # Of an engine that is away no generation is begun that would have to be removed again.
            await self._read_position(self.generation or "none")
            building = await self._generations.begin()
            is_whole = False
            try:
                async with open_writer(self._feed, self._throttle) as writer:
                    async for batch in batches:
                        await self._make_room_for_vectors(batch)
                        for change in batch:
                            await writer.submit(self._as_write(building, change))
                await self._save_position(building, position)
                await self._generations.promote(building)
                self.generation = building
                is_whole = True
            finally:
                if not is_whole:
                    with trio.move_on_after(1.0, shield=True):
                        await self._give_up(building)

    async def _give_up(self, building: str) -> None:
        try:
            await self._generations.retire(building)
        except Transient as error:
            # The next one that begins retires it.
            _log.warning("vespa.generation_left", generation=building, error=error.message)

    async def search(self, query: SearchQuery, principals: frozenset[str]) -> IndexPage:
        """Find documents whose readers meet *principals*, in the current generation.

        Raises:
            Unavailable: Vespa gave no answer in time (``vespa-away``), or could not answer (``search-failed``).
        """
        if not self.generation:
            return IndexPage((), 0)
        plans = plan_terms(query)
        body = text_query(plans, query, principals, generation=self.generation)
        if body is None:
            return IndexPage((), 0)
        return self._asker.page(await self._asker.ask(body, seconds=SEARCH_SECONDS))

    async def search_vectors(
        self, query: SearchQuery, principals: frozenset[str], vector: QueryVector
    ) -> IndexPage | None:
        """Find documents by *vector*, and in hybrid mode by their words as well; None: Vespa cannot by this model.

        Reaches as far as the best thousand.

        Raises:
            Unavailable: Vespa gave no answer in time (``vespa-away``).
        """
        if not self.generation:
            return IndexPage((), 0)
        plans = plan_terms(query)
        body = vector_query(plans, query, principals, vector, generation=self.generation)
        if body is None:
            return IndexPage((), 0)
        try:
            return self._asker.page(await self._asker.ask(body, seconds=SEARCH_SECONDS))
        except Unavailable as error:
            if error.error_code != "search-failed":
                raise
            _log.warning("vespa.no_vectors", model=vector.model, error=error.message)
            return None

    def spans(self, query: SearchQuery, text: str) -> list[tuple[int, int]]:
        """Where the query's terms are in *text*; for texts of snippet size."""
        return find_spans(plan_terms(query), text)

    async def verify(self, truth: AsyncIterable[list[DocumentVersion]]) -> VerifyReport:
        """Compare what Vespa holds with the truth; holds three numbers per document in memory."""
        held = await read_versions(self._feed, self.generation, self._cluster)
        return await held.compare(truth)

    async def prepare(self) -> None:
        """Deploy what the documents need, where it is not there yet and it is ours to deploy.

        Raises:
            Rejected: Vespa refuses the application (``vespa-application``).
            Unavailable: a config server or a container does not answer (``vespa-away``).
        """
        if self._deployer is not None:
            models = await self._models()
            fields = [VectorField(each.name, each.dimensions) for each in models]
            package = make_package(fields, cluster=self._cluster)
            await self._deployer.deploy(package, cluster=self._cluster)
            self._fields = frozenset(each.name for each in models)

    async def application(self) -> VespaApplication | None:
        """Return what runs in Vespa; None: nothing yet, or no config server is known here.

        Raises:
            Rejected: its files cannot be read (``vespa-application``).
            Unavailable: no config server answers (``vespa-away``).
        """
        files = await self._deployer.files() if self._deployer is not None else {}
        return read_application(files) if files else None

    async def _make_room_for_vectors(self, changes: Sequence[Change]) -> None:
        """Deploy again when vectors come that Vespa has no field for."""
        coming = {name for each in changes if each.document for name in each.document.vectors}
        if coming - self._fields and self._deployer is not None:
            await self.prepare()

    async def sweep(self) -> None:
        """Remove for good what nobody can find any more: old tombstones, and retired generations.

        Raises:
            Unavailable: Vespa is away; what was removed until then stays removed.
        """
        horizon = int(self._clock() - TOMBSTONE_SECONDS)
        if self.generation:
            selection = f"{DOCUMENT}.deleted == 1 and {DOCUMENT}.deleted_at < {horizon}"
            await remove_all(self._feed, self.generation, DOCUMENT, self._cluster, selection)
        for generation in await self._generations.retired(seconds=RETIRED_SECONDS):
            for document_type in (DOCUMENT, POSITION):
                await remove_all(self._feed, generation, document_type, self._cluster, "true")
            await self._generations.forget(generation)
            _log.info("vespa.generation_removed", generation=generation)

    async def _write(self, generation: str, changes: Sequence[Change]) -> None:
        await self._make_room_for_vectors(changes)
        for is_removal in (True, False):
            async with open_writer(self._feed, self._throttle) as writer:
                for change in changes:
                    if (change.document is None) is is_removal:
                        await writer.submit(self._as_write(generation, change))

    def _as_write(self, generation: str, change: Change) -> Write:
        name = f"{generation}/{change.document_id}"
        return Write(name, partial(self._request, generation, change))

    async def _request(self, generation: str, change: Change) -> Request:
        target = f"{document_path(generation, change.document_id)}?timeout={SERVER_TIME:g}"
        if change.document is None:
            return self._burial(target, change.buried or VERSION_MAX)

        def make() -> Request:
            assert change.document is not None
            content = {
                "condition": f"{DOCUMENT}.revision < {change.document.revision}",
                "create": True,
                "fields": document_fields(generation, change.document, self._fields),
            }
            return json_request("POST", target, content)

        return await trio.to_thread.run_sync(make)

    def _burial(self, target: str, version: int) -> Request:
        """Hide the document and keep older writes away; on single numbers only, so in a full cluster too."""
        revision = min(((version + 1) << VECTORS_BITS) - 1, VERSION_MAX)
        return json_request(
            "PUT",
            target,
            {
                "condition": f"{DOCUMENT}.revision < {revision}",
                "create": True,
                "fields": {
                    "version": {"assign": version},
                    "revision": {"assign": revision},
                    "deleted": {"assign": 1},
                    "deleted_at": {"assign": int(self._clock())},
                },
            },
        )

    async def _read_position(self, generation: str) -> tuple[int, FeedPosition | None]:
        reply = await self._once("GET", position_path(generation))
        if reply.status == HTTPStatus.NOT_FOUND:
            return 0, None
        if reply.status != HTTPStatus.OK:
            raise Unavailable(f"Vespa did not say its position: {reply.message}", code="vespa-away")
        fields: dict[str, Any] = reply.read()["fields"]
        return int(fields["place"]), FeedPosition(*json.loads(fields["position"]))

    async def _save_position(self, generation: str, position: FeedPosition) -> None:
        """Put *position* in the place of the last one that this feeder knows, unless another one is there."""
        text = json.dumps(
            [position.consumer_id, position.snapshot, position.timeline, position.mark]
        )
        place = self._places.get(generation, 0)
        content = {
            "condition": f"{POSITION}.place == {place}",
            "create": True,
            "fields": {"generation": generation, "place": place + 1, "position": text},
        }

        async def write() -> bool:
            reply = await self._once("POST", position_path(generation), content)
            if reply.status == HTTPStatus.OK:
                return True
            if reply.status != HTTPStatus.PRECONDITION_FAILED:
                raise Unavailable(f"Vespa took no position: {reply.message}", code="vespa-away")
            # Perhaps by an earlier try of this very write.
            return await self._read_position(generation) == (place + 1, position)

        if not await retrying(write):
            raise Transient(
                f"another process feeds generation {generation}", code="index-overtaken"
            )
        self._places[generation] = place + 1

    async def _once(self, method: str, path: str, content: object = None) -> Reply:
        target = f"{path}?timeout={SERVER_TIME:g}"
        request = (
            Request(method, target) if content is None else json_request(method, target, content)
        )
        try:
            return await self._feed.send(request, seconds=CLIENT_TIME)
        except ConnectionFailed as error:
            raise Unavailable(f"Vespa is away: {error}", code="vespa-away") from error
