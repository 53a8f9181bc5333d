"""Short stories about workers that go wrong, told to the good ones and to those that are wrong on purpose."""

from __future__ import annotations

from uuid import UUID

import trio

from sercha.domain.task import NewTask
from tests.support.queue.history import History
from tests.support.queue.rig import GROUP, STREAM, Rig

TTL = 2.0
PATIENCE = 12.0
"""Seconds after which what should have happened by then does not happen any more."""


async def starve(rig: Rig, *options: str) -> tuple[History, UUID]:
    """Let the first attempt end, as if well, while the second one runs, which ends well after it."""
    starved = await rig.start(*options)
    until = rig.gate("until")
    task = NewTask("starve", {"until": str(until), "gate": str(rig.gate())})
    (task_id,) = await rig.add(task)
    await starved.wait_for("run.started")
    heir = await rig.start(*options)
    await heir.wait_for("run.started", task=str(task_id), attempt=2)
    until.touch()
    await starved.wait_for("run.ended", task=str(task_id), attempt=1)
    with trio.fail_after(30):
        while "task.claim_lost" not in starved.log and await rig.unfinished():
            await trio.sleep(0.05)
    await trio.sleep(0.3)  # a completion that is the second one's comes clearly after this
    rig.gate().touch()
    await rig.drained(30)
    return await rig.finish(), task_id


async def say_twice(rig: Rig, *options: str) -> History:
    """Put entries of running tasks into the dispatch once more, with another worker waiting."""
    first = await rig.start(*options)
    tasks = await rig.add(*[NewTask("gate", {"gate": str(rig.gate())})] * 3)
    await rig.until(lambda: len(rig.runs(kind="gate")) == 3)
    await rig.start(*options)
    assert {run["life"] for run in rig.runs()} == {first.life}
    for task_id in tasks:
        await rig.redis_command("XADD", STREAM, "*", "task", str(task_id))
    with trio.fail_after(PATIENCE):
        while await rig.entries():
            await trio.sleep(0.05)
    await trio.sleep(0.5)  # what would be run twice begins now
    rig.gate().touch()
    return await settle_down(rig)


async def fail_once(rig: Rig, *options: str) -> History:
    """Let tasks fail at their first try."""
    await rig.start(*options)
    await rig.add(*[NewTask("flaky", {"failures": 1})] * 5)
    return await settle_down(rig)


async def lose_the_group(rig: Rig, *options: str) -> bool:
    """Remove the group; whether it comes back."""
    await rig.start(*options)
    await rig.add(*[NewTask("instant", {})] * 5)
    await rig.drained(30)
    await rig.redis_command("FLUSHALL")
    with trio.move_on_after(PATIENCE):
        while True:
            await rig.add(NewTask("instant", {}))
            if await rig.redis_command("EXISTS", STREAM):
                groups = await rig.redis_command("XINFO", "GROUPS", STREAM)
                if groups and GROUP in groups[0]:
                    return True
            await trio.sleep(0.2)
    return False


async def die_with_entries(rig: Rig, *options: str) -> History:
    """Kill a worker that has taken entries and claimed nothing yet."""
    victim = await rig.spawn("--mutant", "dies_before_claiming", *options)
    await rig.add(*[NewTask("instant", {})] * 5)
    with trio.fail_after(60):
        await victim.process.wait()
    await rig.start(*options)
    return await settle_down(rig)


async def die_with_claims(rig: Rig, *options: str) -> History:
    """Kill a worker that runs something."""
    victim = await rig.start(*options)
    await rig.add(NewTask("gate", {"gate": str(rig.gate())}))
    await victim.wait_for("run.started")
    rig.kill(victim)
    await rig.start(*options)
    rig.gate().touch()
    return await settle_down(rig)


async def work_side_by_side(rig: Rig, *options: str) -> History:
    """Let two workers that are well run long tasks, with slots to spare."""
    for _ in range(2):
        await rig.start(*options)
    await rig.add(*[NewTask("long", {"seconds": 1.5}, tries_max=50)] * 3)
    return await settle_down(rig)


async def act_blindly(rig: Rig, *options: str) -> History:
    """Let a worker write, without a look to the left, after its claim went to another one."""
    blind = await rig.start(*options)
    until = rig.gate("until")
    (task_id,) = await rig.add(NewTask("blind", {"until": str(until)}))
    await blind.wait_for("run.started")
    heir = await rig.start(*options)
    await heir.wait_for("run.started", task=str(task_id), attempt=2)
    until.touch()
    await blind.wait_for("run.ended", task=str(task_id), attempt=1)
    return await settle_down(rig)


async def come_back(rig: Rig, *options: str) -> History:
    """Stop a worker that has fetched claims ahead, until others have done its work; three times."""
    short = NewTask("short", {"seconds": 0.004}, tries_max=20)
    instant = NewTask("instant", {}, tries_max=20)  # a slot works off several in one step
    stopped = await rig.start(*options)
    await rig.add(*[short] * 100)
    await rig.drained(30)  # it knows that such tasks are short, and fetches them ahead
    for deaths in range(1, 4):
        before = len(rig.runs())
        await rig.add(*[short, instant, instant, instant] * 200)
        await rig.until(lambda before=before: len(rig.runs()) > before + 20)
        rig.stop(stopped)
        heir = await rig.start(*options)
        await trio.sleep(1.5 * TTL)
        await rig.drained(30)
        rig.go_on(stopped)
        with trio.fail_after(30):
            while stopped.log.count("worker.died") < deaths:
                await trio.sleep(0.02)
        assert await rig.end(heir) == 0
    return await rig.finish()


async def poison(rig: Rig, *options: str) -> History:
    """Let a task kill its workers until it is dead, or has done so too often."""
    rig.replaces = True
    await rig.start(*options)
    await rig.add(NewTask("poison", {}, tries_max=2))
    with trio.fail_after(90):
        while await rig.unfinished() and len(rig.runs(kind="poison")) < 4:
            await trio.sleep(0.1)
    return await rig.finish()


async def settle_down(rig: Rig) -> History:
    """Give the tasks time to end; what has not ended then is lost."""
    with trio.move_on_after(PATIENCE):
        while await rig.unfinished():
            await trio.sleep(0.1)
    return await rig.finish()
