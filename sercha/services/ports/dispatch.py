"""The dispatch: a short list of due tasks outside of the ledger, from which workers take at once.

It holds ids and nothing else, and the claim in the ledger decides: an entry too many, an old one, or one in
the wrong place costs a look. It may lose everything at any time; whoever offers again puts it right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Delivery:
    """One entry that was taken; it stays ours until it is confirmed."""

    entry: str
    task_id: UUID


class Dispatch(Protocol):
    """Hands out ids of due tasks, each to one worker.

    Every call is bounded by a few seconds beyond *wait*, and raises `Unavailable` when the server is away, does
    not answer, or answers what makes no sense. Cancelled, a call may have taken place.
    """

    async def open(self) -> None:
        """Make what is missing on the server (the group); ask anew for what this consumer had taken.

        Called at the start and after every `Unavailable`.
        """
        ...

    async def receive(self, limit: int, *, wait: float) -> list[Delivery]:
        """Take up to *limit* entries, waiting up to *wait* seconds for the first; the oldest first.

        Entries that a call has taken whose answer was lost come again with the next one.
        """
        ...

    async def confirm(self, deliveries: Sequence[Delivery]) -> int:
        """Remove entries for good: the ledger has decided about them. Returns how many there still are."""
        ...

    async def offer(self, task_ids: Sequence[UUID]) -> int:
        """Add those ids that have no entry yet, atomically. Returns how many entries there are now."""
        ...

    async def announce(self, task_ids: Sequence[UUID], *, at_most: int) -> int:
        """Add entries for new tasks while there are fewer than *at_most*: others come by `offer` when it is their turn.

        Returns how many entries there are now.
        """
        ...

    async def sweep(self, *, idle: float) -> list[Delivery]:
        """Take over entries that others have held for more than *idle* seconds; remove consumers that are gone.

        Also removes entries that nobody holds any more although they were handed out, so that they can be
        offered again.
        """
        ...
