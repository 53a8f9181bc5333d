"""A dispatch in memory: the model that the one in Redis is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import trio

from sercha.services.ports import Delivery


@dataclass
class MemoryStream:
    """What the consumers share: entries in order, and who has taken which of them when."""

    entries: dict[str, UUID] = field(default_factory=dict)
    taken: dict[str, tuple[str, float]] = field(default_factory=dict)
    count: int = 0
    added: trio.Event = field(default_factory=trio.Event)

    def add(self, task_id: UUID) -> None:
        self.count += 1
        self.entries[f"{self.count}-0"] = task_id
        self.added.set()
        self.added = trio.Event()


class MemoryDispatch:
    """Satisfies the port ``Dispatch`` for one consumer of a `MemoryStream`."""

    def __init__(self, stream: MemoryStream, consumer: str) -> None:
        self._stream = stream
        self._consumer = consumer
        self._owed: list[str] = []
        """What this consumer holds and has to be given again."""

    async def open(self) -> None:
        await trio.lowlevel.checkpoint()
        mine = [entry for entry, (by, _) in self._stream.taken.items() if by == self._consumer]
        self._owed = [entry for entry in self._stream.entries if entry in mine]

    async def receive(self, limit: int, *, wait: float) -> list[Delivery]:
        await trio.lowlevel.checkpoint()
        owed, self._owed = self._owed[:limit], self._owed[limit:]
        if found := [self._give(entry) for entry in owed if entry in self._stream.entries]:
            return found
        with trio.move_on_after(wait):
            while not (found := self._take(limit)):
                await self._stream.added.wait()
            return found
        return []

    async def confirm(self, deliveries: Sequence[Delivery]) -> int:
        await trio.lowlevel.checkpoint()
        for each in deliveries:
            self._stream.entries.pop(each.entry, None)
            self._stream.taken.pop(each.entry, None)
        return len(self._stream.entries)

    async def offer(self, task_ids: Sequence[UUID]) -> int:
        await trio.lowlevel.checkpoint()
        for task_id in task_ids:
            if task_id not in self._stream.entries.values():
                self._stream.add(task_id)
        return len(self._stream.entries)

    async def announce(self, task_ids: Sequence[UUID], *, at_most: int) -> int:
        await trio.lowlevel.checkpoint()
        for task_id in task_ids[: max(0, at_most - len(self._stream.entries))]:
            self._stream.add(task_id)
        return len(self._stream.entries)

    async def sweep(self, *, idle: float) -> list[Delivery]:
        await trio.lowlevel.checkpoint()
        now = trio.current_time()
        found = [each for each, (_, at) in self._stream.taken.items() if now - at >= idle]
        return [self._give(entry) for entry in found]

    def _take(self, limit: int) -> list[Delivery]:
        free = [entry for entry in self._stream.entries if entry not in self._stream.taken]
        return [self._give(entry) for entry in free[:limit]]

    def _give(self, entry: str) -> Delivery:
        self._stream.taken[entry] = (self._consumer, trio.current_time())
        return Delivery(entry, self._stream.entries[entry])
