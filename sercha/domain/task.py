"""Tasks: what must be done, and the states they go through.

::

    queued ──claim──▶ running ──complete──▶ completed
      ▲  │              │ │
      │  └─cancel─┐     │ └──fail, tries used up──▶ dead
      │           ▼     │
      │       cancelled │
      └──fail, give_back, worker dead

``attempt`` only grows and, with the owner, is the claim's token. ``tries`` is charged at the claim, given
back when the attempt was interrupted, and forgiven when the attempt committed progress.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class TaskKind(StrEnum):
    """What Sercha's own tasks do. Programs that embed the worker bring kinds of their own, as other strings."""

    SYNC_SOURCE = "sync_source"
    """Makes the documents of one source equal to the source."""
    SYNC_ALL = "sync_all"
    """Asks for the sync of every source that is not paused."""
    REINDEX = "reindex"
    """Makes every copy of the index anew from the truth."""
    PRUNE = "prune"
    """Removes what nobody asks for any more."""


PRIORITY_MIN, PRIORITY_MAX = -9, 9


class TaskState(StrEnum):
    """Where a task stands."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    DEAD = "dead"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to be enqueued."""

    kind: str
    """A `TaskKind`, or another word that some worker has a handler for."""
    payload: dict[str, object]
    """Must be JSON."""
    dedupe_key: str | None = None
    """Unique among the queued: a second enqueue merges into the first."""
    concurrency_key: str | None = None
    """Unique among the running: a claim leaves the task queued while another with the key runs."""
    priority: int = 0
    """Higher runs first: from `PRIORITY_MIN` to `PRIORITY_MAX`."""
    delay: float = 0.0
    """Seconds from now before it may be claimed."""
    tries_max: int = 5
    """Attempts that may fail, or end with their worker, before the task goes to the dead letters."""
    time_limit: float | None = None
    """Seconds that one attempt may take; then it is cancelled and has failed. None: no limit."""
    id: UUID | None = None
    """Chosen by the caller, from `new_id`; else one is made. Enqueued again it is an error."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The temporary right to run one attempt of a task; (task_id, owner, attempt) is its token."""

    task_id: UUID
    attempt: int
    owner: UUID
    kind: str
    payload: dict[str, object]
    tries: int
    tries_max: int
    is_keyed: bool = False
    """Has a concurrency key: its end may let another task run."""
    time_limit: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: completed when ``error`` is None."""

    claim: Claim
    error: str | None = None
    retry_delay: float = 0.0
    """Seconds until the next attempt; counts only with an error."""
    is_final: bool = False
    """An error that no retry can mend: dead at once."""


@dataclass(frozen=True, slots=True)
class Task:
    """A task as it is listed."""

    id: UUID
    kind: str
    """A `TaskKind`, or what a newer version enqueued."""
    state: TaskState
    payload: dict[str, object]
    attempt: int
    tries: int
    tries_max: int
    created_at: datetime
    run_at: datetime
    finished_at: datetime | None = None
    last_error: str | None = None
    owner: UUID | None = None
    metadata: dict[str, object] = field(default_factory=dict[str, object])
