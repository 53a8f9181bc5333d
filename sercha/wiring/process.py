"""What all roles of one process share: connections, stores and the queue."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import structlog
import trio

# Before psycopg: what it brings for Redis must be imported first.
from sercha.adapters.redis import RedisDispatch, open_redis_dispatch  # isort: skip
from sercha.adapters.redis.leases import open_redis_leases  # isort: skip
from lockd import LeaseStore
from sercha.adapters.clock import SystemClock
from sercha.adapters.connectors.localfs import Localfs
from sercha.adapters.postgres.accounts import PostgresAccountStore
from sercha.adapters.postgres.changes import PostgresChangeFeed
from sercha.adapters.postgres.documents import PostgresDocumentStore
from sercha.adapters.postgres.errors import first_contact
from sercha.adapters.postgres.leases import lend_from, open_postgres_leases
from sercha.adapters.postgres.migrate import schema_state
from sercha.adapters.postgres.nodes import PostgresNodeStore
from sercha.adapters.postgres.notices import PostgresNotices, open_notices
from sercha.adapters.postgres.pool import ConnectionPool, open_pool
from sercha.adapters.postgres.schedules import PostgresScheduleStore
from sercha.adapters.postgres.sources import PostgresSourceStore
from sercha.adapters.postgres.tasks import PostgresTaskQueue
from sercha.domain.source import ProviderType
from sercha.errors import Conflict, SettingsError
from sercha.roles import scheduler, worker
from sercha.services import embedding, events, follow, remote_follow
from sercha.services.announcer import Announcer
from sercha.services.background import running
from sercha.services.ports import Connector, TaskQueue
from sercha.settings import Settings
from sercha.telemetry.health import Health
from sercha.wiring.probes import probe_notices, probe_postgres

_log = structlog.get_logger()

CONNECTIONS_MIN = 3
"""One listens; a page being committed and a request must not wait for each other."""

CHANNELS = (
    worker.CHANNEL,
    follow.CHANNEL,
    remote_follow.CHANNEL,
    scheduler.CHANNEL,
    events.CHANNEL,
    embedding.CHANNEL,
)


@dataclass
class Process:
    """What every role of one process shares."""

    settings: Settings
    pool: ConnectionPool
    notices: PostgresNotices
    queue: PostgresTaskQueue
    feed: PostgresChangeFeed
    documents: PostgresDocumentStore
    sources: PostgresSourceStore
    schedules: PostgresScheduleStore
    accounts: PostgresAccountStore
    nodes: PostgresNodeStore
    connectors: Mapping[ProviderType, Connector]
    health: Health
    node_id: UUID
    """Names this process in the registry of nodes, and in the dispatch."""
    dispatch: RedisDispatch | None = None
    """None without ``REDIS_URL``: then tasks are dispatched by PostgreSQL alone."""
    worker: worker.Worker | None = None
    """Once it was made."""
    clock: SystemClock = field(default_factory=SystemClock)

    async def check_schema(self) -> None:
        """Make sure that the schema is the one of this version.

        Raises:
            Conflict: ``schema-pending``, ``schema-newer`` or ``schema-changed``.
            SettingsError: PostgreSQL refuses the log-in.
            Unavailable: PostgreSQL is away.
        """
        with first_contact():
            pending = (await schema_state(self.pool)).pending
        if pending:
            raise Conflict(
                f"the database lacks {len(pending)} migration(s), first {pending[0]}: run `sercha migrate`",
                code="schema-pending",
            )


@asynccontextmanager
async def open_process(
    settings: Settings, *, remembered_roots: tuple[Path, ...] = ()
) -> AsyncGenerator[Process]:
    """Open what all roles share; PostgreSQL need not be there yet."""
    if settings.db_max_open_conns < CONNECTIONS_MIN:
        raise SettingsError(
            f"DB_MAX_OPEN_CONNS: {settings.db_max_open_conns} is not allowed; allowed: "
            f"{CONNECTIONS_MIN} or more (one connection listens)"
        )
    roots = (*settings.localfs_allowed_roots, *remembered_roots)
    node_id = uuid4()
    async with (
        _open_pool(settings) as pool,
        open_notices(pool, CHANNELS) as notices,
        _open_queue(settings, pool, node_id) as (queue, dispatch),
    ):
        process = Process(
            settings=settings,
            pool=pool,
            notices=notices,
            queue=queue,
            dispatch=dispatch,
            node_id=node_id,
            feed=PostgresChangeFeed(pool),
            documents=PostgresDocumentStore(pool, reads_vectors=settings.search_engine == "vespa"),
            sources=PostgresSourceStore(pool),
            schedules=PostgresScheduleStore(pool),
            accounts=PostgresAccountStore(pool),
            nodes=PostgresNodeStore(pool),
            connectors={ProviderType.LOCALFS: Localfs(roots, settings.data_dir)},
            health=Health(),
        )
        process.health.probes["postgres"] = lambda: probe_postgres(pool)
        process.health.probes["notices"] = lambda: probe_notices(notices)
        yield process


@asynccontextmanager
async def open_task_queue(settings: Settings) -> AsyncGenerator[TaskQueue]:
    """Open the queue for whoever only enqueues."""
    async with (
        _open_pool(settings) as pool,
        _open_queue(settings, pool, uuid4()) as (queue, _),
    ):
        yield queue


def _open_pool(settings: Settings) -> AbstractAsyncContextManager[ConnectionPool]:
    if settings.database_url is None:
        raise SettingsError("DATABASE_URL: is required")
    return open_pool(
        settings.database_url,
        max_open=settings.db_max_open_conns,
        max_idle=settings.db_max_idle_conns,
        lifetime=settings.db_conn_max_lifetime,
        application_name=f"sercha {settings.role}",
    )


@asynccontextmanager
async def _open_queue(
    settings: Settings, pool: ConnectionPool, node_id: UUID
) -> AsyncGenerator[tuple[PostgresTaskQueue, RedisDispatch | None]]:
    """Open the ledger, and with ``REDIS_URL`` the dispatch beside it, told of what is enqueued here."""
    claim_ttl = settings.worker_claim_ttl
    if settings.redis_url is None:
        yield PostgresTaskQueue(pool, claim_ttl=claim_ttl), None
        return
    async with open_redis_dispatch(settings.redis_url, str(node_id)) as dispatch:
        announcer = Announcer(dispatch)
        queue = PostgresTaskQueue(pool, claim_ttl=claim_ttl, announce=announcer)
        async with running(partial(announcer.run, queue)):
            yield queue, dispatch


@asynccontextmanager
async def open_leases(process: Process) -> AsyncGenerator[LeaseStore]:
    """Open the store of leases: in Redis with ``REDIS_URL``, else in PostgreSQL; never changed while it runs."""
    settings, pool = process.settings, process.pool
    if settings.redis_url is not None:
        opening = open_redis_leases(settings.redis_url, lend_from(pool))
    else:
        opening = open_postgres_leases(pool, max_open=settings.db_max_open_conns)
    async with opening as store:
        yield store


async def warn_of_missing_roots(settings: Settings) -> None:
    """Log each folder that ``LOCALFS_ALLOWED_ROOTS`` names and that does not exist: it may come later."""
    for root in settings.localfs_allowed_roots:
        # A drive of the network that is away can hold up the thread, but nobody waits for it.
        if not await trio.to_thread.run_sync(os.path.exists, root, abandon_on_cancel=True):
            _log.warning(
                "setting.folder_missing", name="LOCALFS_ALLOWED_ROOTS", folder=os.fspath(root)
            )
