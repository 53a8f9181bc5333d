"""Cron rules in a time zone: which instants are slots.

A rule speaks of what clocks on the wall show, and these jump. So a time on the wall becomes an instant like this:

- Where the hour field begins with ``*`` the rule follows the clocks: every instant at which they show a time that
  matches. In an hour that comes twice it matches twice, in one that is left out never.
- Else a time is the first instant at which the clocks show it *or a later one*. So of a time that comes twice
  the first one counts, and a time that is left out becomes the first instant after the gap; several that fall
  together there are one slot. A day that does not exist at all (the date line was moved) has none.

`cronsim` knows the fields and walks over the wall's times without any zone. What it does itself with zones is not
used: Debian's rule, which it follows, takes ``*/15 2 * * *`` for one that follows the clocks, so that it has no
slot on the day when the hour from two to three is left out; in zones that jump by half an hour it passes over
times; and asked in the second hour of two it answers with a time of the first.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

SPEC_CHARS_MAX = 200
FIELDS = 5
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
"""No zone has jumped twice within a day since 1970."""

_ANY = datetime(2000, 1, 1)  # noqa: DTZ001  a time on the wall


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron rule of five fields in a zone. All instants given and taken are aware, in UTC."""

    spec: str
    zone: ZoneInfo
    anchor: datetime
    """There are no slots before."""

    def next_after(self, instant: datetime) -> datetime | None:
        """Return the first slot after *instant*; None when there is none within fifty years."""
        start = max(instant.replace(microsecond=0), self.anchor - SECOND)
        return self._next_by_clock(start) if self._follows_clock else self._next_by_wall(start)

    def last_until(self, instant: datetime) -> datetime | None:
        """Return the last slot that is not after *instant*; None when there is none."""
        end = instant.replace(microsecond=0)
        found = self._last_by_clock(end) if self._follows_clock else self._last_by_wall(end)
        return found if found is not None and found >= self.anchor else None

    @property
    def _follows_clock(self) -> bool:
        return self.spec.split()[1].startswith("*")

    # The first way: along the clocks, from one change of the offset to the next.

    def _next_by_clock(self, instant: datetime) -> datetime | None:
        wall = self._wall(instant)
        while (match := next(walk(self.spec, wall), None)) is not None:
            found = instant + (match - self._wall(instant))
            change = self._first_change(instant, found)
            if change is None:
                return found
            instant = change
            wall = self._wall(change) - SECOND
        return None

    def _last_by_clock(self, instant: datetime) -> datetime | None:
        while (match := self._previous(self._wall(instant))) is not None:
            found = instant + (match - self._wall(instant))
            change = self._last_change(found, instant)
            if change is None:
                return found
            instant = change - SECOND
            if instant < self.anchor:
                return None
        return None

    # The second way: along the wall's times, each to its instant.

    def _next_by_wall(self, instant: datetime) -> datetime | None:
        for match in walk(self.spec, self._wall(instant)):
            found = self._instant(match)
            if found is not None and found > instant:
                return found
        return None

    def _last_by_wall(self, instant: datetime) -> datetime | None:
        # In the second hour of two the clocks have shown later times already.
        turned_back = self._offset(instant - DAY) - self._offset(instant)
        wall = self._wall(instant) + max(turned_back, timedelta(0))
        while (match := self._previous(wall)) is not None:
            found = self._instant(match)
            if found is not None and found <= instant:
                return found
            wall = match - SECOND
        return None

    def _instant(self, wall: datetime) -> datetime | None:
        """Return the first instant at which clocks show *wall* or later; None if its day does not exist."""
        instant = wall.replace(tzinfo=self.zone, fold=0).astimezone(UTC)
        if self._wall(instant) == wall:
            return instant
        # In a gap the two readings of a time lie on both sides of the jump.
        before = wall.replace(tzinfo=self.zone, fold=1).astimezone(UTC)
        jump = self._first_change(min(before, instant) - SECOND, max(before, instant))
        assert jump is not None, (self.zone, wall)
        day, last, first = wall.date(), self._wall(jump - SECOND), self._wall(jump)
        return None if last.date() < day < first.date() else jump

    def _previous(self, wall: datetime) -> datetime | None:
        """Return the last time on the wall that matches and is not after *wall*."""
        return next(walk(self.spec, wall + SECOND, is_reverse=True), None)

    def _wall(self, instant: datetime) -> datetime:
        return instant.astimezone(self.zone).replace(tzinfo=None, fold=0)

    def _offset(self, instant: datetime) -> timedelta:
        offset = instant.astimezone(self.zone).utcoffset()
        assert offset is not None
        return offset

    def _first_change(self, start: datetime, end: datetime) -> datetime | None:
        """Return the first instant in (*start*, *end*] from which on the offset is another one."""
        offset = self._offset(start)
        while start < end:
            stop = min(start + DAY, end)
            if self._offset(stop) != offset:
                return self._bisect(start, stop)
            start = stop
        return None

    def _last_change(self, start: datetime, end: datetime) -> datetime | None:
        """Return the last instant in (*start*, *end*] from which on the offset is another one."""
        offset = self._offset(end)
        while start < end:
            stop = max(end - DAY, start)
            if self._offset(stop) != offset:
                return self._bisect(stop, end)
            end = stop
        return None

    def _bisect(self, low: datetime, high: datetime) -> datetime:
        offset = self._offset(low)
        seconds = int((high - low) / SECOND)
        floor = 0
        while seconds - floor > 1:
            middle = (floor + seconds) // 2
            if self._offset(low + middle * SECOND) == offset:
                floor = middle
            else:
                seconds = middle
        return low + seconds * SECOND


def check_spec(spec: str) -> str:
    """Return a rule with single spaces between its five fields.

    Raises:
        ValueError: it is none, or its time never comes; says what is wrong.
    """
    if len(spec) > SPEC_CHARS_MAX:
        raise ValueError(f"at most {SPEC_CHARS_MAX} characters are allowed")
    fields = spec.split()
    if len(fields) != FIELDS:
        raise ValueError(
            f"{len(fields)} fields are given; needed are {FIELDS}: minute, hour, day of the month, "
            "month, day of the week"
        )
    spec = " ".join(fields)
    try:
        match = next(walk(spec, _ANY), None)
    except CronSimError as error:
        raise ValueError(str(error).replace("Bad", "wrong")) from None
    if match is None:
        raise ValueError("its time never comes")
    return spec


def walk(spec: str, wall: datetime, *, is_reverse: bool = False) -> CronSim:
    """Iterate over the times on the wall that match, after *wall*, or before it in reverse.

    Raises:
        CronSimError: *spec* is no rule.
    """
    walker = copy(_parsed(spec, is_reverse))
    walker.dt = wall
    return walker


@lru_cache(maxsize=4096)
def _parsed(spec: str, is_reverse: bool) -> CronSim:
    return CronSim(spec, _ANY, is_reverse)
