"""What several tests of leases in Redis need."""

from __future__ import annotations

from uuid import uuid4

import pytest
import trio

from lockd.redis import RedisStore


def leave_unadvised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep stores from asking for the server's settings, so that a fault hits the test's own request."""

    async def no_advice(_: object) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr("lockd._redis._advise", no_advice)


async def publish(store: RedisStore, name: str) -> None:
    """Take a lease of this name and release it."""
    holder = uuid4()
    await store.acquire(name, holder, 30, 0)
    assert await store.release(name, holder)
