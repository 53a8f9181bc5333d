"""`sercha sync`: asks for syncs and follows them to their end."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Annotated, Any

import trio
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from sercha.cli.api import Api, open_api
from sercha.cli.exits import Status, run_async
from sercha.cli.show import print_json, safe
from sercha.errors import NotFound, Rejected, Transient, WrongUsage

POLL_INTERVAL = 0.5
INDEX_WAIT = 15.0
"""How long to wait for the index after a sync, in seconds."""
PLAIN_INTERVAL = 5.0
"""Seconds between two lines about one source where there is no terminal."""
AWAY_TIMEOUT = 60.0
"""How long a server may be away while a sync is followed: it may be restarting."""

_ENDED = frozenset({"completed", "dead", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Followed:
    """One sync that was asked for."""

    source_id: str
    name: str
    task_id: str


@dataclass(frozen=True, slots=True)
class SyncEnd:
    """How a sync ended."""

    followed: Followed
    is_done: bool
    message: str
    state: dict[str, Any]


def register(app: typer.Typer) -> None:
    """Add the command to *app*."""
    app.command("sync")(sync)


def sync(
    name: Annotated[str | None, typer.Argument(help="Name or id of a source.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All sources that are not paused.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the syncs to their end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Ask for a sync of one source, or of all of them."""
    if (name is None) is not all_:
        raise WrongUsage("sync: give the name of a source, or --all")
    run_async(partial(run_sync, name, wait=wait, as_json=as_json))


async def run_sync(name: str | None, *, wait: bool, as_json: bool) -> int:
    """Ask for the syncs; with *wait*, return when they have ended."""
    async with open_api() as api:
        if name is None:
            sources = [each for each in await list_sources(api) if each["enabled"]]
        else:
            sources = [await find_source(api, name)]
        followed = [await request_sync(api, source) for source in sources]
        if not wait:
            _print_accepted(followed, as_json=as_json)
            return Status.DONE
        ends = await follow_syncs(api, followed)
        if as_json:
            print_json([_summary(end) for end in ends])
        return Status.DONE if all(end.is_done for end in ends) else Status.FAILED


async def list_sources(api: Api) -> list[dict[str, Any]]:
    """Return all sources with their counters beside their own fields."""
    return [
        {**{key: value for key, value in each.items() if key != "source"}, **each["source"]}
        for each in await api.get("/sources")
    ]


async def find_source(api: Api, name: str) -> dict[str, Any]:
    """Return the source with this name or id.

    Raises:
        NotFound: there is none; the message lists what there is.
    """
    sources = await list_sources(api)
    for source in sources:
        if name in {source["name"], source["id"]}:
            return source
    names = ", ".join(sorted(source["name"] for source in sources)) or "none"
    raise NotFound(f"source {name}: there is none; known: {names}", code="source-not-found")


async def request_sync(api: Api, source: dict[str, Any]) -> Followed:
    """Ask for the sync of a source."""
    answer = await api.post(f"/sources/{source['id']}/sync")
    return Followed(source["id"], source["name"], answer["task_id"])


async def follow_syncs(api: Api, followed: Sequence[Followed]) -> list[SyncEnd]:
    """Show the progress of syncs on stderr until all have ended; cancellation leaves them running."""
    ends: dict[str, SyncEnd] = {}
    with _display() as display:
        async with trio.open_nursery() as nursery:

            async def one(each: Followed) -> None:
                ends[each.task_id] = await _follow(api, each, display)

            for each in followed:
                nursery.start_soon(one, each)
    await _until_searchable(api)
    return [ends[each.task_id] for each in followed]


async def _until_searchable(api: Api) -> None:
    """Wait, within reason, until the API that answers us searches in what was synced."""
    try:
        await api.get("/index", wait=INDEX_WAIT)
    except Transient as error:
        print(f"sercha: warning: {error.message}", file=sys.stderr)


async def _follow(api: Api, followed: Followed, display: _Display) -> SyncEnd:
    away_since: float | None = None
    while True:
        try:
            task = await api.get(f"/tasks/{followed.task_id}")
            state = await api.get(f"/sources/{followed.source_id}/sync")
        except Transient:
            away_since = away_since or trio.current_time()
            if trio.current_time() - away_since > AWAY_TIMEOUT:
                raise
        except NotFound:
            end = SyncEnd(followed, False, "the source was removed meanwhile", {})
            display.end(followed, end.message)
            return end
        else:
            away_since = None
            if (end := _end(followed, task, state)) is not None:
                display.end(followed, end.message)
                return end
            if task["state"] == "running":
                display.update(followed, state.get("items_done", 0), state.get("items_expected"))
        await trio.sleep(POLL_INTERVAL)


def _end(followed: Followed, task: dict[str, Any], state: dict[str, Any]) -> SyncEnd | None:
    error = task.get("last_error")
    if task["state"] not in _ENDED:
        if task["state"] == "queued" and task.get("attempt") and error:
            return SyncEnd(followed, False, f"failed: {error}; it will be tried again", state)
        return None
    if task["state"] == "completed":
        return SyncEnd(followed, True, _stats(state), state)
    return SyncEnd(followed, False, f"{task['state']}: {error or 'no reason given'}", state)


def _stats(state: dict[str, Any]) -> str:
    stats = state.get("stats", {})
    parts = [
        f"{stats.get(f'documents_{key}', 0)} {key}"
        for key in ("added", "updated", "deleted", "unchanged", "skipped")
        if key in {"added", "updated", "deleted"} or stats.get(f"documents_{key}")
    ]
    errors = stats.get("errors", 0)
    return ", ".join(parts) + (f", {errors} could not be read" if errors else "")


def _summary(end: SyncEnd) -> dict[str, object]:
    return {
        "source_id": end.followed.source_id,
        "name": end.followed.name,
        "task_id": end.followed.task_id,
        "completed": end.is_done,
        "message": end.message,
        "state": end.state,
    }


def _print_accepted(followed: Sequence[Followed], *, as_json: bool) -> None:
    if as_json:
        print_json(
            [
                {"source_id": each.source_id, "name": each.name, "task_id": each.task_id}
                for each in followed
            ]
        )
        return
    for each in followed:
        print(f"{safe(each.name)}: sync asked for (task {each.task_id})")
    if not followed:
        raise Rejected(
            "there is no source to sync: add one with `sercha source add`", code="no-source"
        )


class _Display:
    """Lines on stderr, for logs and pipes."""

    def __init__(self) -> None:
        self._said_at: dict[str, float] = {}

    def __enter__(self) -> _Display:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def update(self, followed: Followed, done: int, expected: int | None) -> None:
        """Show how far a sync is."""
        now = time.monotonic()
        if now - self._said_at.get(followed.task_id, -PLAIN_INTERVAL) < PLAIN_INTERVAL:
            return
        self._said_at[followed.task_id] = now
        of = f" of {expected}" if expected is not None else ""
        self._say(f"{safe(followed.name)}: {done}{of} items")

    def end(self, followed: Followed, message: str) -> None:
        """Show how a sync ended."""
        self._say(f"{safe(followed.name)}: {safe(message)}")

    def _say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


class _BarDisplay(_Display):
    """A bar for each source, on a terminal."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._bars: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
        )

    def __enter__(self) -> _Display:
        self._stack.enter_context(self._progress)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def update(self, followed: Followed, done: int, expected: int | None) -> None:
        if followed.task_id not in self._bars:
            name = safe(followed.name).replace("[", r"\[")
            self._bars[followed.task_id] = self._progress.add_task(name, total=expected)
        self._progress.update(self._bars[followed.task_id], completed=done, total=expected)
        self._progress.refresh()

    def end(self, followed: Followed, message: str) -> None:
        if followed.task_id in self._bars:
            self._progress.remove_task(self._bars.pop(followed.task_id))
        super().end(followed, message)

    def _say(self, line: str) -> None:
        self._progress.console.print(line, markup=False, highlight=False)


def _display() -> _Display:
    return _BarDisplay() if sys.stderr.isatty() else _Display()
