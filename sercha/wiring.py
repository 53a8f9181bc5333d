"""Settings to adapters to services: the only place that knows them all.

Each function is an async context manager that opens one part and closes it at the end, so the order of blocks
is the order of dependence, and leaving them in reverse is the order of shutdown.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import structlog
import trio
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from sercha.adapters.clock import SystemClock
from sercha.adapters.connectors.localfs import Localfs
from sercha.adapters.embedded_index.index import EmbeddedIndex, open_embedded_index
from sercha.adapters.parsing.text import PlainTextExtractor
from sercha.adapters.postgres.accounts import PostgresAccountStore
from sercha.adapters.postgres.changes import PostgresChangeFeed
from sercha.adapters.postgres.documents import PostgresDocumentStore
from sercha.adapters.postgres.errors import first_contact
from sercha.adapters.postgres.migrate import schema_state
from sercha.adapters.postgres.nodes import PostgresNodeStore
from sercha.adapters.postgres.notices import PostgresNotices, open_notices
from sercha.adapters.postgres.pool import ConnectionPool, open_pool
from sercha.adapters.postgres.sources import PostgresSourceStore
from sercha.adapters.postgres.tasks import PostgresTaskQueue
from sercha.adapters.redis import RedisDispatch, open_redis_dispatch
from sercha.adapters.security.passwords import Argon2Passwords
from sercha.adapters.security.tokens import JwtTokens
from sercha.domain.source import ProviderType
from sercha.domain.task import TaskKind
from sercha.errors import Conflict, SettingsError, Unavailable
from sercha.roles import worker
from sercha.roles.api.context import ApiOptions, ApiServices, ProbeServices
from sercha.roles.node import NodeRegistrar
from sercha.services import follow
from sercha.services.accounts import Accounts
from sercha.services.announcer import Announcer
from sercha.services.attempt import Handler
from sercha.services.background import running
from sercha.services.documents import Documents
from sercha.services.follow import Follower
from sercha.services.index_care import IndexCare
from sercha.services.ports import Connector
from sercha.services.search import Search
from sercha.services.sources import Sources
from sercha.services.sync import SyncSource
from sercha.settings import Settings
from sercha.telemetry import metrics
from sercha.telemetry.health import ComponentHealth, Health
from sercha.version import __version__

_log = structlog.get_logger()

CONNECTIONS_MIN = 3
"""One listens; a page being committed and a request must not wait for each other."""


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
    accounts: PostgresAccountStore
    nodes: PostgresNodeStore
    connectors: Mapping[ProviderType, Connector]
    health: Health
    node_id: UUID
    """Names this process in the registry of nodes, and in the dispatch."""
    dispatch: RedisDispatch | None = None
    """None without ``REDIS_URL``: then tasks are dispatched by PostgreSQL alone."""
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
    if settings.database_url is None:
        raise SettingsError("DATABASE_URL: is required")
    if settings.db_max_open_conns < CONNECTIONS_MIN:
        raise SettingsError(
            f"DB_MAX_OPEN_CONNS: {settings.db_max_open_conns} is not allowed; allowed: "
            f"{CONNECTIONS_MIN} or more (one connection listens)"
        )
    roots = (*settings.localfs_allowed_roots, *remembered_roots)
    node_id = uuid4()
    async with (
        open_pool(
            settings.database_url,
            max_open=settings.db_max_open_conns,
            max_idle=settings.db_max_idle_conns,
            lifetime=settings.db_conn_max_lifetime,
            application_name=f"sercha {settings.role}",
        ) as pool,
        open_notices(pool, [worker.CHANNEL, follow.CHANNEL]) as notices,
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
            documents=PostgresDocumentStore(pool),
            sources=PostgresSourceStore(pool),
            accounts=PostgresAccountStore(pool),
            nodes=PostgresNodeStore(pool),
            connectors={ProviderType.LOCALFS: Localfs(roots, settings.data_dir)},
            health=Health(),
        )
        process.health.probes["postgres"] = lambda: _probe_postgres(pool)
        process.health.probes["notices"] = lambda: _probe_notices(notices)
        yield process


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


async def warn_of_missing_roots(settings: Settings) -> None:
    """Log each folder that ``LOCALFS_ALLOWED_ROOTS`` names and that does not exist: it may come later."""
    for root in settings.localfs_allowed_roots:
        # A drive of the network that is away can hold up the thread, but nobody waits for it.
        if not await trio.to_thread.run_sync(os.path.exists, root, abandon_on_cancel=True):
            _log.warning(
                "setting.folder_missing", name="LOCALFS_ALLOWED_ROOTS", folder=os.fspath(root)
            )


@asynccontextmanager
async def open_search(process: Process) -> AsyncGenerator[tuple[EmbeddedIndex, Follower]]:
    """Open this process's copy of the index with the follower that keeps it true.

    The follower does nothing until somebody runs it.
    """
    data_dir = process.settings.data_dir
    if data_dir is None:
        raise SettingsError("DATA_DIR: is required: the index copy lives there")
    async with open_embedded_index(data_dir / "index") as index:
        follower = Follower(
            index, process.feed, process.documents, process.notices, lambda: index.consumer_id
        )
        process.health.probes["index"] = lambda: _probe_index(follower)
        process.health.is_caught_up = lambda: follower.state.is_caught_up
        yield index, follower


def make_sources(process: Process) -> Sources:
    """Put the rules about sources together."""
    return Sources(
        process.pool,
        process.sources,
        process.documents,
        process.queue,
        process.connectors,
        process.clock,
    )


def make_accounts(process: Process) -> Accounts:
    """Put the rules about accounts together.

    Raises:
        SettingsError: ``JWT_SECRET`` is missing.
    """
    if process.settings.jwt_secret is None:
        raise SettingsError("JWT_SECRET: is required")
    return Accounts(
        process.pool,
        process.accounts,
        Argon2Passwords(),
        JwtTokens(process.settings.jwt_secret),
        process.clock,
        setup_token=process.settings.setup_token,
    )


def make_registrar(process: Process) -> NodeRegistrar:
    """Put together what keeps this process in the registry of nodes."""
    return NodeRegistrar(
        process.nodes, process.node_id, role=process.settings.role, version=__version__
    )


def make_worker(process: Process, handlers: Mapping[str, Handler]) -> worker.Worker:
    """Put the worker together, with *handlers* beside those of our own kinds or in their place."""
    settings = process.settings
    sync = SyncSource(
        process.pool,
        process.sources,
        process.documents,
        process.queue,
        process.connectors,
        PlainTextExtractor(),
        process.clock,
    )
    made = worker.Worker(
        process.node_id,
        process.queue,
        process.notices,
        {TaskKind.SYNC_SOURCE: sync, **handlers},
        worker.WorkerSettings(
            slots=settings.worker_concurrency,
            poll_interval=settings.worker_dequeue_timeout,
            grace=settings.shutdown_grace,
        ),
        dispatch=process.dispatch,
    )
    process.health.probes["worker"] = lambda: _probe_worker(made)
    if process.dispatch is not None:
        process.health.probes["dispatch"] = lambda: _probe_dispatch(made)
    return made


def make_probes(process: Process) -> ProbeServices:
    """Put together what a process without the API tells about itself."""
    return ProbeServices(
        health=process.health, version=__version__, metrics=partial(_metrics_page, process)
    )


def make_api_services(process: Process, index: EmbeddedIndex, follower: Follower) -> ApiServices:
    """Put everything behind the API together."""
    settings = process.settings
    return ApiServices(
        accounts=make_accounts(process),
        sources=make_sources(process),
        documents=Documents(process.documents),
        search=Search(index, process.documents),
        index=IndexCare(index, process.feed, follower),
        queue=process.queue,
        nodes=process.nodes,
        health=process.health,
        version=__version__,
        metrics=partial(_metrics_page, process, index, follower),
        options=ApiOptions(cors_allowed_origins=settings.cors_allowed_origins),
    )


async def _metrics_page(
    process: Process, index: EmbeddedIndex | None = None, follower: Follower | None = None
) -> tuple[bytes, str]:
    """Bring the gauges up to date and write the page."""
    pool = process.pool.statistics()
    metrics.set_states(
        metrics.DB_CONNECTIONS,
        {"idle": pool.idle, "in_use": pool.in_use, "dedicated": pool.dedicated},
    )
    if index is not None and follower is not None:
        metrics.INDEX_DOCUMENTS.set((await index.statistics()).documents)
        metrics.INDEX_LAG.set(trio.current_time() - follower.state.complete_at)
    return generate_latest(), CONTENT_TYPE_LATEST


async def _probe_postgres(pool: ConnectionPool) -> ComponentHealth:
    try:
        async with pool.connection() as connection:
            await connection.execute("SELECT 1")
    except Unavailable as error:
        is_busy = error.error_code == "pool-exhausted"
        return ComponentHealth(is_busy, error.message, is_vital=True)
    return ComponentHealth(is_healthy=True, is_vital=True)


async def _probe_notices(notices: PostgresNotices) -> ComponentHealth:
    if notices.is_listening:
        return ComponentHealth(is_healthy=True)
    return ComponentHealth(is_healthy=False, message="not listening: polling instead")


async def _probe_index(follower: Follower) -> ComponentHealth:
    state = follower.state
    if state.error is not None:
        return ComponentHealth(is_healthy=False, message=state.error)
    return ComponentHealth(is_healthy=True, message="rebuilding" if state.is_rebuilding else "")


async def _probe_worker(made: worker.Worker) -> ComponentHealth:
    statistics = made.statistics()
    message = f"{len(statistics.running)} of {statistics.slots} slots busy"
    return ComponentHealth(is_healthy=statistics.owner is not None, message=message)


async def _probe_dispatch(made: worker.Worker) -> ComponentHealth:
    error = made.statistics().dispatch_error
    if error is None:
        return ComponentHealth(is_healthy=True)
    return ComponentHealth(is_healthy=False, message=f"{error}; tasks come from PostgreSQL")
