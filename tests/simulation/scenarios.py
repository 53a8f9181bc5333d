"""What any store must answer: scripts on the port alone, the same for models, memory and real servers.

Each returns what it was answered, in words that do not depend on the store: holders by letter, tokens by
whether they grew. The simulation proves something about real servers as far as its models answer alike here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import trio

from lockd import Busy, FenceRefused, LeaseStore

NAME = "scheduler"
TTL = 1.0
LONG = 30.0
EXPIRED = 1.25
"""Seconds after which a lease with `TTL` is over."""

A, B, C = (UUID(int=number) for number in (1, 2, 3))
_LETTERS = {A: "A", B: "B", C: "C", None: "nobody"}


@dataclass
class Bench:
    """A store, and what a script notes down about it."""

    store: LeaseStore
    connect: Callable[[], AbstractAsyncContextManager[Any]]
    """Gives a connection that `LeaseStore.fenced` takes."""
    answers: list[str] = field(default_factory=list)
    tokens: dict[UUID, int] = field(default_factory=dict)
    """The newest of each holder."""
    _newest: int = 0

    def note(self, what: str, answer: object) -> None:
        """Note an answer."""
        word = _LETTERS.get(answer) if isinstance(answer, UUID | None) else answer
        self.answers.append(f"{what}: {word}")

    async def take(self, holder: UUID, *, ttl: float = LONG, seen: int | None = None) -> str:
        """Do what a contender does: read the fence, take the lease, then the fence; give back what is not complete."""
        if seen is None:
            seen = (await self.store.seen(NAME)).token
        answer = await self.store.acquire(NAME, holder, ttl, seen)
        if isinstance(answer, Busy):
            return f"busy with {_LETTERS[answer.holder]}"
        token = answer.token
        if token is None:
            token = await self.store.fence(NAME, holder, seen)
        if token is None:
            await self.store.release(NAME, holder)
            return "busy with nobody"
        self.tokens[holder] = token
        return f"granted, {self._grown(token)}"

    async def take_in_the_end(self, holder: UUID) -> str:
        """Try until it is granted."""
        with trio.fail_after(10):
            while (answer := await self.take(holder)) == "busy with nobody":
                await trio.sleep(0.05)
        return answer

    async def look(self) -> str:
        """Inspect the lease."""
        found = await self.store.inspect(NAME)
        left = "no time" if found.remaining is None else "time left"
        if found.remaining is not None and not 0 < found.remaining <= LONG:
            left = f"{found.remaining} s"
        return f"{_LETTERS[found.holder]}, {left}, {self._grown(found.token)}"

    async def act(self, holder: UUID, token: int) -> str:
        """Open a fenced transaction."""
        async with self.connect() as connection:
            try:
                async with self.store.fenced(connection, NAME, holder, token):
                    return "may act"
            except FenceRefused:
                return "refused"

    def _grown(self, token: int) -> str:
        before, self._newest = self._newest, max(token, self._newest)
        if token == 0:
            return "no token"
        return (
            "same token" if token == before else f"token {'grew' if token > before else 'shrank'}"
        )


Scenario = Callable[[Bench], Awaitable[None]]


async def nobody_has_it(bench: Bench) -> None:
    """A lease that never was."""
    row = await bench.store.seen(NAME)
    bench.note("seen", f"{_LETTERS[row.holder]}, {row.token}")
    bench.note("look", await bench.look())
    bench.note("renew", await bench.store.renew(NAME, A, LONG))
    bench.note("release", await bench.store.release(NAME, A))


async def first_come(bench: Bench) -> None:
    """The first gets it, the second does not, and the first one's own id is told to him."""
    bench.note("A takes", await bench.take(A))
    bench.note("seen", (await bench.store.seen(NAME)).holder)
    bench.note("look", await bench.look())
    bench.note("B takes", await bench.take(B))
    bench.note("A takes", await bench.take(A))
    bench.note("look", await bench.look())
    busy = await bench.store.acquire(NAME, B, LONG, 0)
    assert isinstance(busy, Busy)
    assert busy.remaining is not None
    bench.note("remaining", 0 < busy.remaining <= LONG)


async def renewals(bench: Bench) -> None:
    """Only the holder renews, and what he renews lives on."""
    bench.note("A takes", await bench.take(A, ttl=TTL))
    await trio.sleep(TTL * 0.6)
    bench.note("A renews", await bench.store.renew(NAME, A, TTL))
    bench.note("B renews", await bench.store.renew(NAME, B, LONG))
    await trio.sleep(TTL * 0.6)
    bench.note("A renews", await bench.store.renew(NAME, A, TTL))
    await trio.sleep(EXPIRED)
    bench.note("A renews", await bench.store.renew(NAME, A, TTL))
    bench.note("look", await bench.look())


async def expiry(bench: Bench) -> None:
    """What has expired is the next one's, and stays so whatever the one before asks."""
    bench.note("A takes", await bench.take(A, ttl=TTL))
    await trio.sleep(EXPIRED)
    bench.note("look", await bench.look())
    bench.note("B takes", await bench.take(B))
    bench.note("A renews", await bench.store.renew(NAME, A, LONG))
    bench.note("A releases", await bench.store.release(NAME, A))
    bench.note("A takes", await bench.take(A))
    bench.note("look", await bench.look())
    bench.note("B releases", await bench.store.release(NAME, B))


async def releases(bench: Bench) -> None:
    """Only the holder frees it, once."""
    bench.note("A takes", await bench.take(A))
    bench.note("B releases", await bench.store.release(NAME, B))
    bench.note("look", await bench.look())
    bench.note("A releases", await bench.store.release(NAME, A))
    bench.note("A releases", await bench.store.release(NAME, A))
    bench.note("A renews", await bench.store.renew(NAME, A, LONG))
    bench.note("look", await bench.look())
    bench.note("B takes", await bench.take(B))


async def stale_acquisition(bench: Bench) -> None:
    """Who read the fence before somebody else's turn does not get it."""
    seen = (await bench.store.seen(NAME)).token
    bench.note("A takes", await bench.take(A))
    bench.note("A releases", await bench.store.release(NAME, A))
    bench.note("B takes", await bench.take(B, seen=seen))
    bench.note("seen", (await bench.store.seen(NAME)).holder)
    bench.note("look", await bench.look())
    bench.note("B takes", await bench.take(B))


async def fence_alone(bench: Bench) -> None:
    """The fence moves for who has seen its newest token, and not twice."""
    seen = (await bench.store.seen(NAME)).token
    first = await bench.store.fence(NAME, A, seen)
    bench.note("A", first is not None and first > seen)
    bench.note("A again", await bench.store.fence(NAME, A, seen))
    bench.note("B", await bench.store.fence(NAME, B, seen))
    assert first is not None
    second = await bench.store.fence(NAME, B, first)
    bench.note("B with the newest", second is not None and second > first)
    bench.note("seen", (await bench.store.seen(NAME)).holder)


async def fenced_work(bench: Bench) -> None:
    """Exactly the holder with exactly his token may act, until the next one took over."""
    bench.note("A takes", await bench.take(A, ttl=TTL))
    token = bench.tokens[A]
    bench.note("A", await bench.act(A, token))
    bench.note("A, older token", await bench.act(A, token - 1))
    bench.note("A, newer token", await bench.act(A, token + 1))
    bench.note("B, A's token", await bench.act(B, token))
    await trio.sleep(EXPIRED)
    bench.note("A, expired", await bench.act(A, token))
    bench.note("B takes", await bench.take(B))
    bench.note("A", await bench.act(A, token))
    bench.note("B", await bench.act(B, bench.tokens[B]))
    bench.note("B releases", await bench.store.release(NAME, B))
    bench.note("B, released", await bench.act(B, bench.tokens[B]))


async def takeover_waits(bench: Bench) -> None:
    """Whoever takes over waits for the fenced transaction of the one before."""
    bench.note("A takes", await bench.take(A))
    entered = trio.Event()

    async def work() -> None:
        async with (
            bench.connect() as connection,
            bench.store.fenced(connection, NAME, A, bench.tokens[A]),
        ):
            entered.set()
            await trio.sleep(0.7)
            bench.note("A", "has worked")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        await entered.wait()
        bench.note("A releases", await bench.store.release(NAME, A))
        bench.note("B takes", await bench.take_in_the_end(B))
    bench.note("look", await bench.look())


async def renewal_beside_work(bench: Bench) -> None:
    """A renewal does not wait for fenced work, nor does reading."""
    bench.note("A takes", await bench.take(A))
    async with (
        bench.connect() as connection,
        bench.store.fenced(connection, NAME, A, bench.tokens[A]),
    ):
        with trio.fail_after(0.5):
            bench.note("A renews", await bench.store.renew(NAME, A, LONG))
            bench.note("B takes", await bench.take(B))
            bench.note("look", await bench.look())
    bench.note("A releases", await bench.store.release(NAME, A))


async def eviction(bench: Bench) -> None:
    """Evicted, a holder can neither renew nor act; the next one comes as always."""
    bench.note("evict nobody", await bench.store.evict(NAME))
    bench.note("A takes", await bench.take(A))
    bench.note("evict A", await bench.store.evict(NAME))
    bench.note("seen", (await bench.store.seen(NAME)).holder)
    bench.note("look", await bench.look())
    bench.note("A renews", await bench.store.renew(NAME, A, LONG))
    bench.note("A", await bench.act(A, bench.tokens[A]))
    bench.note("A releases", await bench.store.release(NAME, A))
    bench.note("B takes", await bench.take(B))
    bench.note("A", await bench.act(A, bench.tokens[A]))


async def notices(bench: Bench) -> None:
    """A release is noticed by who listened when it happened, also a little later; another lease's is not."""
    bench.note("A takes", await bench.take(A))
    async with bench.store.notices(NAME) as ears, bench.store.notices("other") as deaf:
        with trio.move_on_after(0.3) as quiet:
            await ears.wait()
        bench.note("nothing yet", quiet.cancelled_caught)
        bench.note("A releases", await bench.store.release(NAME, A))
        with trio.move_on_after(2) as waited:
            await ears.wait()
        bench.note("noticed", not waited.cancelled_caught)
        bench.note("B takes", await bench.take(B))
        bench.note("evict B", await bench.store.evict(NAME))
        await trio.sleep(0.3)
        with trio.move_on_after(2) as waited:
            await ears.wait()
        bench.note("noticed", not waited.cancelled_caught)
        with trio.move_on_after(0.2) as quiet:
            await deaf.wait()
        bench.note("the other heard nothing", quiet.cancelled_caught)


async def names_apart(bench: Bench) -> None:
    """Leases of other names are other leases."""
    bench.note("A takes", await bench.take(A))
    row = await bench.store.seen("other")
    bench.note("other", f"{_LETTERS[row.holder]}, {row.token}")
    bench.note("A renews other", await bench.store.renew("other", A, LONG))
    bench.note("A releases other", await bench.store.release("other", A))
    bench.note("look", await bench.look())


SCENARIOS: tuple[Scenario, ...] = (
    nobody_has_it,
    first_come,
    renewals,
    expiry,
    releases,
    stale_acquisition,
    fence_alone,
    fenced_work,
    takeover_waits,
    renewal_beside_work,
    eviction,
    notices,
    names_apart,
)
