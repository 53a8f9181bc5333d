"""The embedded PostgreSQL for the time of a block: taken over, started, watched, stopped.

    starting -> running -> stopping -> gone
        ^          |
        +-- died --+   at most RESTARTS_MAX times in RESTART_WINDOW_SECONDS, then the block is cancelled

A server that dies is started again on the same address, because requests recover from that by themselves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
import trio

from sercha.adapters.embedded_postgres.cluster import (
    hold_home,
    keep_password,
    make_cluster,
    prepare_site,
)
from sercha.adapters.embedded_postgres.process import ServerProcess
from sercha.adapters.embedded_postgres.stale import end_stale_server
from sercha.adapters.embedded_servers.folder import DataFolder
from sercha.adapters.embedded_servers.serverlog import rotate_log
from sercha.adapters.embedded_servers.shelter import SHELTER
from sercha.errors import SerchaError, Unavailable

RESTARTS_MAX = 3
RESTART_WINDOW_SECONDS = 600
RESTART_DELAY_SECONDS = 0.5

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class EmbeddedPostgresStatistics:
    """How the server has been doing."""

    pid: int | None
    """Of the postmaster; None between a death and the next start."""
    restarts: int
    """How often it was started again after it had died."""


class EmbeddedPostgres:
    """A running server, as `embedded_postgres` gives it; its address stays the same over restarts."""

    def __init__(self, process: ServerProcess) -> None:
        self._process = process
        self._restarts = 0
        self.has_given_up = False

    @property
    def conninfo(self) -> str:
        """The URL of database `sercha`, as superuser `sercha` with the password: a secret."""
        return self._process.endpoint.conninfo(self._process.password)

    @property
    def pid(self) -> int | None:
        """The postmaster's pid; None between a death and the next start."""
        return self._process.pid

    @property
    def data_dir(self) -> Path:
        """PostgreSQL's own data directory; not always inside of the data folder."""
        return self._process.site.data

    @property
    def log_file(self) -> Path:
        """Where PostgreSQL logs to."""
        return self._process.site.log

    def statistics(self) -> EmbeddedPostgresStatistics:
        """Return how the server has been doing."""
        return EmbeddedPostgresStatistics(self.pid, self._restarts)

    async def keep_alive(self, block: trio.CancelScope) -> None:
        """Start the server again whenever it dies; cancel the block when it keeps dying."""
        deaths: deque[float] = deque(maxlen=RESTARTS_MAX)
        while True:
            status = await self._process.wait_end()
            now = trio.current_time()
            log.error("postgres.died", status=status, last_words=self._process.last_words())
            if len(deaths) == RESTARTS_MAX and now - deaths[0] < RESTART_WINDOW_SECONDS:
                self.has_given_up = True
                block.cancel()
                return
            await trio.sleep(RESTART_DELAY_SECONDS * 2 ** len(deaths))
            deaths.append(now)
            self._restarts += 1
            try:
                await end_stale_server(self._process.site)
                await self._process.start()
            except SerchaError as error:
                log.error("postgres.restart_failed", error=error.message)  # noqa: TRY400
                await self._process.stop()
            else:
                log.info("postgres.restarted", pid=self.pid, restarts=self._restarts)


@asynccontextmanager
async def embedded_postgres(
    folder: DataFolder, *, settings: Mapping[str, str] | None = None, shelter: Path = SHELTER
) -> AsyncGenerator[EmbeddedPostgres]:
    """Run PostgreSQL in the data folder while the block lasts; `settings` go before our own.

    Makes the cluster and database `sercha` on the first use, takes over from a server that an earlier Sercha
    left behind. `shelter` is where root puts what PostgreSQL's account cannot reach otherwise. When the
    server keeps dying the block is cancelled and `Unavailable` (`postgres-died`) raised. The block's own
    errors come out as they are. The server has ended when this has, cancelled or not.

    Raises `SettingsError` when the machine cannot run it, `Rejected` (`data-dir-version`,
    `data-dir-cluster`) when the cluster is not for us, `Conflict` (`data-dir-in-use`) when
    somebody else runs it, `Unavailable` (`postgres-start`) when it does not start in 60 s.
    """
    limiter = trio.CapacityLimiter(1)
    site = await trio.to_thread.run_sync(prepare_site, folder, shelter, limiter=limiter)
    with hold_home(site):
        password = keep_password(folder.path, site.data)
        await make_cluster(site, password)
        await end_stale_server(site)
        rotate_log(site.log)
        process = ServerProcess(site, password, settings or {})
        try:
            await process.start()
            server = EmbeddedPostgres(process)
            log.info("postgres.started", pid=server.pid, data=str(site.data))
            async with _kept_alive(server):
                yield server
        finally:
            await process.stop()
            log.info("postgres.stopped", data=str(site.data))


@asynccontextmanager
async def _kept_alive(server: EmbeddedPostgres) -> AsyncGenerator[None]:
    """Watch the server during the block, without wrapping the block's errors into a group."""
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.keep_alive, nursery.cancel_scope)
            try:
                yield
            except BaseException as error:
                failure = error
                raise
            finally:
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup:
        # The watcher raises nothing, so the group holds what the block raised, perhaps twice wrapped.
        if failure is None or server.has_given_up:
            raise
        raise failure from failure.__cause__
    if server.has_given_up:
        raise Unavailable(
            f"the embedded PostgreSQL died {RESTARTS_MAX + 1} times in a short while, see "
            f"{server.log_file}",
            code="postgres-died",
        )
