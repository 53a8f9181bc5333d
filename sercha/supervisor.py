"""One process: its roles in one nursery, started in order, drained in reverse.

::

    open_process                    pool, notices, stores, queue   closed last
      └─ leases; api: its engine; worker: what feeds a shared one
           └─ background nursery    follower                       cancelled after the roles
                └─ role nursery     api, worker, feeder, embedding, scheduler: each drains by itself

Setting *drain* stops new work everywhere: the API answers new requests 503 and finishes the others, the worker
claims nothing and finishes or gives back. When all roles have ended, what they stood on is closed. A role that
fails takes the process down; what other servers do (PostgreSQL away) is not a failure.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog
import trio

from lockd import LeaseStore, OnOverrun
from sercha import wiring
from sercha.errors import Transient
from sercha.roles.api.context import ApiServices, ProbeServices
from sercha.roles.api.serve import run_api
from sercha.roles.embedding import Embedding
from sercha.roles.feeder import Feeder
from sercha.services.attempt import Handler
from sercha.services.backoff import Backoff
from sercha.services.follow import Following
from sercha.services.ports import TextExtractor
from sercha.settings import Settings

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Running:
    """What `started()` tells: the process is usable."""

    urls: tuple[str, ...]
    """Where the API answers; empty without it."""
    process: wiring.Process
    follower: Following | None


async def run_roles(
    settings: Settings,
    *,
    drain: trio.Event | None = None,
    remembered_roots: tuple[Path, ...] = (),
    handlers: Mapping[str, Handler] | None = None,
    on_overrun: OnOverrun = "log",
    task_status: trio.TaskStatus[Running | None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the roles that ``settings.role`` names until *drain* is set, in anybody's nursery.

    ``started()`` when every role is usable: the API listens and its index has caught up, the worker claims; with
    None if *drain* was set before that, so that whoever waits for the start goes on. Cancelled, running tasks are
    given back and connections closed within seconds. *handlers* work tasks of other kinds than Sercha's own, or of
    these in another way. *on_overrun* is what happens when scheduling goes on after its lease was lost (the loop
    hangs): only a process of our own may say ``"exit"``.

    Raises:
        SettingsError: a setting is missing, the port is in use, or PostgreSQL refuses the log-in at the start.
        Conflict: the schema is not this version's.
    """
    if drain is None:
        drain = trio.Event()
    async with wiring.open_process(settings, remembered_roots=remembered_roots) as process:
        process.health.draining = drain
        async with AsyncExitStack() as stack:
            follower: Following | None = None
            leases = await stack.enter_async_context(wiring.open_leases(process))
            services: ProbeServices = wiring.make_probes(process)
            if settings.role.runs_api:
                search = await stack.enter_async_context(wiring.open_search(process))
                follower = search.follower
                embedders = await stack.enter_async_context(wiring.open_process_embedders(process))
                services = wiring.make_api_services(process, leases, search, embedders)
            feeder: Feeder | None = None
            embedding: Embedding | None = None
            extractor: TextExtractor | None = None
            if settings.role.runs_worker:
                extractor = await stack.enter_async_context(wiring.open_extractor(process))
                opening = wiring.open_feeder(process, leases, on_overrun)
                feeder = await stack.enter_async_context(opening)
                embedding = await stack.enter_async_context(
                    wiring.open_embedding(process, leases, on_overrun)
                )
            async with _background() as background:
                parts = _Parts(
                    process,
                    services,
                    leases,
                    follower,
                    feeder,
                    embedding,
                    extractor,
                    handlers or {},
                    on_overrun,
                )
                await _run(parts, background, drain, task_status)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the roles are made of."""

    process: wiring.Process
    services: ProbeServices
    leases: LeaseStore
    follower: Following | None
    feeder: Feeder | None
    embedding: Embedding | None
    extractor: TextExtractor | None
    """None without a worker."""
    handlers: Mapping[str, Handler]
    on_overrun: OnOverrun


async def _run(
    parts: _Parts,
    background: trio.Nursery,
    drain: trio.Event,
    task_status: trio.TaskStatus[Running | None],
) -> None:
    process, follower = parts.process, parts.follower
    settings = process.settings
    urls: list[str] = []
    async with trio.open_nursery() as roles:
        if settings.port is not None:
            # First of all: while the rest waits for PostgreSQL, /health and /ready say so.
            urls = await roles.start(
                partial(
                    run_api,
                    parts.services,
                    host=settings.host,
                    port=settings.port,
                    drain=drain,
                    grace=settings.shutdown_grace,
                )
            )
        background.start_soon(wiring.warn_of_missing_roots, settings)
        await _wait_for_schema(process, drain)
        background.start_soon(wiring.make_registrar(process).run)
        if isinstance(parts.services, ApiServices):
            background.start_soon(parts.services.events.run)
        if follower is not None:
            await _start_unless_drained(background, follower.run, drain)
        if parts.extractor is not None and not drain.is_set():
            worker = wiring.make_worker(process, parts.extractor, parts.handlers)
            await roles.start(partial(worker.run, drain=drain))
            if parts.feeder is not None:
                await roles.start(partial(parts.feeder.run, drain=drain))
            if parts.embedding is not None:
                await roles.start(partial(parts.embedding.run, drain=drain))
            if settings.scheduler_enabled:
                scheduler = wiring.make_scheduler(process, parts.leases, parts.on_overrun)
                await roles.start(partial(scheduler.run, drain=drain))
        if drain.is_set():
            task_status.started(None)
        else:
            _log.info("process.ready", role=settings.role, urls=urls)
            task_status.started(Running(tuple(urls), process, follower))
        await drain.wait()
        _log.info("process.draining", grace=settings.shutdown_grace)


async def _wait_for_schema(process: wiring.Process, drain: trio.Event) -> None:
    """Wait until PostgreSQL answers with the right schema, or *drain* is set.

    A log-in that is refused is not waited for: nothing that was set right leads there.
    """
    backoff = Backoff(base=0.2, cap=5.0)
    while not drain.is_set():
        try:
            await process.check_schema()
        except Transient as error:
            delay = backoff.next()
            _log.warning("postgres.waited_for", error=error.message, retry_in=round(delay, 1))
            with trio.move_on_after(delay):
                await drain.wait()
        else:
            return


async def _start_unless_drained(
    nursery: trio.Nursery, run: Callable[..., Awaitable[None]], drain: trio.Event
) -> None:
    """Start a task and wait until it is usable, or until *drain* is set; then it is not started."""
    if drain.is_set():
        return
    async with trio.open_nursery() as waiting:

        async def start() -> None:
            await nursery.start(run)
            waiting.cancel_scope.cancel()

        waiting.start_soon(start)
        await drain.wait()
        waiting.cancel_scope.cancel()


@asynccontextmanager
async def _background() -> AsyncGenerator[trio.Nursery]:
    """A nursery that is cancelled when its block has ended."""
    async with trio.open_nursery() as nursery:
        yield nursery
        nursery.cancel_scope.cancel("the roles have ended")
