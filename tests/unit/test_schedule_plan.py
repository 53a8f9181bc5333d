"""What becomes of slots that are due: every one has exactly one outcome, whatever the policy."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random
from uuid import uuid4

import pytest

from sercha.domain.schedule import (
    RUNS_MAX,
    CatchUp,
    Interval,
    Plan,
    Schedule,
    ScheduleKind,
    SlotOutcome,
    plan,
    plan_paused,
    rule_of,
)

ANCHOR = datetime(2026, 1, 1, tzinfo=UTC)
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)


def schedule(**changes: object) -> Schedule:
    values: dict[str, object] = {
        "id": uuid4(),
        "name": "a",
        "kind": ScheduleKind.INTERVAL,
        "spec": "1h",
        "tz": "UTC",
        "anchor": ANCHOR,
        "task_kind": "sync_all",
        "payload": {},
        "next_slot": ANCHOR,
        "created_at": ANCHOR,
        "updated_at": ANCHOR,
    }
    return Schedule(**{**values, **changes})  # type: ignore[arg-type]


def plan_of(given: Schedule, now: datetime) -> Plan:
    return plan(given, rule_of(given), now)


def shown(made: Plan) -> list[tuple[float, float, str]]:
    return [
        ((each.slot - ANCHOR) / HOUR, (each.last - ANCHOR) / HOUR, str(each.outcome))
        for each in made.slots
    ]


def test_nothing_is_planned_before_the_first_slot() -> None:
    assert plan_of(schedule(), ANCHOR - SECOND) == Plan((), ANCHOR)
    assert plan_of(schedule(next_slot=None), ANCHOR) == Plan((), None)


def test_a_slot_is_due_at_its_instant_and_the_next_one_is_on_the_grid() -> None:
    made = plan_of(schedule(), ANCHOR)
    late = plan_of(schedule(), ANCHOR + HOUR - SECOND)

    assert shown(made) == shown(late) == [(0, 0, "enqueued")]
    assert made.next_slot == late.next_slot == ANCHOR + HOUR


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [(0, 25, "coalesced"), (26, 26, "enqueued")]),
        (
            {"catch_up": CatchUp.ALL, "runs_max": 2},
            [(0, 24, "skipped"), (25, 25, "enqueued"), (26, 26, "enqueued")],
        ),
        (
            {"catch_up": CatchUp.SKIP, "max_late": 3600},
            [(0, 25, "skipped"), (26, 26, "enqueued")],
        ),
        ({"catch_up": CatchUp.SKIP, "max_late": 60}, [(0, 26, "skipped")]),
    ],
)
def test_26_hours_away_by_policy(changes: dict[str, object], expected: object) -> None:
    made = plan_of(schedule(**changes), ANCHOR + 26.5 * HOUR)

    assert shown(made) == expected
    assert made.next_slot == ANCHOR + 27 * HOUR


def test_a_slot_that_is_exactly_as_late_as_allowed_still_runs() -> None:
    made = plan_of(schedule(catch_up=CatchUp.SKIP, max_late=3600), ANCHOR + HOUR)

    assert shown(made) == [(0, 0, "enqueued"), (1, 1, "enqueued")]


def test_more_than_one_step_can_run_is_left_due_for_another_one() -> None:
    given = schedule(spec="1s", catch_up=CatchUp.SKIP, max_late=600)
    now, runs = ANCHOR + timedelta(seconds=350), 0
    for _ in range(4):
        made = plan_of(given, now)
        runs += len(made.slots)
        assert len(made.slots) <= RUNS_MAX
        given = replace(given, next_slot=made.next_slot)

    assert runs == 351
    assert given.next_slot == now + SECOND


def test_paused_slots_are_one_stretch() -> None:
    given = schedule()
    made = plan_paused(given, rule_of(given), ANCHOR + 26.5 * HOUR)

    assert shown(made) == [(0, 26, "paused")]
    assert made.next_slot == ANCHOR + 27 * HOUR


def test_a_slot_that_the_rule_does_not_know_any_more_still_gets_its_outcome() -> None:
    """The zone's data may have been renewed since it was computed."""
    odd = ANCHOR + timedelta(minutes=7)
    made = plan_of(schedule(next_slot=odd), ANCHOR + timedelta(minutes=30))
    later = plan_of(schedule(next_slot=odd), ANCHOR + 3.5 * HOUR)

    assert [each.slot for each in made.slots] == [odd]
    assert made.next_slot == ANCHOR + HOUR
    assert shown(later) == [(7 / 60, 2, "coalesced"), (3, 3, "enqueued")]


SPECS = (
    (ScheduleKind.INTERVAL, "1s", "UTC"),
    (ScheduleKind.INTERVAL, "7m", "UTC"),
    (ScheduleKind.CRON, "*/7 * * * *", "Europe/Berlin"),
    (ScheduleKind.CRON, "30 2 * * *", "Europe/Berlin"),
    (ScheduleKind.CRON, "*/10 1,2 * * *", "America/New_York"),
)


def test_every_slot_has_one_outcome_whatever_the_steps_and_the_policy(seed: int) -> None:
    random = Random(seed)
    for _ in range(60):
        kind, spec, tz = random.choice(SPECS)
        given = schedule(
            kind=kind, spec=spec, tz=tz, catch_up=random.choice(list(CatchUp)),
            runs_max=random.randint(1, 20), max_late=random.randint(0, 5_000),
            anchor=datetime(2026, random.randint(3, 11), random.randint(25, 30), tzinfo=UTC),
        )  # fmt: skip
        rule = rule_of(given)
        first = rule.next_after(given.anchor)
        given = replace(given, next_slot=first)
        now, covered = given.anchor, list[tuple[datetime, datetime]]()
        for _ in range(random.randint(1, 12)):
            now += timedelta(seconds=random.choice([1, 60, 3_600, 40_000]) * random.random())
            plan_one = plan_paused if random.random() < 0.1 else plan
            made = plan_one(given, rule, now)
            covered += [(each.slot, each.last) for each in made.slots]
            given = replace(given, next_slot=made.next_slot)
            if given.catch_up is not CatchUp.SKIP:
                assert given.next_slot is None or given.next_slot > now
        for (_, last), (slot, _) in pairwise(covered):
            assert rule.next_after(last) == slot, (given, "none left out, none twice")
        if covered:
            assert covered[0][0] == first
            assert rule.next_after(covered[-1][1]) == given.next_slot


def test_intervals_do_not_drift_over_ten_years() -> None:
    rule = Interval(7 * 60, ANCHOR)
    slot, count = ANCHOR, 0
    while count < 1_000:
        following = rule.next_after(slot + timedelta(seconds=3.7))
        assert following is not None
        slot, count = following, count + 1

    assert slot == ANCHOR + count * timedelta(minutes=7)
    far = ANCHOR + timedelta(days=3_650, seconds=1)
    assert rule.last_until(far) is not None
    assert (rule.last_until(far) - ANCHOR) % timedelta(minutes=7) == timedelta(0)  # type: ignore[operator]


def test_there_is_no_slot_before_the_anchor() -> None:
    for given in (schedule(), schedule(kind=ScheduleKind.CRON, spec="0 * * * *")):
        rule = rule_of(given)
        assert rule.next_after(ANCHOR - 100 * HOUR) == ANCHOR
        assert rule.last_until(ANCHOR - SECOND) is None
        assert rule.last_until(ANCHOR) == ANCHOR


def test_outcomes_have_the_words_of_the_table() -> None:
    assert {str(outcome) for outcome in SlotOutcome} == {
        "enqueued", "coalesced", "skipped", "paused", "manual",
    }  # fmt: skip
