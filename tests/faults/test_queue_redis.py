"""The queue while Redis is away, forgets, is full, or says things twice: the numbers are those of the fault matrix."""

from __future__ import annotations

import signal
from typing import Literal
from uuid import UUID

import pytest
import trio

from sercha.domain.task import NewTask
from sercha.testing import open_proxy
from tests.support.queue.checks import Verdict
from tests.support.queue.rig import GROUP, STREAM, Rig, open_rig
from tests.support.redis import RedisServer

TTL = 2.0
MORE_THAN_ONCE = "tasks that ran more than once"


@pytest.fixture
async def rig(postgres_url: str, redis_server: RedisServer):
    """Give two workers on PostgreSQL and Redis."""
    async with open_rig(postgres_url, redis_server, ttl=TTL) as rig:
        for _ in range(2):
            await rig.start()
        yield rig


async def _occupy(rig: Rig, slots: int) -> None:
    """Let tasks that wait for the gate take all slots."""
    await rig.add(*[NewTask("gate", {"gate": str(rig.gate())}, priority=9)] * slots)
    await rig.until(lambda: len(rig.runs(kind="gate")) == slots)


async def _end(rig: Rig, seconds: float = 60) -> Verdict:
    """Drain, and see that no entry stays behind; then check everything."""
    await rig.drained(seconds)
    with trio.fail_after(30):
        while await rig.entries():
            await trio.sleep(0.1)
    return rig.judge(await rig.finish())


async def _is_read(rig: Rig) -> None:
    """Wait until workers take entries from Redis again."""
    assert rig.redis is not None
    with trio.fail_after(60):
        while True:
            before = await trio.to_thread.run_sync(rig.redis.calls, "xack")
            await rig.add(*[NewTask("instant", {})] * 5)
            await rig.drained(30)
            if await trio.to_thread.run_sync(rig.redis.calls, "xack") > before:
                return
            await trio.sleep(0.2)


async def test_a_redis_that_lost_everything_loses_no_task_and_doubles_none(rig: Rig) -> None:
    """Fault 15. Cause: SIGKILL and an empty folder, with entries waiting. Invariants: lost 0, twice 0."""
    await _occupy(rig, 8)
    await rig.add(*[NewTask("instant", {})] * 300)
    with trio.fail_after(20):
        while not await rig.entries():
            await trio.sleep(0.02)
    await rig.restart_redis(forgets=True)
    await rig.add(*[NewTask("short", {"seconds": 0.01})] * 100)
    rig.gate().touch()
    await _is_read(rig)
    verdict = await _end(rig)

    assert verdict.counts[MORE_THAN_ONCE] == 0


@pytest.mark.parametrize("command", ["XGROUP DESTROY sercha:tasks sercha:workers", "FLUSHALL"])
async def test_a_group_that_is_gone_is_made_again(rig: Rig, command: str) -> None:
    """Fault 15, NOGROUP. Cause: the group or everything is removed, while entries wait and while workers do."""
    await _occupy(rig, 8)
    await rig.add(*[NewTask("instant", {})] * 100)
    await rig.redis_command(*command.split())
    rig.gate().touch()
    await rig.drained(30)
    await rig.redis_command(*command.split())
    await _is_read(rig)
    groups = await rig.redis_command("XINFO", "GROUPS", STREAM)
    verdict = await _end(rig)

    assert GROUP in groups[0]
    assert verdict.counts[MORE_THAN_ONCE] == 0


async def test_while_redis_is_down_work_goes_on_and_comes_back_by_itself(
    rig: Rig, redis_server: RedisServer
) -> None:
    """Fault 17. Cause: Redis is killed and stays away. Invariant: I12 by PostgreSQL alone; healed without help."""
    await _is_read(rig)
    await trio.to_thread.run_sync(redis_server.kill)
    for _ in range(3):
        await rig.add(*[NewTask("short", {"seconds": 0.01})] * 50)
        await rig.drained(30)
    late = await rig.start()
    await rig.add(*[NewTask("short", {"seconds": 0.05})] * 200)
    await late.wait_for("run.started")
    await trio.to_thread.run_sync(redis_server.start)
    await _is_read(rig)
    verdict = await _end(rig)

    assert verdict.counts[MORE_THAN_ONCE] == 0


async def test_a_redis_that_stands_still_does_not_hold_up_the_work(
    rig: Rig, redis_server: RedisServer
) -> None:
    """Fault 17. Cause: SIGSTOP of the server; connections stay open and silent. Invariant: I12."""
    await _is_read(rig)
    redis_server.pause()
    try:
        await rig.add(*[NewTask("short", {"seconds": 0.01})] * 50)
        await rig.drained(60)
    finally:
        redis_server.resume()
    await _is_read(rig)
    verdict = await _end(rig)

    assert verdict.counts[MORE_THAN_ONCE] == 0


async def test_a_redis_that_is_full_does_not_hold_up_the_work(rig: Rig) -> None:
    """Fault 17. Cause: no memory left: reads are answered, what would add is refused. Invariant: I12."""
    await _is_read(rig)
    await rig.redis_command("CONFIG", "SET", "maxmemory", "1")
    try:
        await rig.add(*[NewTask("short", {"seconds": 0.01})] * 50)
        await rig.drained(60)
    finally:
        await rig.redis_command("CONFIG", "SET", "maxmemory", "0")
    await _is_read(rig)
    await _end(rig)


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_worker_that_is_cut_off_from_redis_works_from_the_ledger(
    postgres_url: str,
    redis_server: RedisServer,
    direction: Literal["up", "down"],
    seed: int,
) -> None:
    """Fault 20. Cause: the way to Redis swallows bytes one way. Invariants: I10, I12; healed without help."""
    async with (
        open_proxy("127.0.0.1", redis_server.port, seed=seed) as proxy,
        open_rig(postgres_url, redis_server, ttl=TTL) as rig,
    ):
        cut = await rig.start(REDIS_URL=redis_server.url_for(proxy.port))
        await _is_read(rig)
        proxy.black_hole(direction)
        await rig.add(*[NewTask("short", {"seconds": 0.01})] * 100)
        await rig.drained(60)
        proxy.heal()
        await _is_read(rig)
        lives = {run["life"] for run in rig.runs()}
        verdict = await _end(rig)

    assert lives == {cut.life}
    assert verdict.counts[MORE_THAN_ONCE] == 0


@pytest.mark.parametrize(
    "point", ["dies_after_offering", "dies_before_claiming", "dies_before_confirming"]
)
async def test_a_worker_killed_around_its_words_with_redis_loses_and_doubles_nothing(
    postgres_url: str, redis_server: RedisServer, point: str
) -> None:
    """Fault 21. Cause: SIGKILL after adding entries, before the claim, or before the removal."""
    async with open_rig(postgres_url, redis_server, ttl=TTL) as rig:
        async with rig.queue(REDIS_URL="") as queue:  # nobody announces: relays must offer
            await rig.add_to(queue, [NewTask("instant", {})] * 20)
        victim = await rig.spawn("--mutant", point)
        with trio.fail_after(30):
            assert await victim.process.wait() == -signal.SIGKILL
        await rig.start()
        await _end(rig)


async def test_an_enqueuer_killed_before_its_announcement_loses_nothing(
    postgres_url: str, redis_server: RedisServer
) -> None:
    """Fault 21. Cause: SIGKILL between the commit and the announcement. Invariants: I8, and each runs once."""
    async with open_rig(postgres_url, redis_server, ttl=TTL) as rig:
        await rig.start()
        status = await rig.enqueue_elsewhere(20, "--mutant", "dies_before_announcing")
        verdict = await _end(rig)

    assert status == -signal.SIGKILL
    assert verdict.counts["completed"] == verdict.counts["runs"] == 20


async def test_entries_that_come_twice_and_in_another_order_run_each_task_once(rig: Rig) -> None:
    """Fault 27. Cause: three more entries of each task, backwards, and some of tasks that nobody knows."""
    await _occupy(rig, 8)
    tasks = await rig.add(*[NewTask("short", {"seconds": 0.005})] * 40)
    for task_id in [*reversed(tasks), UUID(int=7), *reversed(tasks), *tasks]:
        await rig.redis_command("XADD", STREAM, "*", "task", str(task_id))
    await rig.redis_command("XADD", STREAM, "*", "task", "no id at all")
    rig.gate().touch()
    await rig.drained(30)
    for task_id in tasks:  # and once more, of tasks that have ended
        await rig.redis_command("XADD", STREAM, "*", "task", str(task_id))
    verdict = await _end(rig)

    assert verdict.counts["runs"] == 48
    assert verdict.counts[MORE_THAN_ONCE] == 0


async def test_consumers_of_killed_workers_are_removed(
    postgres_url: str, redis_server: RedisServer
) -> None:
    """Cause: SIGKILL of three of four workers. Invariant: nothing of the dead stays in Redis for ever."""
    async with open_rig(postgres_url, redis_server, ttl=TTL) as rig:
        nodes = [await rig.start("--mutant", "short_memory") for _ in range(4)]
        with trio.fail_after(30):
            while len(await rig.redis_command("XINFO", "CONSUMERS", STREAM, GROUP)) < 4:
                await rig.add(*[NewTask("short", {"seconds": 0.01})] * 20)
                await rig.drained(30)
        for node in nodes[1:]:
            rig.kill(node)
        with trio.fail_after(60):
            while len(await rig.redis_command("XINFO", "CONSUMERS", STREAM, GROUP)) > 1:
                await trio.sleep(0.2)
        await _end(rig)
