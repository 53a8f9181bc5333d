"""The public door to everything of lockd that needs Redis (redis and trio-asyncio, the extra ``redis``).

Importing it imports trio_asyncio, which replaces asyncio's event loop policy in this process.
"""

from lockd._redis import RedisStore, open_redis_store

__all__ = ["RedisStore", "open_redis_store"]
