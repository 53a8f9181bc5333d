"""The arithmetic of trust, for all terms and clocks within the bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockd._clock import Instant
from lockd._terms import Terms, has_passed, later

ttls = st.floats(1, 86_400)
drifts = st.floats(0, 0.1)
spreads = st.floats(0, 1, exclude_max=True)
times = st.floats(-1e6, 1e6)


def test_a_minute_gives_fifty_four_seconds_of_trust() -> None:
    terms = Terms(60)

    assert terms.trusted_until(Instant(100.0, 7.0)) == Instant(100 + 54.4, 7 + 54.4)
    assert (terms.margin, terms.attempt_timeout, terms.tick) == (5, 5, 1)
    assert terms.overrun_at(terms.trusted_until(Instant(100, 7))) == Instant(159.4, 66.4)


@given(ttls, drifts, times, st.floats(0, 1), st.floats(0, 10))
def test_trust_ends_a_margin_before_the_server_can_have_expired_it(
    ttl: float, drift: float, sent: float, speed: float, delay: float
) -> None:
    """The server carries the request out *delay* later, by a clock that runs up to *drift* faster."""
    terms = Terms(ttl, drift)
    rate = 1 + speed * (1 / (1 - drift) - 1)
    expires = sent + delay + ttl / rate

    assert terms.trusted_until(Instant(sent, sent)).monotonic <= expires - terms.margin + 1e-6


@given(ttls, drifts, times, spreads)
def test_a_renewal_is_tried_at_a_third_and_leaves_time_for_others(
    ttl: float, drift: float, now: float, spread: float
) -> None:
    terms, sent = Terms(ttl, drift), Instant(now, now)
    wait = terms.renew_at(sent, spread) - now
    until = terms.trusted_until(sent).monotonic - now

    assert 0.3 * ttl - 1e-6 <= wait <= 0.3667 * ttl + 1e-6
    # Even if each of three attempts takes as long as it may:
    assert wait + 3 * terms.attempt_timeout < until


@given(ttls, st.integers(1, 1000), spreads)
def test_pauses_between_retries_grow_to_a_bound(ttl: float, failures: int, spread: float) -> None:
    terms = Terms(ttl)
    pause = terms.retry_delay(failures, spread)

    assert 0 < pause <= min(2.0, ttl / 30 + 0.2)
    assert pause <= terms.retry_delay(failures + 1, spread)


@pytest.mark.parametrize(
    ("ttl", "drift"), [(0.9, 0), (0, 0), (-1, 0), (float("inf"), 0), (60, -0.1), (60, 0.2)]
)
def test_terms_that_cannot_be_kept_are_refused(ttl: float, drift: float) -> None:
    with pytest.raises(ValueError, match=r"ttl|drift"):
        Terms(ttl, drift)


def test_one_clock_suffices_for_a_deadline_to_pass() -> None:
    deadline = Instant(10, 20)

    assert not has_passed(deadline, Instant(9.9, 19.9))
    assert has_passed(deadline, Instant(10, 0))
    assert has_passed(deadline, Instant(0, 20))
    assert later(Instant(1, 9), Instant(2, 8)) == Instant(2, 9)
