"""The embedded Valkey for the time of a block: taken over, started, watched, stopped.

While it is away Sercha takes tasks from PostgreSQL, so no failure of it leaves here. A server that dies is started
again on the same address; data with which it does not start are put aside, as they are hints.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
import trio

from sercha.adapters.embedded_redis.place import (
    Place,
    discard_data,
    has_data,
    prepare_place,
)
from sercha.adapters.embedded_redis.process import ServerProcess
from sercha.adapters.embedded_redis.stale import end_stale_server
from sercha.adapters.embedded_servers import DataFolder
from sercha.adapters.embedded_servers.serverlog import rotate_log
from sercha.adapters.embedded_servers.shelter import SHELTER
from sercha.errors import SettingsError, Unavailable
from sercha.services.background import running
from sercha.services.backoff import Backoff

RESTART_BASE, RESTART_CAP = 0.5, 60.0
"""Seconds before a server that died is started again."""
STEADY_SECONDS = 60.0
"""A server that lived for so long had no lasting trouble."""

log = structlog.get_logger()


class EmbeddedRedis:
    """A server, as `embedded_redis` gives it; its address stays the same over restarts."""

    def __init__(self, process: ServerProcess) -> None:
        self._process = process
        self.restarts = 0
        """How often it was started again after it had died."""

    @property
    def url(self) -> str:
        """The address with the password: a secret."""
        return self._process.url

    @property
    def pid(self) -> int | None:
        """The server's pid; None between a death and the next start."""
        return self._process.pid

    @property
    def home(self) -> Path:
        """The server's own folder; not always inside of the data folder."""
        return self._process.place.home

    async def keep_alive(self) -> None:
        """Start the server again whenever it dies, for as long as it takes."""
        delays = Backoff(base=RESTART_BASE, cap=RESTART_CAP)
        while True:
            began = trio.current_time()
            status = await self._process.wait_end()
            log.error("redis.died", status=status, last_words=self._process.last_words())
            if trio.current_time() - began >= STEADY_SECONDS:
                delays.reset()
            while True:
                await trio.sleep(delays.next())
                try:
                    await start_anyhow(self._process)
                except (Unavailable, OSError) as error:
                    log.error("redis.restart_failed", error=str(error))  # noqa: TRY400
                else:
                    break
            self.restarts += 1
            log.info("redis.restarted", pid=self.pid, restarts=self.restarts)


@asynccontextmanager
async def embedded_redis(
    folder: DataFolder, *, shelter: Path = SHELTER
) -> AsyncGenerator[EmbeddedRedis | None]:
    """Run Valkey in the data folder while the block lasts; None, logged, where that is not possible.

    Takes over from a server that an earlier Sercha left behind. `shelter` is where root puts what the
    server's account cannot reach otherwise. The block's own errors come out as they are. The server has
    ended when this has, cancelled or not, after 15 s at most.
    """
    process = await _started(folder, shelter)
    if process is None:
        yield None
        return
    server = EmbeddedRedis(process)
    log.info("redis.started", pid=server.pid, home=str(server.home))
    try:
        async with running(server.keep_alive):
            yield server
    finally:
        await process.stop()
        log.info("redis.stopped", home=str(server.home))


async def start_anyhow(process: ServerProcess) -> None:
    """Start the server, a second time without its data if need be. When this raises none is running.

    Raises `Unavailable` (`redis-start`) when it does not start, `OSError` when its folder cannot be used.
    """
    try:
        await process.start()
    except Unavailable as error:
        await process.stop()
        if not has_data(process.place):
            raise
        log.warning("redis.data_discarded", home=str(process.place.home), reason=error.message)
        await trio.to_thread.run_sync(discard_data, process.place)
        await _start_or_stop(process)
    except BaseException:
        await process.stop()
        raise


async def _start_or_stop(process: ServerProcess) -> None:
    try:
        await process.start()
    except BaseException:
        await process.stop()
        raise


async def _started(folder: DataFolder, shelter: Path) -> ServerProcess | None:
    """Return a running server, or None after saying in the log why there is none."""
    limiter = trio.CapacityLimiter(1)
    try:
        place = await trio.to_thread.run_sync(prepare_place, folder, shelter, limiter=limiter)
        await end_stale_server(place)
        return await _first_start(place)
    except (SettingsError, Unavailable, OSError) as error:
        log.warning("redis.omitted", reason=str(error))
        return None


async def _first_start(place: Place) -> ServerProcess:
    rotate_log(place.log)
    process = ServerProcess(place)
    await start_anyhow(process)
    return process
