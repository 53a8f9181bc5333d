"""Folders of this machine as a source: every regular file below them is an item.

It only ever reads. All calls of the file system run in threads of their own; a call that hangs (a dead network
drive) is given up after a while, and does not hold up a cancellation.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import structlog
import trio

from sercha.adapters.connectors.localfs_calls import Calls
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

PAGE_ITEMS = 500
COUNT_PAGE_ITEMS = 2_000
TOGETHER_BYTES_MAX = 1024 * 1024
TOGETHER_SECONDS = 0.5
"""Files are read together until these are held, or this has passed: what is read is to be committed soon."""

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
        calls: Calls | None = None,
    ) -> None:
        self._allowed = AllowedRoots(allowed_roots, own_data_dir)
        self._page_items = page_items
        self._file_bytes_max = file_bytes_max
        self._settle_seconds = settle_seconds
        self._now_ns = now_ns
        self._calls = calls or Calls()
        self._roots_seen: dict[Place, Identity] = {}

    async def validate(self, config: dict[str, object]) -> dict[str, object]:
        """Check the configuration against the disk and return its canonical form.

        Raises:
            Rejected: naming the field or the path; codes ``bad-field``, ``path-not-allowed``,
                ``path-missing``, ``path-unreadable``.
            Transient: looking at the paths does not come back (``source-stalled``).
        """
        parsed = LocalfsConfig.parse(config)
        try:
            checked = await self._calls.run(partial(canonical, parsed, self._allowed))
        except trio.TooSlowError:
            raise self._calls.stalled("The paths could not be looked at") from None
        return checked.as_dict()

    async def count(self, config: dict[str, object], *, limit: int) -> int | None:
        """Count the items by walking; None when there are more than *limit*.

        Raises:
            Transient: the source is away.
            Rejected: the configuration is wrong, or its paths are not allowed any more.
        """
        count = 0
        async for page in _Pages(partial(self._start, config, None), COUNT_PAGE_ITEMS, self._calls):
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
            async for page in _Pages(start, self._page_items, self._calls):
                tally.add(page)
            return tally.result(is_whole=True)
        return tally.result(is_whole=False)

    def pages(self, config: dict[str, object], cursor: str | None) -> AsyncIterator[ItemPage]:
        """List the items behind *cursor*; a cursor that cannot be read means from the start.

        Each page is one hop to a thread. After a cancellation the iterator is not to be used any more.

        Raises:
            Transient: a path of the source is missing, unreadable, replaced or not mounted (``source-away``),
                or the listing does not come on (``source-stalled``).
            Rejected: the configuration is wrong, or its paths are not allowed any more.
        """
        return _Pages(partial(self._start, config, cursor), self._page_items, self._calls)

    async def fetch(self, items: Sequence[Item]) -> Sequence[bytes | ItemFailed]:
        """Read files whole, small ones together. Cancelling abandons the read.

        A file fails with ``vanished``, ``unreadable``, ``not-a-file``, ``too-large``, ``path-not-allowed``,
        ``own-data``, ``placeholder`` or ``read-timeout``.

        Raises:
            Transient: the folder the first was listed in is away, this process is out of descriptors, or too many
                reads have not come back (``source-stalled``).
        """
        reading = _Reading(self._read, items)
        try:
            await self._calls.run(reading.run, lambda: len(reading.outcomes))
        except trio.TooSlowError:
            read = reading.give_up()
            reason = f"It could not be read within {self._calls.seconds:g} s."
            return [*read, ItemFailed(reason, code="read-timeout")][: len(items)]
        return reading.outcomes

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


class _Reading:
    """Several reads in a thread; what came of those that are done is seen from outside at any time."""

    def __init__(self, read: Callable[[Item], bytes], items: Sequence[Item]) -> None:
        self._read = read
        self._items = items
        self.outcomes: list[bytes | ItemFailed] = []
        self._is_given_up = False

    def give_up(self) -> list[bytes | ItemFailed]:
        """Read nothing more, and return what was read."""
        self._is_given_up = True
        return self.outcomes[:]

    def run(self) -> None:
        """Read until enough is held, or has taken long.

        Raises:
            Transient: the first cannot be read now; a later one is left to the next call.
        """
        held = 0
        until = time.monotonic() + TOGETHER_SECONDS
        for item in self._items:
            if self._is_given_up:
                return
            try:
                content = self._read(item)
                self.outcomes.append(content)
                held += len(content)
            except ItemFailed as failure:
                self.outcomes.append(failure)
            except Transient:
                if self.outcomes:
                    return
                raise
            if held >= TOGETHER_BYTES_MAX or time.monotonic() > until:
                return


class _Pages:
    """The pages of one walk, which begins with the first page."""

    def __init__(self, start: Callable[[], Walk], items_max: int, calls: Calls) -> None:
        self._start = start
        self._items_max = items_max
        self._calls = calls
        self._walk: Walk | None = None
        self._is_done = False

    def __aiter__(self) -> _Pages:
        return self

    async def __anext__(self) -> ItemPage:
        if self._is_done:
            raise StopAsyncIteration
        # Should the hop be cancelled or fail, there is no going on from the middle of a page.
        self._is_done = True
        try:
            page = await self._calls.run(self._next_page, self._steps)
        except trio.TooSlowError:
            raise self._calls.stalled(
                f"The listing did not come on for {self._calls.seconds:g} s"
            ) from None
        self._is_done = page.cursor is None
        return page

    def _steps(self) -> int:
        return -1 if self._walk is None else self._walk.steps

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
