"""The services and roles of a process, put together from its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from uuid import UUID

import trio
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from lockd import LeaseStore, OnOverrun
from sercha.adapters.postgres.copies import PostgresCopyStore
from sercha.adapters.postgres.embeddings import PostgresEmbeddingStore
from sercha.adapters.postgres.events import PostgresEventFeed
from sercha.adapters.postgres.idempotency import PostgresAnswerStore
from sercha.adapters.postgres.leases import PostgresLeaseNames
from sercha.adapters.postgres.retention import PostgresRetentionStore
from sercha.adapters.postgres.task_admin import PostgresTaskAdmin
from sercha.adapters.security.passwords import Argon2Passwords
from sercha.adapters.security.sealing import MasterKeySeal
from sercha.adapters.security.tokens import JwtTokens
from sercha.domain.task import TaskKind
from sercha.errors import SettingsError
from sercha.roles import scheduler, worker
from sercha.roles.api.context import ApiOptions, ApiServices, ProbeServices
from sercha.roles.node import NodeRegistrar
from sercha.services.accounts import Accounts
from sercha.services.attempt import Handler
from sercha.services.documents import Documents
from sercha.services.embedders import Embedders
from sercha.services.events import Events
from sercha.services.idempotency import Idempotency
from sercha.services.index_care import IndexCare
from sercha.services.leases import Leases
from sercha.services.ports import TextExtractor
from sercha.services.ports.task_admin import TaskAdmin
from sercha.services.prune import Prune
from sercha.services.query_vectors import QueryVectors
from sercha.services.reindex import Reindex
from sercha.services.scheduler import Ticker
from sercha.services.schedules import Schedules
from sercha.services.search import Search
from sercha.services.sources import Sources
from sercha.services.sync import SyncSource
from sercha.services.sync_all import SyncAll
from sercha.telemetry import metrics
from sercha.version import __version__
from sercha.wiring.embedding import make_ai_settings
from sercha.wiring.probes import probe_dispatch, probe_worker
from sercha.wiring.process import Process
from sercha.wiring.search import VESPA, OpenSearch


def make_sources(process: Process) -> Sources:
    """Put the rules about sources together."""
    return Sources(
        process.pool,
        process.sources,
        process.documents,
        process.queue,
        process.connectors,
        process.clock,
        schedules=process.schedules,
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


def make_idempotency(process: Process, options: ApiOptions) -> Idempotency:
    """Put together what lets a repeated request have its effect once.

    Raises:
        SettingsError: ``MASTER_KEY`` is missing.
    """
    if process.settings.master_key is None:
        raise SettingsError("MASTER_KEY: is required")
    return Idempotency(
        process.pool,
        PostgresAnswerStore(),
        MasterKeySeal(process.settings.master_key),
        wait_max=options.idempotency_wait,
        # The other half stays for requests without a key, and for finding out who asks.
        at_once=max(1, process.settings.db_max_open_conns // 2),
    )


def make_task_admin(process: Process) -> TaskAdmin:
    """Put together what looks at tasks, and puts one back or away by hand."""
    announce = process.queue.announce
    if announce is None:
        return PostgresTaskAdmin(process.pool)

    def announce_committed(task_ids: Sequence[UUID]) -> None:
        process.pool.after_commit(lambda: announce(task_ids))

    return PostgresTaskAdmin(process.pool, announce=announce_committed)


def make_registrar(process: Process) -> NodeRegistrar:
    """Put together what keeps this process in the registry of nodes."""
    return NodeRegistrar(
        process.nodes, process.node_id, role=process.settings.role, version=__version__
    )


def make_worker(
    process: Process, extractor: TextExtractor, handlers: Mapping[str, Handler]
) -> worker.Worker:
    """Put the worker together, with *handlers* beside those of our own kinds or in their place."""
    settings = process.settings
    made = worker.Worker(
        process.node_id,
        process.queue,
        process.notices,
        {**_own_handlers(process, extractor), **handlers},
        worker.WorkerSettings(
            slots=settings.worker_concurrency,
            poll_interval=settings.worker_dequeue_timeout,
            grace=settings.shutdown_grace,
        ),
        dispatch=process.dispatch,
    )
    process.worker = made
    process.health.probes["worker"] = lambda: probe_worker(made)
    if process.dispatch is not None:
        process.health.probes["dispatch"] = lambda: probe_dispatch(made)
    return made


def _own_handlers(process: Process, extractor: TextExtractor) -> dict[str, Handler]:
    pool, queue = process.pool, process.queue
    return {
        TaskKind.SYNC_SOURCE: SyncSource(
            pool,
            process.sources,
            process.documents,
            queue,
            process.connectors,
            extractor,
            process.clock,
        ),
        TaskKind.SYNC_ALL: SyncAll(pool, process.sources, queue),
        TaskKind.REINDEX: Reindex(pool, PostgresCopyStore(), queue),
        TaskKind.PRUNE: Prune(PostgresRetentionStore(pool), process.feed),
    }


def make_scheduler(
    process: Process, leases: LeaseStore, on_overrun: OnOverrun
) -> scheduler.Scheduler:
    """Put this process's candidate for scheduling together."""
    settings = process.settings
    made = scheduler.Scheduler(
        Ticker(process.schedules, process.queue),
        process.pool,
        leases,
        process.notices,
        scheduler.SchedulerSettings(
            lock_required=settings.scheduler_lock_required,
            lock_ttl=settings.scheduler_lock_ttl,
            poll_interval=settings.scheduler_poll_interval,
            on_overrun=on_overrun,
        ),
    )
    process.health.probes["scheduler"] = made.probe
    return made


def make_probes(process: Process) -> ProbeServices:
    """Put together what a process without the API tells about itself."""
    return ProbeServices(
        health=process.health, version=__version__, metrics=partial(_metrics_page, process)
    )


def make_api_services(
    process: Process, leases: LeaseStore, search: OpenSearch, embedders: Embedders
) -> ApiServices:
    """Put everything behind the API together."""
    settings = process.settings
    options = ApiOptions(
        cors_allowed_origins=settings.cors_allowed_origins,
        trusted_proxies=settings.trusted_proxies,
    )
    return ApiServices(
        accounts=make_accounts(process),
        ai=make_ai_settings(process),
        vectors=search.vectors,
        vespa=search.vespa,
        vespa_endpoints=tuple(
            settings.vespa_container_url if settings.search_engine == VESPA else ()
        ),
        sources=make_sources(process),
        documents=Documents(process.documents),
        search=Search(
            search.index,
            process.documents,
            QueryVectors(PostgresEmbeddingStore(process.pool), embedders),
            search.by_vector,
        ),
        index=IndexCare(search.index, process.feed, search.follower),
        queue=process.queue,
        task_admin=make_task_admin(process),
        schedules=Schedules(process.pool, process.schedules, process.queue),
        leases=Leases(leases, PostgresLeaseNames(process.pool)),
        nodes=process.nodes,
        idempotency=make_idempotency(process, options),
        events=Events(PostgresEventFeed(process.pool), process.notices),
        health=process.health,
        version=__version__,
        metrics=partial(_metrics_page, process, search),
        options=options,
    )


async def _metrics_page(process: Process, search: OpenSearch | None = None) -> tuple[bytes, str]:
    """Bring the gauges up to date and write the page."""
    pool = process.pool.statistics()
    metrics.set_states(
        metrics.DB_CONNECTIONS,
        {"idle": pool.idle, "in_use": pool.in_use, "dedicated": pool.dedicated},
    )
    if process.worker is not None:
        working = process.worker.statistics()
        metrics.set_states(
            metrics.SLOTS, {"busy": working.busy, "free": working.slots - working.busy}
        )
        if process.dispatch is not None:
            metrics.DISPATCH_USED.set(working.dispatch_error is None)
    if search is not None:
        if search.count is not None:
            metrics.INDEX_DOCUMENTS.set(await search.count())
        metrics.INDEX_LAG.set(trio.current_time() - search.follower.state.complete_at)
    return generate_latest(), CONTENT_TYPE_LATEST
