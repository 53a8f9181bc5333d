"""The API with real services on a real database; only the index is a list that the test fills."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from quart_trio import QuartTrio

from sercha.adapters.clock import SystemClock
from sercha.adapters.connectors.localfs import Localfs
from sercha.adapters.embeddings import open_embedder
from sercha.adapters.postgres.accounts import PostgresAccountStore
from sercha.adapters.postgres.changes import PostgresChangeFeed
from sercha.adapters.postgres.documents import PostgresDocumentStore
from sercha.adapters.postgres.embeddings import PostgresEmbeddingStore
from sercha.adapters.postgres.events import PostgresEventFeed
from sercha.adapters.postgres.idempotency import PostgresAnswerStore
from sercha.adapters.postgres.leases import PostgresLeaseNames, open_postgres_leases
from sercha.adapters.postgres.migrate import migrate
from sercha.adapters.postgres.nodes import PostgresNodeStore
from sercha.adapters.postgres.notices import PostgresNotices
from sercha.adapters.postgres.pool import ConnectionPool, open_pool
from sercha.adapters.postgres.schedules import PostgresScheduleStore
from sercha.adapters.postgres.sources import PostgresSourceStore
from sercha.adapters.postgres.task_admin import PostgresTaskAdmin
from sercha.adapters.postgres.tasks import PostgresTaskQueue
from sercha.adapters.security.passwords import Argon2Passwords
from sercha.adapters.security.sealing import MasterKeySeal, SecretSeal
from sercha.adapters.security.tokens import JwtTokens
from sercha.domain.account import Role
from sercha.domain.document import Chunk, DocumentDraft, DocumentId
from sercha.domain.query import SearchQuery
from sercha.domain.source import ProviderType
from sercha.roles.api import ApiOptions, ApiServices, Traffic, create_app
from sercha.services.accounts import Accounts
from sercha.services.ai_settings import AISettings
from sercha.services.documents import Documents
from sercha.services.events import CHANNEL, Events
from sercha.services.follow import Follower
from sercha.services.idempotency import Idempotency
from sercha.services.index_care import IndexCare
from sercha.services.leases import Leases
from sercha.services.ports import (
    Change,
    DocumentVersion,
    FeedPosition,
    IndexHit,
    IndexPage,
    VerifyReport,
)
from sercha.services.ports.vector_search import VectorsState
from sercha.services.schedules import Schedules
from sercha.services.search import Search
from sercha.services.sources import Sources
from sercha.telemetry.health import ComponentHealth, Health

ADMIN = {"name": "Ann", "email": "ann@example.org", "password": "correct horse"}
SECRET = "a secret for tests only, long enough"
MASTER_KEY = b"a master key of tests, 32 bytes."


@dataclass
class ListedIndex:
    """A `SearchIndex` that finds what the test lists."""

    hits: tuple[IndexHit, ...] = ()
    queries: list[SearchQuery] = field(default_factory=list)
    generation: str = "test"

    async def position(self) -> FeedPosition | None:
        return None

    async def apply(self, changes: Sequence[Change], position: FeedPosition | None) -> None:
        raise AssertionError("nobody follows the feed in these tests")

    async def replace(
        self, batches: AsyncIterable[Sequence[Change]], position: FeedPosition
    ) -> None:
        raise AssertionError("nobody follows the feed in these tests")

    async def search(self, query: SearchQuery, principals: frozenset[str]) -> IndexPage:
        self.queries.append(query)
        page = self.hits[query.offset : query.offset + query.limit]
        return IndexPage(page, len(self.hits))

    def spans(self, query: SearchQuery, text: str) -> list[tuple[int, int]]:
        found = [(text.find(term.text), len(term.text)) for term in query.terms]
        return sorted((at, at + length) for at, length in found if at >= 0)

    async def verify(self, truth: AsyncIterable[list[DocumentVersion]]) -> VerifyReport:
        checked = 0
        async for batch in truth:
            checked += len(batch)
        return VerifyReport(checked=checked)


@dataclass
class Api:
    """One API under test."""

    app: QuartTrio
    client: httpx.AsyncClient
    services: ApiServices
    pool: ConnectionPool
    index: ListedIndex
    root: Path
    """A folder that localfs sources may read."""

    async def setup(self) -> dict[str, str]:
        """Make the first administrator and return the headers of a log-in."""
        answer = await self.client.post("/api/v1/setup", json=ADMIN)
        assert answer.status_code == 201, answer.text
        return await self.login(ADMIN["email"], ADMIN["password"])

    async def login(self, email: str, password: str) -> dict[str, str]:
        """Return the headers of a log-in."""
        answer = await self.client.post(
            "/api/v1/auth/login", json={"email": email, "password": password}
        )
        assert answer.status_code == 200, answer.text
        return {"Authorization": f"Bearer {answer.json()['token']}"}

    async def user(self, role: Role) -> dict[str, str]:
        """Add a user with *role* and return the headers of a log-in."""
        email = f"{role}@example.org"
        await self.services.accounts.create_user(role.value, email, "correct horse", role)
        return await self.login(email, "correct horse")

    async def source(self, headers: dict[str, str], name: str = "notes") -> str:
        """Add a source and return its id."""
        answer = await self.client.post(
            "/api/v1/sources",
            headers=headers,
            json={
                "name": name,
                "provider_type": "localfs",
                "config": {"paths": [str(self.root)]},
            },
        )
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    async def document(
        self,
        source_id: Any,
        text: str,
        *,
        name: str = "a.txt",
        readers: tuple[str, ...] = ("team",),
    ) -> DocumentId:
        """Store a document of one chunk and return its id."""
        store = PostgresDocumentStore(self.pool)
        draft = DocumentDraft(
            external_id=name,
            path=f"/{name}",
            title=name,
            mime_type="text/plain",
            text=text,
            chunks=(Chunk(0, 0, len(text)),),
            fingerprint="1",
            content_hash=b"1",
            readers=readers,
            metadata={"language": "en"},
        )
        async with self.pool.transaction() as tx:
            await store.save(tx, source_id, [draft])
        async with self.pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT id FROM document WHERE external_id = %s", [name]
            )
            row = await cursor.fetchone()
        assert row is not None
        return DocumentId(row[0])


async def _vectors() -> VectorsState:
    return VectorsState(is_usable=True, is_vespa=True)


def _index_care(
    index: ListedIndex, feed: PostgresChangeFeed, documents: PostgresDocumentStore
) -> IndexCare:
    # Never run: the index is what the test lists.
    follower = Follower(index, feed, documents, cast("Any", None), lambda: "test")
    return IndexCare(index, feed, follower)


def _ai_settings(pool: ConnectionPool, master_key: bytes) -> AISettings:
    return AISettings(pool, PostgresEmbeddingStore(pool), SecretSeal(master_key), _open_probe)


def _open_probe(base_url: str, model: str, api_key: str | None):
    return open_embedder(base_url, model, api_key=api_key, call_seconds=1.0)


async def _metrics_page() -> tuple[bytes, str]:
    return generate_latest(), CONTENT_TYPE_LATEST


def make_idempotency(
    pool: ConnectionPool, master_key: bytes, options: ApiOptions, max_open: int
) -> Idempotency:
    """Put together what the wiring does, on a pool of *max_open* connections."""
    return Idempotency(
        pool,
        PostgresAnswerStore(),
        MasterKeySeal(master_key),
        wait_max=options.idempotency_wait,
        at_once=max(1, max_open // 2),
    )


@asynccontextmanager
async def open_services(
    url: str,
    root: Path,
    *,
    options: ApiOptions | None = None,
    setup_token: str | None = None,
    master_key: bytes = MASTER_KEY,
    max_open: int = 10,
) -> AsyncGenerator[tuple[ApiServices, ConnectionPool, ListedIndex]]:
    """Open the services on a migrated database."""
    options = options or ApiOptions()
    opening = open_pool(url, max_open=max_open)
    async with opening as pool, open_postgres_leases(pool, max_open=max_open) as leases:
        await migrate(pool)
        schedules = PostgresScheduleStore(pool)
        clock, index, feed = SystemClock(), ListedIndex(), PostgresChangeFeed(pool)
        documents, queue = PostgresDocumentStore(pool), PostgresTaskQueue(pool)

        async def probe() -> ComponentHealth:
            async with pool.connection() as connection:
                await connection.execute("SELECT 1")
            return ComponentHealth(is_healthy=True, is_vital=True)

        services = ApiServices(
            accounts=Accounts(
                pool,
                PostgresAccountStore(pool),
                Argon2Passwords(time_cost=1, memory_kib=8),
                JwtTokens(SECRET),
                clock,
                setup_token=setup_token,
            ),
            ai=AISettings(pool, PostgresEmbeddingStore(pool), SecretSeal(master_key), _open_probe),
            vectors=_vectors,
            sources=Sources(
                pool,
                PostgresSourceStore(pool),
                documents,
                queue,
                {ProviderType.LOCALFS: Localfs((root,))},
                clock,
                schedules=schedules,
            ),
            documents=Documents(documents),
            search=Search(index, documents),
            index=_index_care(index, feed, documents),
            queue=queue,
            task_admin=PostgresTaskAdmin(pool),
            schedules=Schedules(pool, schedules, queue),
            leases=Leases(leases, PostgresLeaseNames(pool)),
            nodes=PostgresNodeStore(pool),
            idempotency=make_idempotency(pool, master_key, options, max_open),
            events=_events(pool),
            health=Health({"postgres": probe}),
            version="1.2.3",
            metrics=_metrics_page,
            options=options,
        )
        yield services, pool, index


def _events(pool: ConnectionPool) -> Events:
    """Events that nobody reads for and nobody listens for, unless a test does."""
    return Events(PostgresEventFeed(pool), PostgresNotices(pool, [CHANNEL]), poll_interval=0.05)


@asynccontextmanager
async def open_api(
    url: str,
    root: Path,
    *,
    options: ApiOptions | None = None,
    setup_token: str | None = None,
    traffic: Traffic | None = None,
    master_key: bytes = MASTER_KEY,
    max_open: int = 10,
) -> AsyncGenerator[Api]:
    """Open the application with a client that calls it in this process, without sockets."""
    opening = open_services(
        url,
        root,
        options=options,
        setup_token=setup_token,
        master_key=master_key,
        max_open=max_open,
    )
    async with opening as opened:
        services, pool, index = opened
        app = create_app(services, traffic=traffic)
        transport = httpx.ASGITransport(app=cast("Any", app))
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            yield Api(app, client, services, pool, index, root)
