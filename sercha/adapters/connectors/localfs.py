"""Folders of this machine as a source: every regular file below them is an item.

It only ever reads. All calls of the file system run in threads under a limiter of their own; a call that
hangs (a dead network drive) does not hold up a cancellation.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import structlog
import trio

from sercha.adapters.connectors.localfs_config import (
    AllowedRoots,
    LocalfsConfig,
    Roots,
    canonical,
    is_within,
)
from sercha.adapters.connectors.localfs_open import Identity, Place, read_place, status_of
from sercha.adapters.connectors.localfs_rules import LeaveOut
from sercha.adapters.connectors.localfs_survey import Survey, Tally
from sercha.adapters.connectors.localfs_walk import (
    FILE_BYTES_MAX,
    SETTLE_SECONDS,
    Root,
    Walk,
    WalkRules,
    away,
)
from sercha.adapters.connectors.path_encoding import decode_path
from sercha.errors import ItemFailed, Transient
from sercha.services.ports import Item, ItemPage

PAGE_ITEMS = 200
COUNT_PAGE_ITEMS = 2_000
THREADS = 4
READ_SECONDS = 60.0
"""For one file of at most 16 MiB. A slow network drive takes a few."""
HUNG_MAX = THREADS - 1
"""Reads that have not come back; with more, the source counts as away: no thread would be left to try it."""

T = TypeVar("T")

log = structlog.get_logger()


class Localfs:
    """The `Connector` for folders. *allowed_roots* is asked anew at each use when it is a function."""

    def __init__(
        self,
        allowed_roots: Roots,
        own_data_dir: Path | None = None,
        *,
        page_items: int = PAGE_ITEMS,
        file_bytes_max: int = FILE_BYTES_MAX,
        settle_seconds: float = SETTLE_SECONDS,
        now_ns: Callable[[], int] = time.time_ns,
        limiter: trio.CapacityLimiter | None = None,
        read_seconds: float = READ_SECONDS,
    ) -> None:
        self._allowed = AllowedRoots(allowed_roots, own_data_dir)
        self._page_items = page_items
        self._file_bytes_max = file_bytes_max
        self._settle_seconds = settle_seconds
        self._now_ns = now_ns
        self._limiter = limiter or trio.CapacityLimiter(THREADS)
        self._read_seconds = read_seconds
        self._hung: set[_Call] = set()
        self._roots_seen: dict[Place, Identity] = {}

    async def validate(self, config: dict[str, object]) -> dict[str, object]:
        """Check the configuration against the disk and return its canonical form.

        Raises:
            Rejected: naming the field or the path; codes ``bad-field``, ``path-not-allowed``,
                ``path-missing``, ``path-unreadable``.
        """
        parsed = LocalfsConfig.parse(config)
        checked = await self._in_thread(partial(canonical, parsed, self._allowed))
        return checked.as_dict()

    async def count(self, config: dict[str, object], *, limit: int) -> int | None:
        """Count the items by walking; None when there are more than *limit*.

        Raises:
            Transient: the source is away.
            Rejected: the configuration is wrong, or its paths are not allowed any more.
        """
        count = 0
        async for page in _Pages(
            partial(self._start, config, None), COUNT_PAGE_ITEMS, self._limiter
        ):
            count += len(page.items)
            if count > limit:
                return None
        return count

    async def survey(self, config: dict[str, object], *, seconds: float) -> Survey:
        """Count what there is to read and what is left out, for at most *seconds*, without reading anything.

        Raises:
            Transient: the source is away.
            Rejected: the configuration is wrong, or its paths are not allowed any more.
        """
        tally = Tally()
        start = partial(self._start, config, None, tally.leave_out)
        with trio.move_on_after(seconds):
            async for page in _Pages(start, self._page_items, self._limiter):
                tally.add(page)
            return tally.result(is_whole=True)
        return tally.result(is_whole=False)

    def pages(self, config: dict[str, object], cursor: str | None) -> AsyncIterator[ItemPage]:
        """List the items behind *cursor*; a cursor that cannot be read means from the start.

        Each page is one hop to a thread. After a cancellation the iterator is not to be used any more.

        Raises:
            Transient: a path of the source is missing, unreadable, replaced or not mounted (``source-away``).
            Rejected: the configuration is wrong, or its paths are not allowed any more.
        """
        return _Pages(partial(self._start, config, cursor), self._page_items, self._limiter)

    async def fetch(self, item: Item) -> bytes:
        """Read one file whole. Cancelling abandons the read.

        Raises:
            ItemFailed: ``vanished``, ``unreadable``, ``not-a-file``, ``too-large``, ``path-not-allowed``,
                ``own-data``, ``placeholder``, ``read-timeout``.
            Transient: the folder it was listed in is away, this process is out of descriptors, or too many
                reads have not come back (``source-stalled``).
        """
        if len(self._hung) >= HUNG_MAX:
            raise Transient(
                f"{len(self._hung)} reads have not come back after {self._read_seconds:g} s each:"
                " the disk or the network drive hangs",
                code="source-stalled",
            )
        call = _Call(partial(self._read, item), self._hung)
        with trio.move_on_after(self._read_seconds):
            return await self._in_thread(call.run)
        call.note_hung()
        raise ItemFailed(
            f"It could not be read within {self._read_seconds:g} s.", code="read-timeout"
        )

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(call, limiter=self._limiter, abandon_on_cancel=True)

    def _start(
        self,
        config: dict[str, object],
        cursor: str | None,
        on_left_out: Callable[[str], None] = lambda _: None,
    ) -> Walk:
        parsed = LocalfsConfig.parse(config)
        roots: list[Root] = []
        for path in parsed.paths:
            self._allowed.require(path)
            place = self._allowed.place(os.fsencode(path))
            assert place is not None
            roots.append(Root.find(place, was_mounted=path in parsed.mount_points))
        self._roots_seen.update({root.place: root.identity for root in roots if root.is_folder})
        rules = WalkRules(
            LeaveOut(include_hidden=parsed.include_hidden, exclude=parsed.exclude),
            self._allowed.own_data(),
            self._file_bytes_max,
            self._settle_seconds,
            self._now_ns,
            on_left_out,
        )
        return Walk(roots, rules, _read_cursor(cursor))

    def _read(self, item: Item) -> bytes:
        try:
            path = decode_path(item.external_id)
        except ValueError:
            raise ItemFailed("Its id is no path.", code="vanished") from None
        place = self._allowed.place(path)
        if place is None:
            raise ItemFailed(
                "It is outside of the folders that may be read.",
                code="path-not-allowed",
                is_skip=True,
            )
        try:
            return read_place(place, self._allowed.own_data(), self._file_bytes_max)
        except ItemFailed as failure:
            if failure.error_code == "vanished":
                self._require_root(path)
            raise

    def _require_root(self, path: bytes) -> None:
        """Tell a file that is gone from a folder that went away with all files.

        Raises:
            Transient: the folder in which *path* was listed is not the one it was.
        """
        for place, identity in list(self._roots_seen.items()):
            if not is_within(path, place.path):
                continue
            try:
                is_same = Identity.of(status_of(place)) == identity
            except OSError:
                is_same = False
            if not is_same:
                raise away(place, "it was replaced or unmounted meanwhile")


class _Call:
    """A read in a thread, which may outlive whoever waits for it."""

    def __init__(self, read: Callable[[], bytes], hung: set[_Call]) -> None:
        self._read = read
        self._hung = hung
        self._is_over = False

    def run(self) -> bytes:
        try:
            return self._read()
        finally:
            self._is_over = True
            self._hung.discard(self)

    def note_hung(self) -> None:
        """Count it among those that hang for as long as it does."""
        self._hung.add(self)
        if self._is_over:  # it came back just now
            self._hung.discard(self)


class _Pages:
    """The pages of one walk, which begins with the first page."""

    def __init__(
        self, start: Callable[[], Walk], items_max: int, limiter: trio.CapacityLimiter
    ) -> None:
        self._start = start
        self._items_max = items_max
        self._limiter = limiter
        self._walk: Walk | None = None
        self._is_done = False

    def __aiter__(self) -> _Pages:
        return self

    async def __anext__(self) -> ItemPage:
        if self._is_done:
            raise StopAsyncIteration
        # Should the hop be cancelled or fail, there is no going on from the middle of a page.
        self._is_done = True
        page = await trio.to_thread.run_sync(
            self._next_page, limiter=self._limiter, abandon_on_cancel=True
        )
        self._is_done = page.cursor is None
        return page

    def _next_page(self) -> ItemPage:
        if self._walk is None:
            self._walk = self._start()
        return self._walk.next_page(self._items_max)


def _read_cursor(cursor: str | None) -> str | None:
    """Return the id that *cursor* stands behind."""
    if cursor is None:
        return None
    try:
        value = cast("object", json.loads(cursor))
        after = cast("dict[str, object]", value).get("after") if isinstance(value, dict) else None
        if isinstance(after, str):
            after.encode()  # lone surrogates are no id
            return after
    except ValueError:
        pass
    log.warning("localfs.cursor_ignored", cursor=cursor[:200])
    return None
