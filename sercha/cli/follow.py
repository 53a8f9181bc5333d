"""Following a sync to its end, and further until searches find what it brought."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import trio

from sercha.cli.api import Api
from sercha.cli.progress import Display, open_display
from sercha.errors import NotFound, Transient

POLL_INTERVAL = 0.5
AWAY_TIMEOUT = 60.0
"""How long a server may be away while a sync is followed: it may be restarting."""
INDEX_POLL_FIRST = 0.05
"""Seconds until the second look at the index, which the first has woken; doubled up to `POLL_INTERVAL`."""
INDEX_PATIENCE = 60.0
"""Seconds without any progress of the index after which nobody waits for it any more."""

MERGED = "merged into task "
"""How the ledger begins the reason of a task whose twin does its work."""

_ENDED = frozenset({"completed", "dead", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Followed:
    """One sync that was asked for."""

    source_id: str
    name: str
    task_id: str


@dataclass(frozen=True, slots=True)
class SyncEnd:
    """How a sync ended."""

    followed: Followed
    is_done: bool
    message: str
    state: dict[str, Any]
    is_searchable: bool = False
    """Searches find everything that it brought; only ever true when it is done."""


async def follow_syncs(api: Api, followed: Sequence[Followed]) -> list[SyncEnd]:
    """Show the progress of syncs on stderr until all are searchable or have failed.

    A line that says what a sync brought comes when searches on this API find it. Cancellation leaves the
    syncs running.
    """
    ends: dict[str, SyncEnd] = {}
    with open_display() as display:
        async with trio.open_nursery() as nursery:

            async def one(each: Followed) -> None:
                end = await _follow(api, each, display)
                if end.is_done:
                    end = await _until_searchable(api, end, display)
                display.end(each.task_id, each.name, end.message)
                ends[each.task_id] = end

            for each in followed:
                nursery.start_soon(one, each)
    return [ends[each.task_id] for each in followed]


async def _follow(api: Api, followed: Followed, display: Display) -> SyncEnd:
    away_since: float | None = None
    task_id = followed.task_id
    while True:
        try:
            task = await api.get(f"/tasks/{task_id}")
            state = await api.get(f"/sources/{followed.source_id}/sync")
        except Transient:
            away_since = away_since or trio.current_time()
            if trio.current_time() - away_since > AWAY_TIMEOUT:
                raise
        except NotFound:
            return SyncEnd(followed, False, "the source was removed meanwhile", {})
        else:
            away_since = None
            if (heir := _heir(task)) is not None:
                task_id = heir
                continue
            if (end := _end(followed, task, state)) is not None:
                return end
            if task["state"] == "running":
                done, expected = state.get("items_done", 0), state.get("items_expected")
                display.update(followed.task_id, followed.name, done, expected, "items")
        await trio.sleep(POLL_INTERVAL)


def _heir(task: dict[str, Any]) -> str | None:
    """Return the task that does the work of this one, if another does."""
    reason = str(task.get("last_error") or "")
    if task["state"] == "cancelled" and reason.startswith(MERGED):
        return reason.removeprefix(MERGED)
    return None


def _end(followed: Followed, task: dict[str, Any], state: dict[str, Any]) -> SyncEnd | None:
    error = task.get("last_error")
    if task["state"] not in _ENDED:
        if task["state"] == "queued" and task.get("attempt") and error:
            return SyncEnd(followed, False, f"failed: {error}; it will be tried again", state)
        return None
    if task["state"] == "completed":
        return SyncEnd(followed, True, _stats(state), state)
    reason = f": {error}" if error else ""
    return SyncEnd(followed, False, f"{task['state']}{reason}", state)


def _stats(state: dict[str, Any]) -> str:
    stats = state.get("stats", {})
    parts = [
        f"{stats.get(f'documents_{key}', 0)} {key}"
        for key in ("added", "updated", "deleted", "unchanged", "skipped")
        if key in {"added", "updated", "deleted"} or stats.get(f"documents_{key}")
    ]
    errors = stats.get("errors", 0)
    return ", ".join(parts) + (f", {errors} could not be read" if errors else "")


async def _until_searchable(api: Api, end: SyncEnd, display: Display) -> SyncEnd:
    """Wait until the API's index has what the sync committed, for as long as the index makes progress."""
    followed = end.followed
    ended_at = progressed_at = trio.current_time()
    base = best = -1
    trouble = ""
    pause = INDEX_POLL_FIRST
    while trio.current_time() - progressed_at <= INDEX_PATIENCE:
        age = trio.current_time() - ended_at
        try:
            state = await api.get_once("/index")
        except Transient as error:
            trouble = error.message
        else:
            if _reaches_back(state, age):
                return replace(end, is_searchable=True)
            applied = int(state["applied"])
            if base < 0 or applied < base:  # the first look, or another process answers
                base, best = applied, -1
            if applied > best:
                best, progressed_at = applied, trio.current_time()
            trouble = state.get("error") or "the index makes no progress"
            done = applied - base
            expected = None if state["is_rebuilding"] else done + int(state["pending"])
            display.update(followed.task_id, followed.name, done, expected, "made searchable")
        await trio.sleep(pause)
        pause = min(2 * pause, POLL_INTERVAL)
    return replace(end, message=f"{end.message}; not searchable yet: {trouble}")


def _reaches_back(state: dict[str, Any], age: float) -> bool:
    """Whether the copy has what was committed *age* seconds before it was asked how it is doing.

    Both numbers are durations, so it does not matter whose clock is right, which process answers, or how
    much others have written since.
    """
    return bool(state["is_caught_up"]) and float(state["lag"]) <= age
