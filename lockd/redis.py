"""The public door to everything of lockd that needs Redis (redis and trio-asyncio, the extra ``redis``).

Importing it imports trio_asyncio, which replaces asyncio's event loop policy in this process.
"""

from lockd._redis import RedisStore, open_redis_store
from lockd._redis_client import RedisClient, RedisLane
from lockd._redis_open import open_redis_client
from lockd._redis_scripts import Script

__all__ = [
    "RedisClient",
    "RedisLane",
    "RedisStore",
    "Script",
    "open_redis_client",
    "open_redis_store",
]
