"""Workers that are stopped, killed, starved or told to end: the numbers are those of the fault matrix."""

from __future__ import annotations

import signal
from typing import Any

import pytest
import trio

from sercha.domain.task import NewTask
from tests.support.queue.history import History
from tests.support.queue.rig import Rig, open_rig
from tests.support.queue.scenarios import TTL, come_back, starve
from tests.support.redis import RedisServer

LONG_TTL = 60.0
"""Longer than a test waits: what is taken over meanwhile did not expire."""


async def _row(rig: Rig, task_id: object) -> dict[str, Any]:
    query = "SELECT state, attempt, tries, last_error FROM task WHERE id = %(id)s"
    (row,) = await rig.rows(query, id=task_id)
    return row


def _completed_by(history: History, task_id: object) -> list[int]:
    """Return the attempts whose completion was accepted."""
    moves = history.moves_by_task()[str(task_id)]
    return [move.attempt for move in moves if move.after == "completed"]


def _ends(history: History, task_id: object) -> list[str]:
    """Return how the runs of a task ended, in order."""
    return [run.how for run in history.runs_by_task()[str(task_id)]]


async def test_a_worker_stopped_within_a_page_is_thrown_out_and_the_others_go_on(
    postgres_url: str, redis_server: RedisServer
) -> None:
    """Fault 8. Cause: SIGSTOP in a transaction that holds the claim. Invariants: I10, no stale effect, I12."""
    async with open_rig(postgres_url, redis_server, ttl=TTL) as rig:
        stopped = await rig.start("--mutant", "short_pages")
        (task_id,) = await rig.add(NewTask("stop_in_page", {}))
        await stopped.wait_for("page.held")
        await rig.start()
        await rig.add(*[NewTask("short", {"seconds": 0.01})] * 50)

        await rig.drained(40)
        rig.go_on(stopped)
        await stopped.wait_for("run.ended", task=str(task_id))
        history = await rig.finish()
        rig.judge(history)

    assert [effect.attempt for effect in history.effects] == [2]
    assert _ends(history, task_id)[1:] == ["returned"]
    assert _ends(history, task_id)[0] in ("failed", "lost", "cancelled")


async def test_a_killed_workers_task_is_taken_over_and_charged(
    postgres_url: str, redis_server: RedisServer
) -> None:
    """Fault 9. Cause: SIGKILL in mid-task. Invariants: I8, I10; the task was charged one try."""
    async with open_rig(postgres_url, redis_server, ttl=TTL) as rig:
        victim = await rig.start()
        (task_id,) = await rig.add(NewTask("gate", {"gate": str(rig.gate())}))
        await victim.wait_for("run.started")
        rig.kill(victim)
        heir = await rig.start()
        await heir.wait_for("run.started", attempt=2)
        rig.gate().touch()

        await rig.drained(20)
        row = await _row(rig, task_id)
        history = await rig.finish()
        rig.judge(history)

    assert (row["state"], row["attempt"], row["tries"]) == ("completed", 2, 2)
    assert _ends(history, task_id) == ["unknown", "returned"]


async def test_a_worker_killed_between_effect_and_settlement_leaves_one_completion(
    postgres_url: str, redis_server: RedisServer
) -> None:
    """Fault 22. Cause: SIGKILL after the effect's commit. Invariant: I10; the second run's effect is idempotent."""
    async with open_rig(postgres_url, redis_server, ttl=TTL) as rig:
        victim = await rig.start()
        (task_id,) = await rig.add(NewTask("effect_then_kill", {}))
        await victim.process.wait()
        await rig.start()

        await rig.drained(20)
        done = await rig.number("SELECT count(*) FROM history_done")
        history = await rig.finish()
        rig.judge(history)

    assert [(effect.task, effect.attempt) for effect in history.effects] == [
        (str(task_id), 1),
        (str(task_id), 2),
    ]
    assert done == 1
    assert _completed_by(history, task_id) == [2]


async def test_a_late_settlement_of_a_starved_worker_is_refused(
    postgres_url: str, redis_server: RedisServer
) -> None:
    """Fault 24. Cause: the loop is blocked for three lives, so no beat gets out. Invariant: I10."""
    async with open_rig(postgres_url, redis_server, ttl=TTL) as rig:
        history, task_id = await starve(rig)
        rig.judge(history)

    assert _ends(history, task_id) == ["returned", "returned"]
    assert _completed_by(history, task_id) == [2]


async def test_a_task_that_kills_its_workers_ends_with_the_dead_letters(
    postgres_url: str, redis_server: RedisServer
) -> None:
    """Fault 25. Cause: SIGKILL of its own process at each run. Invariants: I10, and the others are not lost."""
    async with open_rig(postgres_url, redis_server, ttl=TTL) as rig:
        rig.replaces = True
        for _ in range(2):
            await rig.start()
        (task_id,) = await rig.add(NewTask("poison", {}, tries_max=3))
        await rig.add(*[NewTask("short", {"seconds": 0.005}, tries_max=10)] * 200)

        await rig.drained(60)
        row = await _row(rig, task_id)
        history = await rig.finish()
        verdict = rig.judge(history)

    assert (row["state"], row["attempt"], row["tries"]) == ("dead", 3, 3)
    assert row["last_error"]
    assert _ends(history, task_id) == ["unknown"] * 3
    assert verdict.counts["completed"] == 200


@pytest.mark.parametrize("kind", ["gate", "polite_gate"])
async def test_a_drained_workers_task_is_taken_over_at_once_and_not_charged(
    postgres_url: str, redis_server: RedisServer, kind: str
) -> None:
    """Fault 28. Cause: SIGTERM in mid-task. Invariant: given back, whether or not the handler listens."""
    more = {"SHUTDOWN_GRACE": "1s"}
    async with open_rig(postgres_url, redis_server, ttl=LONG_TTL, slots=2, **more) as rig:
        ending = await rig.start()
        tasks = await rig.add(*[NewTask(kind, {"gate": str(rig.gate())})] * 4)
        await rig.until(lambda: len(rig.runs()) == 2)
        heir = await rig.start()
        await rig.until(lambda: len(rig.runs()) == 4)
        assert await rig.end(ending) == 0
        rig.gate().touch()

        await rig.drained(20)
        rows = [await _row(rig, task_id) for task_id in tasks]
        history = await rig.finish()
        rig.judge(history)

    assert sorted(row["attempt"] for row in rows) == [1, 1, 2, 2]
    assert {row["tries"] for row in rows} == {1}
    assert {run.life for run in history.runs if run.how == "returned"} == {heir.life}


async def test_a_worker_killed_while_it_drains_loses_nothing(
    postgres_url: str, redis_server: RedisServer
) -> None:
    """Fault 28 and 9. Cause: SIGKILL in the middle of the drain. Invariant: I8."""
    async with open_rig(postgres_url, redis_server, ttl=TTL) as rig:
        ending = await rig.start()
        (task_id,) = await rig.add(NewTask("gate", {"gate": str(rig.gate())}))
        await ending.wait_for("run.started")
        rig.ask_to_end(ending)
        await trio.sleep(0.2)  # it drains, and waits for the task
        rig.kill(ending)
        assert await ending.process.wait() == -signal.SIGKILL
        await rig.start()
        rig.gate().touch()

        await rig.drained(20)
        history = await rig.finish()
        rig.judge(history)

    assert _ends(history, task_id) == ["unknown", "returned"]


async def test_a_worker_that_comes_back_from_a_stop_begins_nothing_of_what_it_had_claimed(
    postgres_url: str, redis_server: RedisServer
) -> None:
    """Fault 7 of claims. Cause: SIGSTOP for longer than a life, with claims waiting for slots. Invariant: I10."""
    async with open_rig(postgres_url, redis_server, ttl=TTL, slots=2) as rig:
        rig.judge(await come_back(rig, "--mutant", "wakes_late"))
