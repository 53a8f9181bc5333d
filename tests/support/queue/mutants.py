"""Workers that are wrong on purpose, with shorter limits, or that end by their own hand at one point.

Each changes one thing of this process before the worker begins. The numbers are those of known bugs of others.
"""

from __future__ import annotations

import math
import os
import re
import signal
from collections.abc import Callable, Sequence
from typing import Any, LiteralString, cast

import trio

from sercha.adapters.postgres import task_sql, tasks
from sercha.adapters.redis import dispatch
from sercha.adapters.redis.dispatch import RedisDispatch, open_redis_dispatch
from sercha.domain.task import Outcome
from sercha.roles.worker.heart import Heart
from tests.support.queue.history import Journal

Prepare = Callable[[Journal, int], None]

MUTANTS: dict[str, Prepare] = {}


def prepare(names: Sequence[str], journal: Journal, life: int) -> None:
    """Change this process as the names say."""
    for name in names:
        MUTANTS[name](journal, life)


def _mutant(change: Prepare) -> Prepare:
    MUTANTS[change.__name__] = change
    return change


def _without(name: str, pattern: str, instead: str = "") -> None:
    """Take what matches out of a statement of the ledger; it must be there."""
    statement: str = getattr(task_sql, name)
    changed, count = re.subn(pattern, instead, statement)
    assert count, f"{name} has nothing like {pattern}: the mutant must be written anew"
    setattr(task_sql, name, cast("LiteralString", changed))


# Not wrong, only quicker or slower.


@_mutant
def short_pages(journal: Journal, life: int) -> None:
    """The server ends a session that stands still in a page after 2 s."""
    tasks.IDLE_IN_PAGE_MAX = 2.0


@_mutant
def short_memory(journal: Journal, life: int) -> None:
    """A consumer that asks for nothing is removed after 4 s."""
    dispatch.FORGET_SECONDS = 4.0
    opening: Any = open_redis_dispatch
    opening.__wrapped__.__kwdefaults__["forget_after"] = 4.0


@_mutant
def wakes_late(journal: Journal, life: int) -> None:
    """The heart is the last to notice that time is over, as it may be where the loop has much to do."""
    original = Heart._wait_for_death

    async def wait_for_death(self: Heart) -> None:
        await original(self)
        await trio.sleep(0.1)

    Heart._wait_for_death = wait_for_death


# Killed at one point.


@_mutant
def dies_after_offering(journal: Journal, life: int) -> None:
    """SIGKILL between adding entries and everything that comes after."""
    original = RedisDispatch.offer

    async def offer(self: RedisDispatch, task_ids: Sequence[Any]) -> int:
        entries = await original(self, task_ids)
        _die(journal, life)
        return entries

    RedisDispatch.offer = offer


@_mutant
def dies_before_announcing(journal: Journal, life: int) -> None:
    """SIGKILL between the commit of new tasks and their announcement."""

    async def announce(self: RedisDispatch, task_ids: Sequence[Any], *, at_most: int) -> None:
        _die(journal, life)

    RedisDispatch.announce = announce


@_mutant
def dies_before_claiming(journal: Journal, life: int) -> None:
    """SIGKILL between taking an entry and the claim."""

    async def claim_ids(self: tasks.PostgresTaskQueue, *_: Any, **__: Any) -> list[Any]:
        _die(journal, life)
        return []

    tasks.PostgresTaskQueue.claim_ids = claim_ids


@_mutant
def dies_before_confirming(journal: Journal, life: int) -> None:
    """SIGKILL between the claim and the removal of its entry."""

    async def confirm(self: RedisDispatch, deliveries: Sequence[Any]) -> int:
        _die(journal, life)
        return 0

    RedisDispatch.confirm = confirm


def _die(journal: Journal, life: int) -> None:
    journal.note("node.killing_itself", life=life)
    os.kill(os.getpid(), signal.SIGKILL)


# Wrong.


@_mutant
def claims_what_runs(journal: Journal, life: int) -> None:
    """M10: whoever comes second takes it too."""
    for name in ("CLAIM_IDS", "CLAIM_ID"):
        _without(name, r"t\.state (\|\| '' )?= 'queued'", "t.state IN ('queued', 'running')")


@_mutant
def settles_by_id(journal: Journal, life: int) -> None:
    """M11: a result is taken from anybody."""
    _without("COMPLETE", r"AND task\.owner (=|IS NOT DISTINCT FROM) mine\.owner")
    _without("COMPLETE", r"AND task\.attempt = mine\.attempt")


@_mutant
def drops_failures(journal: Journal, life: int) -> None:
    """M12: a task that failed is removed from the list of those to be done, and not put back."""
    original = tasks.PostgresTaskQueue.settle

    async def settle(self: tasks.PostgresTaskQueue, outcomes: Sequence[Outcome]) -> set[Any]:
        good = [outcome for outcome in outcomes if outcome.error is None]
        failed = {each.claim.task_id for each in outcomes if each.error is not None}
        return failed | (await original(self, good) if good else set())

    tasks.PostgresTaskQueue.settle = settle
    tasks.PostgresTaskQueue.disown = _never_disowns


async def _never_disowns(*_: Any) -> int:
    return 0


@_mutant
def makes_the_group_at_the_start_only(journal: Journal, life: int) -> None:
    """M14: a group that is gone stays gone."""
    original = RedisDispatch._make_group
    made: list[bool] = []

    async def make_group(self: RedisDispatch) -> None:
        if not made:
            await original(self)
            made.append(True)

    RedisDispatch._make_group = make_group


@_mutant
def never_sweeps(journal: Journal, life: int) -> None:
    """M20: what a dead worker has taken from the dispatch stays taken."""

    async def sweep(self: RedisDispatch, *, idle: float) -> list[Any]:
        return []

    RedisDispatch.sweep = sweep


@_mutant
def never_buries(journal: Journal, life: int) -> None:
    """M20: a life without an end; what the dead have claimed stays claimed."""
    _without("MARK_DEAD", r"expires_at < clock_timestamp\(\)", "false")


@_mutant
def buries_the_living(journal: Journal, life: int) -> None:
    """A reaper that asks nobody whether they are alive."""
    _without(
        "REAP", r"AND NOT EXISTS \(\s*SELECT 1 FROM heartbeat b WHERE b\.owner = t\.owner[^)]*\)"
    )


@_mutant
def never_doubts(journal: Journal, life: int) -> None:
    """M4: goes on believing in its claims while it cannot reach the ledger."""

    def trust(self: Heart, sent_at: float) -> None:
        self._trusted_until = self._trusted_until_boottime = math.inf

    Heart._trust = trust


@_mutant
def never_looks_at_the_clock(journal: Journal, life: int) -> None:
    """Begins what it had claimed, however long ago."""
    wakes_late(journal, life)
    Heart.is_trusted = lambda self: True


@_mutant
def verifies_nothing(journal: Journal, life: int) -> None:
    """M1: no fence; an effect is written whoever holds the claim."""
    _without("VERIFY", r"AND owner = %\(owner\)s AND attempt = %\(attempt\)s")
    _without("VERIFY", "AND state = 'running'")


@_mutant
def charges_nothing(journal: Journal, life: int) -> None:
    """A task that kills its workers goes on doing so."""
    for name in ("CLAIM", "CLAIM_IDS", "CLAIM_ID"):
        _without(name, r"tries = tries \+ 1")
        _without(name, r"attempt = attempt \+ 1, ", "attempt = attempt + 1")
