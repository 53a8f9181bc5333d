"""The feed of events: what happened, for whoever watches; followed with a snapshot as the position."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from sercha.errors import Rejected

POSITION_CHARS_MAX = 2_000
"""Of a position as text: it travels in a header."""

_POSITION = re.compile(r"(\d{1,20}/[0-9A-F]{8}/\d{1,10}):(\d{1,20}:\d{1,20}:[\d,]*)", re.ASCII)
_XID_MAX = 2**64 - 1


@dataclass(frozen=True, slots=True)
class EventPosition:
    """How far somebody has read: the events of the transactions that a snapshot shows, in one history."""

    timeline: str
    """Names the database and its history."""
    snapshot: str
    """``xmin:xmax:xip,...``, as PostgreSQL writes it."""

    @staticmethod
    def parse(text: str) -> EventPosition:
        """Read a position that `__str__` wrote.

        Raises:
            Rejected: it is none (``bad-position``).
        """
        found = _POSITION.fullmatch(text) if len(text) <= POSITION_CHARS_MAX else None
        if found is None or not _is_snapshot(found[2]):
            raise Rejected(
                "the position is none that this API gave: leave it out to start now",
                code="bad-position",
            )
        return EventPosition(found[1], found[2])

    def __str__(self) -> str:
        """Write it for `parse`; one of very many transactions is shortened, to show less."""
        text = f"{self.timeline}:{self.snapshot}"
        if len(text) <= POSITION_CHARS_MAX:
            return text
        first = self.snapshot.partition(":")[0]
        return f"{self.timeline}:{first}:{first}:"

    def shows(self, xid: int) -> bool:
        """Whether the transaction had committed, or had been given up, when the snapshot was taken."""
        low, high, open_ = self.snapshot.split(":")
        return xid < int(low) or (xid < int(high) and str(xid) not in open_.split(","))


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened."""

    id: int
    """Names it; one subject's events of one kind are numbered in the order of their commits."""
    xid: int
    """Its transaction."""
    at: datetime
    type: str
    subject: UUID | None
    """The source or schedule that it is about."""
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EventPage:
    """Some of the events between two positions, by id."""

    events: tuple[Event, ...]
    until: EventPosition
    is_last: bool
    """Whether none are left up to `until`."""


class EventFeed(Protocol):
    """Events by position."""

    async def now(self) -> EventPosition:
        """Return the present position."""
        ...

    async def read(
        self,
        after: EventPosition,
        until: EventPosition | None = None,
        *,
        above: int = 0,
        limit: int,
    ) -> EventPage | None:
        """Return at most *limit* events that *until* shows and *after* does not, of those with ids over *above*.

        Without *until* it is the present. None: *after* or *until* means nothing any more, since events were
        removed that it did not show, or the database has another history; load afresh.
        """
        ...


def _is_snapshot(text: str) -> bool:
    low, high, open_ = text.split(":")
    parts = open_.split(",") if open_ else []
    if not all(parts):
        return False
    xids = [int(part) for part in parts]
    is_inside = all(int(low) <= xid < int(high) for xid in xids)
    # A number whose lower half is zero stands for no transaction: PostgreSQL passes over it.
    is_range = int(low) <= int(high) <= _XID_MAX and int(low) % 2**32 > 0 and int(high) % 2**32 > 0
    return is_range and is_inside and xids == sorted(set(xids))
