"""Leases on real processes and servers: stopped, killed, blocked, cut off. No stale effect is ever committed."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import pytest
import trio

from lockd import LossReason
from sercha.testing import open_proxy
from tests.support.lease_nodes import Cluster, Node, open_cluster
from tests.support.postgres import PostgresServer
from tests.support.redis import RedisServer

NAMES = ("a", "b", "c", "d", "e")
CI_STOPS, PROOF_STOPS = 8, 200


@pytest.fixture(params=["postgres", "redis"])
def redis_or_none(request: pytest.FixtureRequest) -> str | None:
    """Give the address of Redis for leases there, None for leases in PostgreSQL; the fence is always there."""
    return None if request.param == "postgres" else request.getfixturevalue("redis_url")


async def _stop_holders(
    cluster: Cluster, stops: int, rng: random.Random, *, options: tuple[str, ...] = ()
) -> int:
    """SIGSTOP a node that holds something for twice the TTL, again and again; how many leases it held."""
    for _ in range(3):
        await cluster.start(*NAMES, seed=rng.randrange(2**31), options=options)
    stopped = 0
    for _ in range(stops):
        with trio.fail_after(30):
            victim = await cluster.holder_of(rng.choice(NAMES))
        await trio.sleep(rng.uniform(0, 0.1))
        held = set(victim.held)
        stopped += len(held)
        since = len(victim.events)
        victim.signal(signal.SIGSTOP)
        await trio.sleep(2 * cluster.ttl)
        victim.signal(signal.SIGCONT)
        with trio.fail_after(10):
            for name in held:
                await _is_told(victim, name, since)
    return stopped


async def _is_told(node: Node, name: str, since: int) -> None:
    """Wait until the node knows that it does not hold *name* any more."""
    while name in node.held and not any(
        event["event"] in ("lease.lost", "lease.released") and event.get("name") == name
        for event in node.events[since:]
    ):
        await node.told.wait()


async def _fault_7(url: str, redis: str | None, seed: int, *, stops: int) -> None:
    rng = random.Random(seed)
    async with open_cluster(url, redis, *NAMES, ttl=1.0) as cluster:
        stopped = await _stop_holders(cluster, stops, rng)
        effects, stale = await cluster.effects(), await cluster.stale_effects()
        await cluster.assert_slots_are_whole()

    print(f"{stops} stops of holders of {stopped} leases: {effects} effects, {stale} stale")
    assert stopped >= stops
    assert effects > 20 * stops
    assert stale == 0


async def test_a_stopped_holder_commits_nothing_stale(
    postgres_url: str, redis_or_none: str | None, seed: int
) -> None:
    """Fault 7. Cause: SIGSTOP for twice the TTL. Seam: the process. Invariant: I3."""
    await _fault_7(postgres_url, redis_or_none, seed, stops=CI_STOPS)


@pytest.mark.proof
async def test_holders_stopped_two_hundred_times_commit_nothing_stale(
    postgres_url: str, redis_or_none: str | None, seed: int
) -> None:
    await _fault_7(postgres_url, redis_or_none, seed, stops=PROOF_STOPS)


async def test_without_the_fence_stopped_holders_do_act(postgres_url: str, seed: int) -> None:
    """The control: the same stops, effects checked but not fenced. If none is stale the test above is blind."""
    rng = random.Random(seed)
    async with open_cluster(postgres_url, None, *NAMES, ttl=1.0) as cluster:
        stale = 0
        for _ in range(3):
            await _stop_holders(cluster, 3, rng, options=("--unfenced",))
            if stale := await cluster.stale_effects():
                break

    assert stale > 0


async def test_after_a_kill_the_next_one_leads_within_the_ttl_and_a_second(
    postgres_url: str, redis_or_none: str | None, seed: int
) -> None:
    """Fault 9. Cause: SIGKILL of the holder. Invariant: I12, and no two at once."""
    async with open_cluster(postgres_url, redis_or_none, "a", ttl=2.0) as cluster:
        for _ in range(2):
            await cluster.start("a", seed=seed)
        for _ in range(3):
            victim = await cluster.holder_of("a")
            other = await cluster.start("a", seed=seed)
            since = len(other.events)
            killed_at = time.monotonic()
            victim.process.kill()
            await victim.process.wait()
            with trio.fail_after(15):
                heir = await cluster.holder_of("a")
            acquired = [each for each in heir.events if each["event"] == "lease.acquired"][-1]
            assert acquired["at"] - killed_at <= cluster.ttl + 1, since
        assert await cluster.stale_effects() == 0


async def test_an_orderly_stop_hands_over_long_before_the_ttl(
    postgres_url: str, redis_or_none: str | None, seed: int
) -> None:
    """Fault 10. Cause: SIGTERM of the holder. Invariant: I5, the release follows the last effect."""
    async with open_cluster(postgres_url, redis_or_none, "a", ttl=60.0) as cluster:
        holder = await cluster.start("a", seed=seed)
        await holder.wait_for("lease.acquired")
        heir = await cluster.start("a", seed=seed)
        await trio.sleep(0.5)  # it waits by then, or will ask soon
        holder.signal(signal.SIGTERM)
        with trio.fail_after(10):
            await heir.wait_for("lease.acquired")
        ended = await holder.wait_for("node.ended")
        released = await holder.wait_for("lease.released")

        assert await holder.process.wait() == 0
        assert ended["at"] >= released["at"]
        assert await cluster.stale_effects() == 0


async def test_a_blocked_loop_loses_its_lease_and_writes_nothing(
    postgres_url: str, redis_or_none: str | None, seed: int, tmp_path: Path
) -> None:
    """Fault 11. Cause: the loop hangs until another leads. Invariant: I3; a thread tells of the overrun."""
    until = tmp_path / "until"
    async with open_cluster(postgres_url, redis_or_none, "a", ttl=3.0) as cluster:
        blocked = await cluster.start("a", seed=seed, options=("--block", str(until)))
        await blocked.wait_for("block.begun")
        other = await cluster.start("a", seed=seed)
        with trio.fail_after(60):
            await other.wait_for("lease.acquired")
            await blocked.wait_for("lease.overran")
            assert not any(event["event"] == "lease.lost" for event in blocked.events)
            until.touch()
            ended = await blocked.wait_for("block.ended")
            lost = await blocked.wait_for("lease.lost")

        assert ended["at"] <= lost["at"]
        assert await cluster.stale_effects() == 0


async def test_a_redis_that_forgot_lets_the_next_one_evict_the_first(
    postgres_url: str, redis_server: RedisServer, redis_url: str, seed: int
) -> None:
    """Fault 5. Cause: FLUSHALL. Two may believe; the fence knows one. Invariant: I3."""
    async with open_cluster(postgres_url, redis_url, "a", ttl=6.0) as cluster:
        for _ in range(2):
            await cluster.start("a", seed=seed)
        for _ in range(3):
            holder = await cluster.holder_of("a")
            since = len(holder.events)
            await trio.to_thread.run_sync(redis_server.flush)
            with trio.fail_after(20):
                lost = await holder.wait_for("lease.lost", since)
            assert lost["reason"] in (LossReason.GONE, LossReason.TAKEN, LossReason.FENCED)
        assert await cluster.stale_effects() == 0
        await cluster.assert_slots_are_whole()


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("server", ["postgres", "redis"])
async def test_a_holder_that_is_cut_off_stops_before_another_begins(
    postgres_server: PostgresServer,
    postgres_url: str,
    redis_server: RedisServer,
    redis_url: str,
    server: str,
    direction: Literal["up", "down"],
    seed: int,
) -> None:
    """Fault 20. Cause: the way to one server swallows bytes one way. Invariant: I1 to I4; healed, it goes on."""
    port = redis_server.port if server == "redis" else postgres_server.port
    async with (
        open_proxy("127.0.0.1", port, seed=seed) as proxy,
        open_cluster(postgres_url, redis_url, "a", ttl=6.0) as cluster,
    ):
        if server == "redis":
            way = {"redis": redis_server.url_for(proxy.port)}
        else:
            database = urlsplit(postgres_url).path.removeprefix("/")
            direct = postgres_server.url_for(database, tcp=True)
            way = {"postgres": direct.replace(f":{port}/", f":{proxy.port}/")}
        cut = await cluster.start("a", seed=seed, **way)
        await cut.wait_for("lease.acquired")
        other = await cluster.start("a", seed=seed)
        since = len(cut.events)
        proxy.black_hole(direction)
        if server == "redis":
            with trio.fail_after(20):
                lost = await cut.wait_for("lease.lost", since)
                taken = await other.wait_for("lease.acquired")
            assert lost["at"] < taken["at"]
        else:
            # Cut off from the fence it keeps the lease in Redis, and can write nothing.
            before = await cluster.effects()
            await trio.sleep(2)
            assert await cluster.effects() <= before + 1
        proxy.heal()
        if other.process.returncode is None and server == "redis":
            other.process.kill()
        with trio.fail_after(30):
            while not await _acts(cluster, cut):
                await trio.sleep(0.1)
        assert await cluster.stale_effects() == 0


async def _acts(cluster: Cluster, node: Node) -> bool:
    """Whether the node has written one of the last effects."""
    query = f"SELECT count(*) FROM (SELECT node FROM effect ORDER BY slot DESC LIMIT 3) x WHERE node = {node.number}"
    return await cluster.number(query) > 0
