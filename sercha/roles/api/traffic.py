"""Requests under way, and whether new ones are still taken."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import trio

from sercha.errors import Transient


class Traffic:
    """Counts the requests of one application and knows whether it drains."""

    def __init__(self, drain: trio.Event | None = None) -> None:
        self._drain = trio.Event() if drain is None else drain
        self._under_way = 0
        self._idle = trio.Event()
        self._idle.set()
        self._streams = 0

    @property
    def is_draining(self) -> bool:
        """Whether new requests are to be refused."""
        return self._drain.is_set()

    @property
    def under_way(self) -> int:
        """Requests taken and not yet answered."""
        return self._under_way

    @property
    def answering(self) -> int:
        """Requests under way, without event streams: what keeps this process busy."""
        return self._under_way - self._streams

    @property
    def streams(self) -> int:
        """Event streams that are open."""
        return self._streams

    @contextmanager
    def stream(self, streams_max: int) -> Generator[None]:
        """Count the running request as an event stream for as long as the block runs.

        Raises:
            Transient: there are *streams_max* already (``too-many-streams``).
        """
        if self._streams >= streams_max:
            raise Transient(
                f"this process has {streams_max} event streams already: ask again",
                code="too-many-streams",
                retry_after=5.0,
            )
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    @contextmanager
    def request(self) -> Generator[None]:
        """Count one request for as long as the block runs."""
        if self._under_way == 0:
            self._idle = trio.Event()
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            if self._under_way == 0:
                self._idle.set()

    async def wait_drain(self) -> None:
        """Wait until the drain begins."""
        await self._drain.wait()

    async def wait_idle(self) -> None:
        """Wait until no request is under way."""
        while self._under_way:
            await self._idle.wait()
