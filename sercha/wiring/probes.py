"""What each part of a process says about its health."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sercha.adapters.postgres.notices import PostgresNotices
from sercha.adapters.postgres.pool import ConnectionPool
from sercha.errors import Transient, Unavailable
from sercha.roles.worker import Worker
from sercha.services.follow import Following
from sercha.services.ports.vector_search import VectorsState
from sercha.telemetry.health import ComponentHealth


async def probe_postgres(pool: ConnectionPool) -> ComponentHealth:
    """A connection can be had and answers; a pool that is busy is no failure."""
    try:
        async with pool.connection() as connection:
            await connection.execute("SELECT 1")
    except Unavailable as error:
        is_busy = error.error_code == "pool-exhausted"
        return ComponentHealth(is_busy, error.message, is_vital=True)
    return ComponentHealth(is_healthy=True, is_vital=True)


async def probe_notices(notices: PostgresNotices) -> ComponentHealth:
    """Notices come in; without them everything still works, a little later."""
    if notices.is_listening:
        return ComponentHealth(is_healthy=True)
    return ComponentHealth(is_healthy=False, message="not listening: polling instead")


async def probe_index(follower: Following) -> ComponentHealth:
    """The index follows the feed, or whoever feeds it can be asked."""
    state = follower.state
    if state.error is not None:
        return ComponentHealth(is_healthy=False, message=state.error)
    return ComponentHealth(is_healthy=True, message="rebuilding" if state.is_rebuilding else "")


async def probe_vectors(state: Callable[[], Awaitable[VectorsState]]) -> ComponentHealth:
    """Vectors can be used, where they are wanted; text answers without them."""
    try:
        found = await state()
    except Transient as error:
        return ComponentHealth(is_healthy=False, message=error.message)
    return ComponentHealth(is_healthy=found.is_healthy, message=found.message)


async def probe_worker(made: Worker) -> ComponentHealth:
    """The ledger knows the worker."""
    statistics = made.statistics()
    message = f"{len(statistics.running)} of {statistics.slots} slots busy"
    return ComponentHealth(is_healthy=statistics.owner is not None, message=message)


async def probe_dispatch(made: Worker) -> ComponentHealth:
    """Tasks come through Redis."""
    error = made.statistics().dispatch_error
    if error is None:
        return ComponentHealth(is_healthy=True)
    return ComponentHealth(is_healthy=False, message=f"{error}; tasks come from PostgreSQL")
