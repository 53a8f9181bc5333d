"""What goes wrong in a random run of the queue, and the tasks that live through it. The seed decides both."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import trio
from redis.exceptions import ResponseError

from sercha.domain.task import NewTask
from tests.support.queue.process import Node
from tests.support.queue.rig import GROUP, STREAM, Rig

GAP_SECONDS = (0.1, 1.3)
"""Between two faults; a restart of Redis takes its own time besides."""
BATCH_MAX = 60
POISON_TRIES = 3
KINDS = {
    "instant": 0.622,
    "short": 0.2,
    "effect": 0.1,
    "flaky": 0.03,
    "keyed": 0.02,
    "deduped": 0.015,
    "long": 0.005,
    "rejected": 0.005,
    "effect_then_kill": 0.002,
    "poison": 0.001,
}


@dataclass(frozen=True, slots=True)
class Size:
    """How large a run is."""

    workers: int
    tasks: int
    signals: int
    """SIGKILLs and SIGSTOPs of workers."""
    restarts: int
    """SIGKILLs of Redis, half of them with the loss of all that it had."""
    others: int
    """FLUSHALL and XGROUP DESTROY, each as often."""


def random_tasks(rng: random.Random, number: int) -> list[NewTask]:
    """Draw tasks of all kinds; of the rare ones there is at least one each."""
    kinds = list(KINDS)
    kinds += rng.choices(list(KINDS), list(KINDS.values()), k=number - len(kinds))
    rng.shuffle(kinds)
    return [_task(kind, rng) for kind in kinds]


def _task(kind: str, rng: random.Random) -> NewTask:
    seconds = rng.uniform(0.001, 0.02)
    options: dict[str, Any] = {"priority": rng.choice((-5, 0, 0, 0, 5)), "tries_max": 8}
    if rng.random() < 0.1:
        options["delay"] = rng.uniform(0.0, 3.0)
    if kind == "long":
        return NewTask(kind, {"seconds": rng.uniform(1.0, 2.0)}, **options)
    if kind == "flaky":
        return NewTask(kind, {"failures": 1}, **options)
    if kind == "poison":
        return NewTask(kind, {}, **{**options, "tries_max": POISON_TRIES})
    if kind == "keyed":
        key = f"key-{rng.randrange(5)}"
        return NewTask("effect", {"seconds": seconds}, concurrency_key=key, **options)
    if kind == "deduped":
        key = f"twin-{rng.randrange(5)}"
        return NewTask("short", {"seconds": seconds}, dedupe_key=key, **options)
    return NewTask(kind, {"seconds": seconds}, **options)


class Nemesis:
    """Breaks things, one after the other; a worker that stands still does so beside what comes next."""

    def __init__(self, rig: Rig, rng: random.Random, size: Size, ttl: float) -> None:
        self._rig = rig
        self._rng = rng
        self._ttl = ttl
        self.done: Counter[str] = Counter()
        forgetting = (size.restarts + 1) // 2
        self._plan = [
            *rng.choices(("kill", "stop", "stop long"), (0.5, 0.25, 0.25), k=size.signals),
            *["restart"] * (size.restarts - forgetting),
            *["forget"] * forgetting,
            *["flush", "destroy"] * size.others,
        ]
        rng.shuffle(self._plan)

    @property
    def seconds(self) -> float:
        """About how long it takes."""
        return len(self._plan) * sum(GAP_SECONDS) / 2

    async def run(self) -> None:
        """Do all that is planned; at the end nothing stands still."""
        async with trio.open_nursery() as nursery:
            for fault in self._plan:
                await trio.sleep(self._rng.uniform(*GAP_SECONDS))
                await self._do(fault, nursery)
                self.done[fault] += 1

    async def _do(self, fault: str, nursery: trio.Nursery) -> None:
        if fault == "kill":
            self._rig.kill(await self._victim())
        elif fault in ("stop", "stop long"):
            low, high = (0.05, 0.8) if fault == "stop" else (1.2, 2.5)
            seconds = self._rng.uniform(low, high) * self._ttl
            nursery.start_soon(self._stand_still, await self._victim(), seconds)
        elif fault in ("restart", "forget"):
            await self._rig.restart_redis(forgets=fault == "forget")
        elif fault == "flush":
            await self._rig.redis_command("FLUSHALL")
        else:
            with suppress(ResponseError):  # there may be no stream at this moment
                await self._rig.redis_command("XGROUP", "DESTROY", STREAM, GROUP)

    async def _victim(self) -> Node:
        """Choose a worker that has begun to work, as soon as there is one."""
        with trio.fail_after(60):
            while True:
                working = [
                    node for node in self._rig.alive if not node.is_stopped and node.has_started
                ]
                if working:
                    return self._rng.choice(working)
                await trio.sleep(0.05)

    async def _stand_still(self, node: Node, seconds: float) -> None:
        self._rig.stop(node)
        await trio.sleep(seconds)
        self._rig.go_on(node)


async def enqueue_slowly(
    rig: Rig, tasks: list[NewTask], rng: random.Random, seconds: float
) -> None:
    """Enqueue all tasks in batches of random size, spread over about so many seconds."""
    pause = seconds * (BATCH_MAX / 2) / len(tasks)
    left = list(tasks)
    while left:
        size = rng.randint(1, BATCH_MAX)
        batch, left = left[:size], left[size:]
        await rig.add(*batch)
        await trio.sleep(rng.uniform(0, 2 * pause))


SCHEDULE = """
INSERT INTO schedule (id, name, kind, spec, anchor, task_kind, catch_up, runs_max, next_slot)
SELECT gen_random_uuid(), %(name)s, 'interval', %(spec)s, at, %(kind)s, %(name)s, 5, at
FROM date_trunc('second', clock_timestamp() + interval '1 second') AS at
"""
UNSCHEDULE = "UPDATE schedule SET enabled = false, version = version + 1"


async def schedule_all_kinds(rig: Rig) -> None:
    """Make a schedule of each way to catch up; the slots come fast."""
    for name, kind, spec in (
        ("all", "prune", "1s"),
        ("coalesce", "reindex", "1s"),
        ("skip", "prune", "2s"),
    ):
        await rig.rows(SCHEDULE, name=name, kind=kind, spec=spec)
