"""Workers that are wrong on purpose, and points at which one ends by its own hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.support.queue_history import Journal

Prepare = Callable[[Journal, int], None]

MUTANTS: dict[str, Prepare] = {}


def prepare(names: Sequence[str], journal: Journal, life: int) -> None:
    """Change this process as the names say."""
    for name in names:
        MUTANTS[name](journal, life)
