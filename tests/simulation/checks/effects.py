"""I2, I3 and I7: what was committed, by whom, in which order, and how often."""

from __future__ import annotations

from tests.simulation.checks.beliefs import Reading, Violation
from tests.simulation.history import Event, What


def check_effects(reading: Reading) -> list[Violation]:
    """I2 and I3, commit by commit; a failover takes commits back.

    I2: tokens of effects never decrease, and each token is one holder's, who took the fence with it.
    I3: no effect of a holder once a later one had the fence, even if that was lost in a failover since.
    """
    survivors: list[Event] = []
    last_fence: Event | None = None
    violations = []
    for event in reading.all(What.FENCE, What.EFFECT, What.FAILOVER):
        if event.what is What.FAILOVER:
            survivors = [each for each in survivors if each.facts["lsn"] < event.facts["lsn"]]
            continue
        if event.what is What.FENCE:
            last_fence = event
        else:
            violations += _against(event, survivors)
            if last_fence is None or _claim(last_fence) != _claim(event):
                text = f"effect of {_claim(event)} after the fence went to {last_fence and _claim(last_fence)}"
                violations.append(Violation("I3", event.at, text))
        survivors.append(event)
    return violations


def _against(effect: Event, survivors: list[Event]) -> list[Violation]:
    violations = []
    tokens = [each.facts["token"] for each in survivors if each.what is What.EFFECT]
    if tokens and max(tokens) > effect.facts["token"]:
        text = f"token {effect.facts['token']} after {max(tokens)}"
        violations.append(Violation("I2", effect.at, text))
    owners = {
        each.holder
        for each in survivors
        if each.what is What.FENCE and each.facts["token"] == effect.facts["token"]
    }
    if owners != {effect.holder}:
        text = f"effect of {_claim(effect)}, but that token went to {sorted(owners)}"
        violations.append(Violation("I2", effect.at, text))
    return violations


def _claim(event: Event) -> tuple[str, int]:
    return event.holder, event.facts["token"]


def check_ledger(reading: Reading) -> list[Violation]:
    """I7: each slot up to the next one has exactly one outcome and one task."""
    violations = []
    for event in reading.by_kind[What.LEDGER]:
        slots = set(range(event.facts["next_slot"]))
        if set(event.facts["outcomes"]) != slots:
            missing = slots.symmetric_difference(event.facts["outcomes"])
            violations.append(Violation("I7", event.at, f"slots {sorted(missing)}"))
        wrong = {slot: count for slot, count in event.facts["tasks"].items() if count != 1}
        if wrong or set(event.facts["tasks"]) != set(event.facts["outcomes"]):
            violations.append(Violation("I7", event.at, f"tasks of slots {wrong}"))
    return violations
