"""How far syncs are, on stderr: bars on a terminal, else a line now and then."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import trio
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from sercha.cli.show import safe

PLAIN_INTERVAL = 5.0
"""Seconds between two lines about one sync where there is no terminal; the first comes as late."""


class Pace:
    """How long it may still take, from how long it has taken; better with every look."""

    def __init__(self) -> None:
        self._began: dict[tuple[str, str], tuple[float, int]] = {}

    def left(self, key: str, what: str, done: int, expected: int | None, now: float) -> str:
        """Return words such as ``, about 3 min left``; empty where nothing can be said yet."""
        began, first = self._began.setdefault((key, what), (now, done))
        if expected is None or done <= first or now <= began or expected < done:
            return ""
        seconds = (expected - done) * (now - began) / (done - first)
        if seconds < 60:
            return f", about {max(round(seconds), 1)} s left"
        if seconds < 2 * 3600:
            return f", about {round(seconds / 60)} min left"
        return f", about {round(seconds / 3600)} h left"


class Display:
    """Lines, for logs and pipes."""

    def __init__(self) -> None:
        self._said_at: dict[str, float] = {}
        self._pace = Pace()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def update(self, key: str, name: str, done: int, expected: int | None, what: str) -> None:
        """Show that *done* of *expected* things are done of the sync *key* on the source *name*."""
        now = trio.current_time()
        left = self._pace.left(key, what, done, expected, now)
        if now - self._said_at.setdefault(key, now) < PLAIN_INTERVAL:
            return
        self._said_at[key] = now
        of = f" of {expected}" if expected is not None else ""
        self._say(f"{safe(name)}: {done}{of} {what}{left}")

    def end(self, key: str, name: str, message: str) -> None:
        """Show how the sync *key* ended."""
        self._said_at.pop(key, None)
        self._say(f"{safe(name)}: {safe(message)}")

    def _say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


class BarDisplay(Display):
    """A bar for each sync, on a terminal."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._bars: dict[str, TaskID] = {}
        self._kinds: dict[str, tuple[str, bool]] = {}
        """What each bar counts, and whether nobody knows of how many."""
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[what]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
        )

    def __enter__(self) -> Self:
        self._stack.enter_context(self._progress)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def update(self, key: str, name: str, done: int, expected: int | None, what: str) -> None:
        """Move the bar of the sync, which is made when it is first heard of, and anew for other things."""
        kind = (what, expected is None)
        if self._kinds.get(key) != kind:
            self._remove(key)
            shown = safe(name).replace("[", r"\[")
            self._bars[key] = self._progress.add_task(shown, total=expected, what=what)
            self._kinds[key] = kind
        self._progress.update(self._bars[key], completed=done, total=expected)
        self._progress.refresh()

    def end(self, key: str, name: str, message: str) -> None:
        """Take the bar away and print how the sync ended."""
        self._remove(key)
        self._progress.refresh()
        super().end(key, name, message)

    def _remove(self, key: str) -> None:
        if key in self._bars:
            self._progress.remove_task(self._bars.pop(key))

    def _say(self, line: str) -> None:
        self._progress.console.print(line, markup=False, highlight=False)


def open_display() -> Display:
    """Make what fits stderr; use it as a context."""
    return BarDisplay() if sys.stderr.isatty() else Display()
