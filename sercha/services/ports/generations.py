"""The generations of an index that is shared by all processes: which one answers, which are to go."""

from __future__ import annotations

from typing import Protocol


class GenerationStore(Protocol):
    """The generations of one engine, by name: lower-case letters and digits, never used twice."""

    async def current(self) -> str | None:
        """Return the one that answers; None: there was none yet."""
        ...

    async def begin(self) -> str:
        """Make a new one, to be filled. One that was begun before and not promoted is retired."""
        ...

    async def promote(self, generation: str) -> None:
        """Let *generation* answer and retire the one that did until now, at once; all processes are told.

        Raises:
            Transient: it is not being built any more: another process has begun one (``index-overtaken``).
        """
        ...

    async def retire(self, generation: str) -> None:
        """Give up what was begun; without effect on the one that answers."""
        ...

    async def retired(self, *, seconds: float) -> list[str]:
        """Return those that were retired at least *seconds* ago and still have documents."""
        ...

    async def forget(self, generation: str) -> None:
        """Forget a retired one, whose documents are gone."""
        ...
