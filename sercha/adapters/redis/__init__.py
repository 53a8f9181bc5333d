"""What Sercha keeps in Redis beside leases: hints that may be lost at any time."""

from sercha.adapters.redis.dispatch import RedisDispatch, open_redis_dispatch

__all__ = ["RedisDispatch", "open_redis_dispatch"]
