"""I5, I6, I12 and I13: how leases end, what is left, and that somebody leads again."""

from __future__ import annotations

import math

from lockd._keeper import RELEASE_SECONDS
from tests.simulation.checks.beliefs import Belief, Reading, Violation
from tests.simulation.history import What
from tests.simulation.plan import Fault

_EVERYBODYS = {
    Fault.DOWN.value,
    Fault.RESTART.value,
    Fault.STALE.value,
    Fault.FLUSH.value,
    Fault.EVICTED.value,
    Fault.CLOCK_AHEAD.value,
    Fault.CLOCK_BACK.value,
    Fault.COMMIT_UNKNOWN.value,
    Fault.COMMITS_LOST.value,
}
"""Faults that may keep any holder from releasing."""
_OF_BODIES = (What.OPENED, What.STEP, What.CHECKED, What.CLOSED)
_LATE = 0.1


def check_joined(reading: Reading) -> list[Violation]:
    """I5: nothing of the body runs after its release was sent."""
    newest: dict[tuple[str, str], int] = {}
    released: set[tuple[str, int]] = set()
    violations = []
    for event in reading.all(What.GRANTED, What.SENT, *_OF_BODIES):
        if event.what is What.GRANTED:
            newest[event.process, event.holder] = event.lease
        elif event.what is What.SENT:
            number = newest.get((event.process, event.holder))
            if event.facts["op"] == "release" and number is not None:
                released.add((event.process, number))
        elif (event.process, event.lease) in released:
            text = f"{event.process}#{event.lease} runs on after its release: {event.what}"
            violations.append(Violation("I5", event.at, text))
    return violations


def check_foreign(reading: Reading) -> list[Violation]:
    """I6: a release never removes another's lease, nor does a renewal extend it."""
    return [
        Violation("I6", event.at, f"{event.facts['op']} of {event.holder}'s by {event.facts['by']}")
        for event in reading.all(What.ENTRY, What.REMOVED)
        if event.facts["op"] in ("renew", "release") and event.facts["by"] != event.holder
    ]


def check_liveness(reading: Reading) -> list[Violation]:
    """I12: after the faults somebody leads within the bound, and does what was due before long."""
    quiet = reading.one(What.QUIET)
    latest, work = quiet.at + quiet.facts["bound"], quiet.facts["work"]
    signs = reading.by_kind[What.CHECKED] + reading.by_kind[What.EFFECT]
    if not any(quiet.at < event.at <= latest for event in signs):
        return [Violation("I12", quiet.at, f"no leader within {quiet.facts['bound']:.1f} s")]
    if not any(event.at <= latest + work for event in reading.by_kind[What.SERVED]):
        return [Violation("I12", latest, f"slots are not done within another {work:.1f} s")]
    return []


def check_leftover(reading: Reading) -> list[Violation]:
    """I13: at the end there is no lease, no open session, no process that hangs."""
    return [
        Violation("I13", event.at, f"left over: {each}")
        for event in reading.by_kind[What.END]
        for each in event.facts["left"]
    ]


def check_released(reading: Reading) -> list[Violation]:
    """I13: whoever ends undisturbed has freed the lease by then, also when he was cancelled."""
    violations = []
    for belief in reading.beliefs:
        ended_at = belief.closed_at if belief.opened_at < math.inf else belief.left_at
        if ended_at == math.inf:
            continue
        deadline = ended_at + RELEASE_SECONDS + _LATE
        if _is_disturbed(reading, belief, deadline):
            continue
        entry = reading.last_entry(belief.holder, deadline)
        removed = [each for each in reading.by_kind[What.REMOVED] if each.holder == belief.holder]
        if entry is not None and entry.facts["expires"] > deadline and not removed:
            text = f"{belief} has ended, its lease is there until {entry.facts['expires']:.6f}"
            violations.append(Violation("I13", ended_at, text))
    return violations


def _is_disturbed(reading: Reading, belief: Belief, until: float) -> bool:
    """Say whether a fault may have kept the release from being carried out, before *until*."""
    if until > reading.history[-1].at:
        return True
    entry = reading.first_entry(belief.holder)
    since = min(entry.at, belief.granted_at) if entry else belief.granted_at
    for event in reading.all(What.FAULT, What.STOPPED, What.KILLED, What.FAILOVER):
        if event.at > until:
            return False
        is_late = event.at >= since
        if event.what is What.FAILOVER and is_late:
            return True
        if event.what is What.FAULT:
            if event.holder == belief.holder or (event.facts["kind"] in _EVERYBODYS and is_late):
                return True
        elif event.process == belief.process and is_late:
            return True
    return False


def check_errors(reading: Reading) -> list[Violation]:
    """No other error than the promised ones leaves `hold` or `lead`, and a loss never goes unsaid."""
    violations = [
        Violation("errors", event.at, f"{event.process}: {event.facts['error']}")
        for event in reading.by_kind[What.CRASH]
    ]
    for event in reading.by_kind[What.LEFT]:
        own = [belief for belief in reading.beliefs if belief.process == event.process]
        held = [belief for belief in own if belief.granted_at <= event.at]
        if not event.facts["error"] and held and held[-1].lost_at <= event.at:
            text = f"{held[-1]} was lost, and nobody told the caller"
            violations.append(Violation("errors", event.at, text))
    return violations
