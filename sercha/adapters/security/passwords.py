"""Argon2id in threads, few at a time: each hash takes `MEMORY_KIB` of memory and tens of milliseconds."""

from __future__ import annotations

from functools import partial

import trio
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

TIME_COST = 2
MEMORY_KIB = 19 * 1024
PARALLELISM = 1
"""The least that OWASP's password storage advice names for Argon2id (19 MiB, 2 passes, 1 lane)."""
THREADS_MAX = 2


class Argon2Passwords:
    """`sercha.services.ports.Passwords`; a hash costs *time_cost* passes over *memory_kib* KiB."""

    def __init__(self, *, time_cost: int = TIME_COST, memory_kib: int = MEMORY_KIB) -> None:
        self._hasher = PasswordHasher(
            time_cost=time_cost, memory_cost=memory_kib, parallelism=PARALLELISM
        )
        self._limiter = trio.CapacityLimiter(THREADS_MAX)
        self._dummy_hash: str | None = None

    async def hash(self, password: str) -> str:
        """Return a salted hash that names its own parameters. Cancellation waits for the thread."""
        return await trio.to_thread.run_sync(self._hasher.hash, password, limiter=self._limiter)

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether the password fits; None (no such user) takes as long as a wrong password."""
        if password_hash is None:
            await self._verify(await self._dummy(), password)
            return False
        return await self._verify(password_hash, password)

    async def _verify(self, password_hash: str, password: str) -> bool:
        return await trio.to_thread.run_sync(
            partial(_fits, self._hasher, password_hash, password), limiter=self._limiter
        )

    async def _dummy(self) -> str:
        if self._dummy_hash is None:
            self._dummy_hash = await self.hash("nobody has this password")
        return self._dummy_hash


def _fits(hasher: PasswordHasher, password_hash: str, password: str) -> bool:
    try:
        return hasher.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False
