"""Tasks: what must be done, and the states they go through.

::

    queued ──claim──▶ running ──complete──▶ completed
      ▲  │              │ │
      │  └─cancel─┐     │ └──fail, tries used up──▶ dead
      │           ▼     │
      │       cancelled │
      └──fail, give_back, claim expired

``attempt`` only grows and, with the owner, is the claim's token. ``tries`` is charged at the claim, given
back when the attempt was interrupted, and forgiven when the attempt committed progress.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class TaskKind(StrEnum):
    """What a task does."""

    SYNC_SOURCE = "sync_source"


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

    kind: TaskKind
    payload: dict[str, object]
    dedupe_key: str | None = None
    """Unique among the queued: a second enqueue merges into the first."""
    concurrency_key: str | None = None
    """Unique among the running: a claim leaves the task queued while another with the key runs."""
    priority: int = 0
    """Higher runs first."""
    delay: float = 0.0
    """Seconds from now before it may be claimed."""
    tries_max: int = 5


@dataclass(frozen=True, slots=True)
class Claim:
    """The temporary right to run one attempt of a task; (task_id, owner, attempt) is its token."""

    task_id: UUID
    attempt: int
    owner: UUID
    kind: TaskKind
    payload: dict[str, object]
    tries: int
    tries_max: int


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
