"""The queue while PostgreSQL is away, or its answers are lost: the numbers are those of the fault matrix."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Literal
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import trio

from sercha.domain.task import NewTask
from sercha.errors import Transient
from sercha.testing import FaultProxy, open_proxy
from tests.support.postgres import PostgresServer
from tests.support.queue.checks import Rule, check
from tests.support.queue.history import History, Run
from tests.support.queue.rig import Rig, open_rig
from tests.support.redis import RedisServer
from tests.support.truth import open_truth

TTL = 2.0


def _through(server: PostgresServer, url: str, port: int) -> str:
    """Return the address of a database through a proxy."""
    database = urlsplit(url).path.removeprefix("/")
    return server.url_for(database, tcp=True).replace(f":{server.port}/", f":{port}/")


async def _restart(rig: Rig, server: PostgresServer, mode: str) -> None:
    rig.journal.note("postgres.stopping")
    await trio.to_thread.run_sync(server.stop, mode)
    await trio.sleep(1.5 * TTL)  # every life has ended by the server's clock
    await trio.to_thread.run_sync(server.start)
    rig.journal.note("postgres.started")


@pytest.mark.parametrize("mode", ["immediate", "fast"])
async def test_a_crash_of_postgres_loses_nothing_that_was_acknowledged(
    postgres_factory: Callable[..., PostgresServer],
    redis_server: RedisServer,
    seed: int,
    mode: str,
) -> None:
    """Fault 18. Cause: the server is stopped in mid-work, twice, and is away for more than a life.

    Invariants: I8 to I10; an enqueue without an answer is there once or not at all.
    """
    rng = random.Random(seed)
    server = postgres_factory()
    async with open_rig(server.url, redis_server, ttl=TTL) as rig:
        for _ in range(2):
            await rig.start()
        is_over = False

        async def enqueue() -> None:
            kinds = ("instant", "short", "effect")
            while not is_over:
                tasks = [NewTask(rng.choice(kinds), {"seconds": 0.01}, tries_max=9)] * 10
                try:
                    await rig.add(*tasks)
                except Transient:
                    await trio.sleep(0.2)
                await trio.sleep(0.02)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(enqueue)
            for _ in range(2):
                runs = len(rig.runs())
                await rig.until(lambda runs=runs: len(rig.runs()) > runs + 50)
                await _restart(rig, server, mode)
            runs = len(rig.runs())
            await rig.until(lambda: len(rig.runs()) > runs + 50, 60)
            is_over = True
        await rig.drained(60)
        verdict = rig.judge(await rig.finish())

    assert verdict.counts["completed"] > 100


async def test_an_enqueue_whose_answer_is_lost_is_there_once(
    postgres_server: PostgresServer, postgres_url: str, redis_server: RedisServer, seed: int
) -> None:
    """Fault 18. Cause: the answer to the commit is cut off, 20 times. Invariant: I9, no task twice."""
    async with (
        open_proxy("127.0.0.1", postgres_server.port, seed=seed) as proxy,
        open_rig(postgres_url, redis_server, ttl=TTL) as rig,
    ):
        await rig.start()
        way = _through(postgres_server, postgres_url, proxy.port)
        async with rig.queue(DATABASE_URL=way) as queue:
            for _ in range(20):
                await rig.add_to(queue, [NewTask("instant", {})])  # its connection stays open
                proxy.cut_after(0, "down")
                with pytest.raises(Transient):
                    await rig.add_to(queue, [NewTask("instant", {})] * 3)
                proxy.heal()
        await rig.drained(30)
        verdict = rig.judge(await rig.finish())

    assert verdict.counts["of unknown outcome"] == 60
    assert verdict.counts["completed"] > 20
    assert verdict.counts["completed"] == verdict.counts["runs"]


async def test_lost_answers_to_a_worker_change_nothing(
    postgres_server: PostgresServer, postgres_url: str, redis_server: RedisServer, seed: int
) -> None:
    """Fault 18. Cause: answers to claims, beats and settlements are cut off. Invariants: I8 to I10."""
    rng = random.Random(seed)
    async with (
        open_proxy("127.0.0.1", postgres_server.port, seed=seed) as proxy,
        open_rig(postgres_url, redis_server, ttl=TTL) as rig,
    ):
        way = _through(postgres_server, postgres_url, proxy.port)
        await rig.start(DATABASE_URL=way)
        kinds = ("instant", "short", "effect", "flaky")
        payload = {"seconds": 0.02, "failures": 1}
        tasks = [NewTask(rng.choice(kinds), payload, tries_max=9) for _ in range(300)]
        await rig.add(*tasks)
        for _ in range(40):
            await trio.sleep(rng.uniform(0, 0.2))
            before = proxy.statistics()
            proxy.lose_next_reply(reset=rng.random() < 0.5)
            with trio.fail_after(30):
                await proxy.wait_until(lambda now, before=before: now.cut > before.cut)
            await rig.add(NewTask("instant", {}), NewTask("effect", payload))
        proxy.heal()
        await rig.drained(60)
        rig.judge(await rig.finish())


async def _cut_off(
    rig: Rig, proxy: FaultProxy, way: str, direction: Literal["up", "down"], *options: str
) -> tuple[History, Run, Run]:
    """Cut a worker off in mid-task, let another take over, and let the first one come back alone."""
    cut = await rig.start(*options, DATABASE_URL=way)
    (task_id,) = await rig.add(NewTask("gate", {"gate": str(rig.gate())}))
    await cut.wait_for("run.started")
    other = await rig.start(*options)
    proxy.black_hole(direction)
    await other.wait_for("run.started", attempt=2)
    await trio.sleep(0.3)  # so that an overlap is seen
    rig.gate().touch()
    await rig.drained(30)
    proxy.heal()
    rig.kill(other)
    await rig.add(*[NewTask("effect", {"seconds": 0.01})] * 20)
    await rig.drained(60)
    history = await rig.finish()
    first, second = history.runs_by_task()[str(task_id)]
    return history, first, second


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_worker_cut_off_from_postgres_stops_before_another_begins(
    postgres_server: PostgresServer,
    postgres_url: str,
    redis_server: RedisServer,
    seed: int,
    direction: Literal["up", "down"],
) -> None:
    """Fault 20. Cause: the way to PostgreSQL swallows bytes one way. Invariants: I10 without any excuse, I12."""
    async with (
        open_proxy("127.0.0.1", postgres_server.port, seed=seed) as proxy,
        open_rig(postgres_url, redis_server, ttl=TTL) as rig,
    ):
        way = _through(postgres_server, postgres_url, proxy.port)
        history, first, second = await _cut_off(rig, proxy, way, direction)
        rig.judge(history)

    assert first.how == "cancelled"
    assert first.ended_at <= second.started_at


@pytest.mark.proof
async def test_a_worker_that_never_doubts_is_found_out(
    postgres_server: PostgresServer, postgres_url: str, redis_server: RedisServer, seed: int
) -> None:
    """Matrix 6.3: M4. The same with a worker that goes on believing while it hears nothing."""
    async with (
        open_proxy("127.0.0.1", postgres_server.port, seed=seed) as proxy,
        open_rig(postgres_url, redis_server, ttl=TTL) as rig,
    ):
        way = _through(postgres_server, postgres_url, proxy.port)
        history, _, _ = await _cut_off(rig, proxy, way, "down", "--mutant", "never_doubts")

    assert Rule.OVERLAPPED in check(history).broken


@pytest.mark.slow
async def test_eight_relays_and_reapers_at_once_do_each_task_once(
    postgres_url: str, redis_server: RedisServer
) -> None:
    """Fault 26. Cause: eight workers find hundreds of tasks that nobody has announced. Invariant: one run each."""
    async with open_rig(postgres_url, redis_server, ttl=TTL) as rig:
        nodes = [await rig.spawn() for _ in range(8)]
        for node in nodes:
            await node.wait_for("node.started", 60)
        async with rig.queue(REDIS_URL="") as queue:
            for _ in range(10):
                await rig.add_to(queue, [NewTask("short", {"seconds": 0.002})] * 60)
        await rig.drained(60)
        history = await rig.finish()
        verdict = rig.judge(history)

    assert verdict.counts["runs"] == 600
    assert _claims_per_task(history) == {1}


def _claims_per_task(history: History) -> set[int]:
    return {
        sum(move.after == "running" for move in moves) for moves in history.moves_by_task().values()
    }


async def test_eight_reapers_at_once_give_each_task_back_once(postgres_url: str) -> None:
    """Fault 26. Cause: eight reapers meet 300 tasks of dead workers. Invariant: each is charged once."""
    async with open_truth(postgres_url, claim_ttl=TTL) as truth:
        await truth.queue.add([NewTask("instant", {}, tries_max=2)] * 300)
        first, second = uuid4(), uuid4()
        await truth.live(first)
        assert len(await truth.queue.claim(first, 300, ["instant"])) == 300
        await truth.expire(first)
        counts: list[int] = []

        async def reap() -> None:
            counts.append(await truth.queue.reap())

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(reap)
        await truth.live(second)
        again = await truth.queue.claim(second, 600, ["instant"])

    assert sum(counts) == 300
    assert len({claim.task_id for claim in again}) == len(again) == 300
    assert {(claim.attempt, claim.tries) for claim in again} == {(2, 2)}
