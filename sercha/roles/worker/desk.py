"""The claims that a worker holds: waiting for a slot, running, or ended and not recorded yet.

Claims are fetched ahead only as far as short tasks need it: about as many as the slots work off while the next
ones are on their way. Where tasks take longer than that, none is, and other workers get them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

import trio

from sercha.domain.task import Claim
from sercha.services.waiting import Signal

AHEAD_SECONDS = 0.05
"""Work fetched ahead, at the pace of the last attempts."""
AHEAD_MAX = 512
HELD_MAX = 2_000
"""Claims held in all: bounds what waits to be recorded while PostgreSQL is slow."""
PACE_WEIGHT = 0.05
"""Of the newest attempt in the mean duration."""

Key = tuple[UUID, int]
"""Task and attempt: what was lost may be claimed anew while the old attempt still comes to its end."""


@dataclass(eq=False, slots=True)
class Held:
    """One claim of ours."""

    claim: Claim
    since: float
    """When it came, then when it was started, on Trio's clock."""
    scope: trio.CancelScope | None = None
    """Around the handler, while it runs."""
    is_lost: bool = False
    has_ended: bool = False

    @property
    def key(self) -> Key:
        """What the ledger calls it."""
        return self.claim.task_id, self.claim.attempt


class Desk:
    """See the module."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.busy = 0
        """Slots that run something."""
        self.freed = Signal()
        """Set when there is room for more claims."""
        self._held: dict[Key, Held] = {}
        self._waiting: deque[Held] = deque()
        self._idle = trio.lowlevel.ParkingLot()
        self._mean_seconds: float | None = None
        self._is_closed = False

    @property
    def waiting(self) -> int:
        """Claims that no slot has taken yet."""
        return len(self._waiting)

    @property
    def ahead(self) -> int:
        """How many claims beyond the slots are worth fetching."""
        if self._mean_seconds is None:
            return 0
        return min(AHEAD_MAX, int(self.slots * AHEAD_SECONDS / max(self._mean_seconds, 1e-6)))

    @property
    def free(self) -> int:
        """Slots that the next claims get at once."""
        return max(0, self.slots - self.busy - len(self._waiting))

    def room(self) -> int:
        """Return how many more claims are wanted; 0 also when it is not worth a request yet."""
        ahead = self.ahead
        room = self.slots + ahead - self.busy - len(self._waiting)
        if self._waiting and room < ahead // 2:
            return 0  # a few now would make many small requests
        return max(0, min(room, HELD_MAX - len(self._held)))

    def running(self) -> tuple[Claim, ...]:
        """Return the claims whose handlers run."""
        return tuple(held.claim for held in self._held.values() if held.scope is not None)

    def put(self, claims: Iterable[Claim]) -> None:
        """Take in claims; each goes to the next free slot."""
        now = trio.current_time()
        for claim in claims:
            held = Held(claim, now)
            self._held[held.key] = held
            self._waiting.append(held)
        self._idle.unpark(count=len(self._waiting) or 1)

    async def next(self) -> Held | None:
        """Return the next claim to run when there is one; None once the desk is closed."""
        while not self._waiting:
            if self._is_closed:
                return None
            await self._idle.park()
        held = self._waiting.popleft()
        self.busy += 1
        held.since = trio.current_time()
        return held

    def end(self, held: Held) -> None:
        """Note that the slot is free again; the claim is held until it is recorded or forgotten."""
        held.scope = None
        held.has_ended = True
        self.busy -= 1
        seconds = trio.current_time() - held.since
        mean = seconds if self._mean_seconds is None else self._mean_seconds
        self._mean_seconds = mean + PACE_WEIGHT * (seconds - mean)
        if self.room():
            self.freed.set()

    def forget(self, held: Held) -> None:
        """Note that the ledger has decided about a claim."""
        self._held.pop(held.key, None)
        if self.room():
            self.freed.set()

    def expected(self) -> list[Held]:
        """Return the claims that the ledger must know as ours."""
        return [held for held in self._held.values() if not held.has_ended]

    def knows(self, key: Key) -> bool:
        """Whether a claim is held here."""
        return key in self._held

    def lose(self, lost: Iterable[Held]) -> int:
        """Give up claims that are ours no more: cancel those that run; how many there were."""
        count = 0
        for held in list(lost):
            if held.is_lost or held.has_ended:
                continue
            held.is_lost = True
            count += 1
            if held.scope is not None:
                held.scope.cancel("the claim was taken or cancelled")
            elif held in self._waiting:
                self._waiting.remove(held)
                self.forget(held)
        if count:
            self.freed.set()
        return count

    def take_waiting(self, *, older_than: float = 0.0) -> list[Held]:
        """Take away claims that have waited for a slot for more than *older_than* seconds."""
        now = trio.current_time()
        old = [held for held in self._waiting if now - held.since >= older_than]
        for held in old:
            self._waiting.remove(held)
            held.has_ended = True
        return old

    def close(self) -> None:
        """Let free slots end; what waits stays for `take_waiting`."""
        self._is_closed = True
        self._idle.unpark_all()
