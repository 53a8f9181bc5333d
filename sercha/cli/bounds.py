"""Numbers on the command line: what is out of bounds is wrong use, before anything is asked."""

from __future__ import annotations

from collections.abc import Callable

import typer


def within(low: int, high: int) -> Callable[[int], int]:
    """Return an option's callback that refuses what is outside *low* to *high* (exit status 2)."""

    def check(value: int) -> int:
        if not low <= value <= high:
            raise typer.BadParameter(f"{value} is outside {low} to {high}")
        return value

    return check
