"""Generations of an index in memory, for tests of one process."""

from __future__ import annotations

from itertools import count

from sercha.errors import Transient


class MemoryGenerations:
    """`sercha.services.ports.generations.GenerationStore` without PostgreSQL."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._current: str | None = None
        self._building: str | None = None
        self._retired: list[str] = []

    async def current(self) -> str | None:
        return self._current

    async def begin(self) -> str:
        if self._building is not None:
            self._retired.append(self._building)
        self._building = f"g{next(self._numbers)}"
        return self._building

    async def promote(self, generation: str) -> None:
        if self._building != generation:
            raise Transient("another one was begun", code="index-overtaken")
        if self._current is not None:
            self._retired.append(self._current)
        self._current, self._building = generation, None

    async def retire(self, generation: str) -> None:
        if self._building == generation:
            self._retired.append(generation)
            self._building = None

    async def retired(self, *, seconds: float) -> list[str]:
        return list(self._retired)

    async def forget(self, generation: str) -> None:
        self._retired.remove(generation)
