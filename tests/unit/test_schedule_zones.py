"""Cron rules over all zones and all jumps of their clocks, against clocks that are read minute by minute."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import pairwise
from random import Random
from zoneinfo import ZoneInfo, available_timezones

import pytest

from sercha.domain.cron import Cron

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
FIRST, LAST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2035, 12, 31, tzinfo=UTC)
YEARS = range(FIRST.year, LAST.year + 1)
SAMPLE = 25

Reading = tuple[datetime, datetime]
"""An instant, and what clocks show at it."""


@cache
def jumps_of(name: str) -> list[datetime]:
    """Find the instants at which a zone's offset changes."""
    zone, found = ZoneInfo(name), list[datetime]()

    def offset(at: datetime) -> timedelta | None:
        return at.astimezone(zone).utcoffset()

    at = FIRST
    while at < LAST:
        if offset(at) != offset(at + DAY):
            low, high = at, at + DAY
            while high - low > MINUTE:
                middle = low + (high - low) // 2
                low, high = (middle, high) if offset(middle) == offset(low) else (low, middle)
            found.append(high.replace(second=0, microsecond=0))
        at += DAY
    return found


def readings(zone: ZoneInfo, start: datetime, end: datetime) -> list[Reading]:
    count = int((end - start) / MINUTE)
    instants = (start + number * MINUTE for number in range(count))
    return [(at, at.astimezone(zone).replace(tzinfo=None, fold=0)) for at in instants]


def every(rule: Cron, start: datetime, end: datetime) -> list[datetime]:
    found: list[datetime] = []
    at = rule.next_after(start)
    while at is not None and at < end:
        found.append(at)
        at = rule.next_after(at)
    return found


def backwards(rule: Cron, start: datetime, end: datetime) -> list[datetime]:
    found: list[datetime] = []
    at = rule.last_until(end - MINUTE)
    while at is not None and at > start:
        found.append(at)
        at = rule.last_until(at - timedelta(seconds=1))
    return found[::-1]


def daily(clock: list[Reading], at: time) -> dict[date, datetime]:
    """Give for each day that clocks show the first instant at which they show *at* or a later time."""
    days = {wall.date() for _, wall in clock}
    shown = max(wall for _, wall in clock)
    return {
        day: next(instant for instant, wall in clock if wall >= datetime.combine(day, at))
        for day in days
        if datetime.combine(day, at) <= shown
    }


def followed(clock: list[Reading], matches: Callable[[datetime], bool]) -> list[datetime]:
    return [instant for instant, wall in clock if matches(wall)]


def check_jump(name: str, jump: datetime, random: Random) -> None:
    zone = ZoneInfo(name)
    start, end = jump - 2 * DAY, jump + 2 * DAY
    clock = readings(zone, start, end)
    near = (jump - random.randrange(-3, 240) * MINUTE).astimezone(zone)
    times = [time(near.hour, near.minute), time(random.randrange(24), random.randrange(60))]
    for at in (*times, time(0, 0), time(2, 30)):
        rule = Cron(f"{at.minute} {at.hour} * * *", zone, FIRST)
        of_day = daily(clock, at)
        wanted = sorted({slot for slot in of_day.values() if start + DAY < slot})
        assert every(rule, start + DAY, end) == wanted, (name, jump, at)
        assert backwards(rule, start + DAY, end) == wanted, (name, jump, at)
        assert all(after > before for before, after in pairwise(wanted))
    minute = times[0].minute
    wild: tuple[tuple[str, Callable[[datetime], bool]], ...] = (
        (f"{minute} * * * *", lambda wall: wall.minute == minute),
        (f"{minute} */2 * * *", lambda wall: wall.minute == minute and wall.hour % 2 == 0),
        ("*/20 * * * *", lambda wall: wall.minute % 20 == 0),
    )
    for spec, matches in wild:
        rule = Cron(spec, zone, FIRST)
        wanted = [slot for slot in followed(clock, matches) if slot > start]
        assert every(rule, start, end) == wanted, (name, jump, spec)
        assert backwards(rule, start, end) == wanted, (name, jump, spec)


@cache
def different_jumps() -> dict[int, list[tuple[str, datetime]]]:
    """Find all jumps of all zones by year; zones that jump alike at one instant count once."""
    found: dict[int, list[tuple[str, datetime]]] = {year: [] for year in YEARS}
    seen: set[tuple[datetime, str, str]] = set()
    for name in sorted(available_timezones()):
        zone = ZoneInfo(name)
        for jump in jumps_of(name):
            before, after = (f"{at.astimezone(zone):%z}" for at in (jump - MINUTE, jump))
            if (jump, before, after) not in seen:
                seen.add((jump, before, after))
                found[jump.year].append((name, jump))
    return found


def test_slots_are_those_of_the_wall_around_some_jumps_of_clocks(seed: int) -> None:
    random = Random(seed)
    names = sorted(available_timezones())
    done = 0
    while done < SAMPLE:
        name = random.choice(names)
        if jumps := jumps_of(name):
            check_jump(name, random.choice(jumps), random)
            done += 1


@pytest.mark.proof
@pytest.mark.parametrize("year", YEARS)
def test_slots_are_those_of_the_wall_around_all_jumps_of_clocks(seed: int, year: int) -> None:
    random = Random(seed)
    jumps = different_jumps()[year]
    for name, jump in jumps:
        check_jump(name, jump, random)
    print(f"{len(jumps)} jumps of clocks")
    assert len(jumps) > 10


def test_each_day_has_one_slot_over_many_years(seed: int) -> None:
    """By its day on the wall: a gap over midnight moves a slot into the first minute of the next day."""
    random = Random(seed)
    for name in random.sample(sorted(available_timezones()), 5):
        zone = ZoneInfo(name)
        start = datetime(random.randrange(2000, 2034), 1, 1, tzinfo=UTC)
        at = time(random.randrange(24), random.randrange(60))
        slots = every(Cron(f"{at.minute} {at.hour} * * *", zone, FIRST), start, start + 365 * DAY)

        assert 363 <= len(slots) <= 366, name
        steps = {after - before for before, after in pairwise(slots)}
        assert min(steps) > 20 * timedelta(hours=1), (name, steps)
        assert max(steps) < 28 * timedelta(hours=1) or name in DATE_LINE, (name, steps)


DATE_LINE = {
    "Pacific/Apia", "Pacific/Fakaofo", "Pacific/Kwajalein", "Kwajalein", "Pacific/Enderbury",
    "Pacific/Kanton", "Pacific/Kiritimati",
}  # fmt: skip
"""Zones that have lost a day."""
