"""What tests of the ledger of tasks share: two owners, a task, and short ways to say common things."""

from __future__ import annotations

from uuid import UUID, uuid4

from sercha.domain.task import Claim, NewTask, TaskKind, TaskState
from tests.support.truth import Truth

KINDS = [TaskKind.SYNC_SOURCE]
TASK = NewTask(TaskKind.SYNC_SOURCE, {"n": 1})
ME, OTHER = uuid4(), uuid4()


async def enqueue(truth: Truth, *tasks: NewTask) -> list[UUID]:
    """Enqueue in a transaction of its own."""
    async with truth.pool.transaction() as tx:
        return await truth.queue.enqueue(tx, tasks)


async def lose_all(truth: Truth) -> int:
    """Let the present owners die, be reaped, and others live under their names; how many tasks were lost."""
    await truth.expire()
    lost = await truth.queue.reap()
    await truth.live(ME, OTHER)
    return lost


async def state_of(truth: Truth, claim: Claim) -> TaskState:
    """Return the state of a claim's task."""
    task = await truth.admin.get(claim.task_id)
    assert task is not None
    return task.state
