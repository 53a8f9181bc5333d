"""What is accepted as a schedule's rule, and what is said about the rest."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sercha.domain.cron import Cron, check_spec
from sercha.domain.schedule import (
    ScheduleKind,
    format_interval,
    is_zone,
    normal_anchor,
    normal_spec,
    parse_interval,
)

NOW = datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")


@pytest.mark.parametrize(
    ("text", "seconds", "normal"),
    [("90", 90, "90s"), ("60s", 60, "1m"), ("60m", 3600, "1h"), ("24h", 86400, "1d"), ("366d", 31622400, "366d")],
)  # fmt: skip
def test_durations_are_read_and_written(text: str, seconds: int, normal: str) -> None:
    assert parse_interval(text) == seconds
    assert format_interval(seconds) == normal
    assert normal_spec(ScheduleKind.INTERVAL, text) == normal


@pytest.mark.parametrize(
    "text", ["", "0", "0s", "-1", "1.5h", "1w", "367d", "1h30m", "²", "9" * 12]
)
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="give a duration"):
        parse_interval(text)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("", "0 fields"),
        ("* * * *", "4 fields"),
        ("0 0 0 * * *", "6 fields"),
        ("60 * * * *", "wrong minute"),
        ("0 24 * * *", "wrong hour"),
        ("0 0 0 * *", "wrong day-of-month"),
        ("0 0 * 13 *", "wrong month"),
        ("0 0 * * 8", "wrong day-of-week"),
        ("0 0 30 2 *", "wrong day-of-month"),
        ("*/0 * * * *", "wrong minute"),
        ("5-1 * * * *", "wrong minute"),
        ("@daily", "1 fields"),
        ("* * */20 * 1L", "never comes"),
        ("* " * 200, "at most 200"),
    ],
)
def test_what_is_wrong_with_a_cron_rule_is_said(spec: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_spec(spec)


def test_a_cron_rule_is_kept_with_single_spaces() -> None:
    assert check_spec("  0\t3 * *   mon ") == "0 3 * * mon"


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123456789*/,-#LW monjan", max_size=40))
def test_any_text_is_a_rule_or_an_error_that_says_so(text: str) -> None:
    with suppress(ValueError):
        spec = check_spec(text)
        rule = Cron(spec, BERLIN, NOW - timedelta(days=10))
        if (slot := rule.next_after(NOW)) is not None:
            assert slot > NOW
            assert rule.last_until(slot) == slot
            assert rule.next_after(slot - timedelta(seconds=1)) == slot


def slots(spec: str, zone: ZoneInfo, start: datetime, count: int) -> list[str]:
    rule, found, at = Cron(spec, zone, start), list[str](), start
    for _ in range(count):
        following = rule.next_after(at)
        assert following is not None
        at = following
        found.append(f"{at:%d %H:%M}")
    return found


def test_a_time_that_is_left_out_is_the_first_instant_after_the_gap() -> None:
    # Clocks of Berlin go from 02:00 to 03:00 on 29 March 2026, at 01:00 UTC.
    start = datetime(2026, 3, 28, tzinfo=UTC)

    assert slots("30 2 * * *", BERLIN, start, 3) == ["28 01:30", "29 01:00", "30 00:30"]
    # Where cron alone would let the day go without.
    assert slots("*/15 2 * * *", BERLIN, start, 6) == [
        "28 01:00", "28 01:15", "28 01:30", "28 01:45", "29 01:00", "30 00:00",
    ]  # fmt: skip


def test_of_a_time_that_comes_twice_the_first_one_counts() -> None:
    # Clocks of New York go from 02:00 back to 01:00 on 1 November 2026, at 06:00 UTC.
    start = datetime(2026, 10, 31, 12, tzinfo=UTC)

    assert slots("30 1 * * *", NEW_YORK, start, 2) == ["01 05:30", "02 06:30"]
    between = datetime(2026, 11, 1, 6, 10, tzinfo=UTC)
    assert slots("30 1 * * *", NEW_YORK, between, 1) == ["02 06:30"]


def test_a_rule_for_every_hour_follows_the_clocks() -> None:
    start = datetime(2026, 11, 1, 4, 40, tzinfo=UTC)

    assert slots("30 * * * *", NEW_YORK, start, 3) == ["01 05:30", "01 06:30", "01 07:30"]
    assert slots("30 */1 * * *", NEW_YORK, start, 3) == ["01 05:30", "01 06:30", "01 07:30"]


def test_a_day_that_does_not_exist_has_no_slot() -> None:
    # Samoa went from the 29th to the 31st of December 2011; its clocks are at UTC-10, then at UTC+14.
    start = datetime(2011, 12, 28, 12, tzinfo=UTC)

    assert slots("0 10 * * *", ZoneInfo("Pacific/Apia"), start, 4) == [
        "28 20:00", "29 20:00", "30 20:00", "31 20:00",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name", ["Mars/Olympus", "", "right/UTC", "posixrules", "../../etc/passwd", "America", "\0"]
)
def test_only_names_of_zones_are_zones(name: str) -> None:
    assert not is_zone(name)
    assert is_zone("Europe/Berlin")


def test_anchors_have_an_offset_and_whole_seconds() -> None:
    berlin = datetime.fromisoformat("2026-01-01T00:00:00.25+01:00")

    assert normal_anchor(berlin) == datetime(2025, 12, 31, 23, tzinfo=UTC)
    for wrong in (datetime(2026, 1, 1), datetime(1969, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)):  # noqa: DTZ001 # fmt: skip
        with pytest.raises(ValueError, match="with its offset"):
            normal_anchor(wrong)
