"""The scripts that run inside Redis: each touches one key, so that each is one step on one node.

Lease key: a string, the holder's id, with a TTL. Token key: a hash of ``token`` and ``holder``, without one.
``pcall`` around PUBLISH: a user who may not publish can still release.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Script:
    """One script, and the name under which the server may know it already."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", digest)


RENEW = Script("""
local holder = redis.call('GET', KEYS[1])
if not holder then return -1 end
if holder ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
""")
"""Key; holder, milliseconds. 1 renewed, 0 somebody else's, -1 not there."""

RELEASE = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.pcall('PUBLISH', ARGV[2], '')
return 1
""")
"""Key; holder, channel. 1 released, 0 it was not his."""

EVICT = Script("""
local was_held = redis.call('DEL', KEYS[1])
redis.pcall('PUBLISH', ARGV[1], '')
return was_held
""")
"""Key; channel. 1 somebody had held it, 0 nobody."""

TAKE_TOKEN = Script("""
local token = tonumber(redis.call('HGET', KEYS[1], 'token') or 0)
if ARGV[2] ~= '' and token ~= tonumber(ARGV[2]) then return 0 end
local time = redis.call('TIME')
local next = math.max(token + 1, time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('HSET', KEYS[1], 'token', string.format('%.0f', next), 'holder', ARGV[1])
return next
""")
"""Token key; holder (empty: nobody), the token seen (empty: whatever it is). The new token, or 0."""
