"""I1 and I4: at most one holder who trusts his lease, and none who trusts it for too long."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from tests.simulation.checks.beliefs import Belief, Reading, Trust, Violation
from tests.simulation.history import Event, What

MOMENT = 1e-4
"""What happens within it happens at once: the answers that a process finds when it goes on."""
ROUNDING = 1e-6


class _Window(NamedTuple):
    start: float
    end: float
    confirmed_at: float
    belief: Belief


def check_exclusion(reading: Reading) -> list[Violation]:
    """I1: at any time at most one scope is open and inside its trust.

    As far as clocks keep to the bound and the server to its promises.
    """
    windows = sorted(
        window
        for belief in reading.beliefs
        if belief.node not in reading.outside
        for window in _windows(belief, reading)
    )
    violations = []
    for index, one in enumerate(windows):
        for other in windows[index + 1 :]:
            if other.start >= one.end:
                break
            since = min(one.confirmed_at, other.confirmed_at)
            if other.belief is not one.belief and not reading.is_broken(since, other.start):
                text = f"{one.belief} and {other.belief} are both inside their trust"
                violations.append(Violation("I1", other.start, text))
    return violations


def _windows(belief: Belief, reading: Reading) -> list[_Window]:
    windows = []
    for trust in belief.trusts:
        entry = reading.last_entry(belief.holder, trust.at)
        start = max(trust.at, belief.opened_at)
        end = min(trust.until, belief.closed_at, belief.lost_at)
        if start < end:
            windows.append(_Window(start, end, entry.at if entry else trust.at, belief))
    return windows


def check_expiry(reading: Reading) -> list[Violation]:
    """I4, the client's half: whoever trusts, stops a margin before the server may let go."""
    margin = reading.terms.margin / (1 + reading.terms.drift)
    violations = []
    for belief in reading.beliefs:
        if belief.node in reading.outside:
            continue
        for trust in belief.trusts:
            entry = reading.last_entry(belief.holder, trust.at)
            if entry is None:
                violations.append(Violation("I4", trust.at, f"{belief} trusts what never was"))
                continue
            promised = entry.facts["expires"]
            is_late = trust.until > promised - margin + ROUNDING
            if is_late and not reading.is_broken(entry.at, trust.at):
                text = f"{belief} trusts until {trust.until:.6f}, promised is {promised:.6f}"
                violations.append(Violation("I4", trust.at, text))
    return violations


def check_sticky(reading: Reading) -> list[Violation]:
    """I4: trust that has ended is not extended any more, whatever answer comes later."""
    return [
        Violation("I4", later.at, f"{belief} trusts again, its trust ended at {trust.until:.6f}")
        for belief in reading.beliefs
        for trust, later in pairwise(belief.trusts)
        if later.at > trust.until + MOMENT or later.at > belief.lost_at
    ]


def check_fenced_off(reading: Reading) -> list[Violation]:
    """I1: nobody loses the fence while he is inside his trust, to one who slept or to anybody else.

    As far as clocks keep to the bound and both servers to their promises, also to the one who came in
    between; those who evict mean it.
    """
    failovers = [event.at for event in reading.by_kind[What.FAILOVER]]

    def is_excused(window: _Window, event: Event) -> bool:
        one, other = (reading.first_entry(it) for it in (window.belief.holder, event.holder))
        since = min(window.confirmed_at, other.at) if other else window.confirmed_at
        is_fence_lost = one is not None and any(one.at < at <= event.at for at in failovers)
        return is_fence_lost or reading.is_broken(since, event.at)

    windows = [
        window
        for belief in reading.beliefs
        if belief.node not in reading.outside
        for window in _windows(belief, reading)
    ]
    return [
        Violation("I1", event.at, f"{window.belief} is fenced off by {event.holder}")
        for event in reading.by_kind[What.FENCE]
        for window in windows
        if event.facts["op"] != "evict"
        and event.holder != window.belief.holder
        and window.start < event.at < window.end
        and not is_excused(window, event)
    ]


def check_entries(reading: Reading) -> list[Violation]:
    """I4, the server's half: an entry lives for the TTL from the moment when it was made."""
    return [
        Violation("I4", event.at, f"the entry of {event.holder} is too short")
        for event in reading.by_kind[What.ENTRY]
        if event.facts["expires"] < event.at + event.facts["ttl"] - ROUNDING
    ]


def check_cancelled(reading: Reading) -> list[Violation]:
    """I4: when the trust has ended, the body ends at its first checkpoint, and `check` says so at once."""
    tick = reading.terms.tick * 1.7 + MOMENT  # an own clock may be as slow as in the plan
    violations = []
    for event in reading.all(What.STEP, What.CHECKED):
        belief = reading.belief(event)
        trust = _trust_at(belief, event.at)
        if event.what is What.CHECKED:
            if event.at > trust.until + MOMENT:
                violations.append(Violation("I4", event.at, f"{belief} was let through"))
        elif not event.facts["shielded"]:
            is_late = event.at > trust.monotonic + MOMENT and not reading.has_resumed(
                event.process, event.at, MOMENT
            )
            is_late_after_sleep = event.at > trust.boottime + tick and not reading.has_resumed(
                event.process, event.at, tick
            )
            if is_late or is_late_after_sleep:
                violations.append(Violation("I4", event.at, f"{belief} runs on"))
    return violations


def _trust_at(belief: Belief, at: float) -> Trust:
    return next(trust for trust in reversed(belief.trusts) if trust.at <= at)


def check_told(reading: Reading) -> list[Violation]:
    """I4: a holder that was told of the loss takes no further step."""
    told: dict[tuple[str, str], float] = {}
    violations = []
    for event in reading.all(What.TOLD, What.STEP, What.CHECKED):
        key = event.process, event.holder
        if event.what is What.TOLD:
            if event.facts["answer"] != "renewed":
                told.setdefault(key, event.at)
        elif (
            event.at > told.get(key, event.at) + MOMENT
            and not event.facts.get("shielded")
            and not reading.has_resumed(event.process, event.at, MOMENT)
        ):
            text = f"{reading.belief(event)} runs on after it was told"
            violations.append(Violation("I4", event.at, text))
    return violations
