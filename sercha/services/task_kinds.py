"""Sercha's own tasks, ready to be enqueued: their payloads, keys, bounds."""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID

from sercha.domain.task import NewTask, TaskKind
from sercha.errors import Rejected

SYNC_TRIES_MAX = 8
"""Failures in a row without progress: a source that is away is asked again for two to four minutes."""
SYNC_ALL_SECONDS_MAX = 300.0
REINDEX_SECONDS_MAX = 300.0
PRUNE_SECONDS_MAX = 3600.0


def sync_key(source_id: UUID) -> str:
    """Return the concurrency key of all work on one source: one sync at a time, across all workers."""
    return f"source:{source_id}"


def sync_task(source_id: UUID) -> NewTask:
    """Return the task that syncs a source; a queued one absorbs further requests. No limit of time."""
    return NewTask(
        kind=TaskKind.SYNC_SOURCE,
        payload={"source_id": str(source_id)},
        dedupe_key=f"sync:{source_id}",
        concurrency_key=sync_key(source_id),
        tries_max=SYNC_TRIES_MAX,
    )


def task_of(kind: str, payload: dict[str, object] | None = None) -> NewTask:
    """Return the task of one of Sercha's kinds: for schedules, and for whoever asks by name.

    Of the kinds that concern all of Sercha one may wait and one may run.

    Raises:
        Rejected: no such kind, or a wrong payload (``bad-field``).
    """
    payload = payload or {}
    try:
        known = TaskKind(kind)
    except ValueError:
        raise _bad(f"kind: {kind!r} is unknown; there are {', '.join(TaskKind)}") from None
    if known is TaskKind.SYNC_SOURCE:
        return sync_task(_source_id(payload))
    if payload:
        raise _bad(f"payload: a task of kind {known} takes none")
    return NewTask(
        kind=known,
        payload={},
        dedupe_key=str(known),
        concurrency_key=str(known),
        time_limit=_SECONDS_MAX[known],
    )


_SECONDS_MAX = {
    TaskKind.SYNC_ALL: SYNC_ALL_SECONDS_MAX,
    TaskKind.REINDEX: REINDEX_SECONDS_MAX,
    TaskKind.PRUNE: PRUNE_SECONDS_MAX,
}


def _source_id(payload: dict[str, object]) -> UUID:
    if payload.keys() == {"source_id"}:
        with suppress(ValueError):
            return UUID(str(payload["source_id"]))
    raise _bad('payload: must be {"source_id": "<the id of a source>"}')


def _bad(message: str) -> Rejected:
    return Rejected(message, code="bad-field")
