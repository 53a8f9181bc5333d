"""The invariants as pure functions of a history: what they return are the violations."""

from __future__ import annotations

from tests.simulation.checks.beliefs import Reading, Violation
from tests.simulation.checks.effects import check_effects, check_ledger
from tests.simulation.checks.endings import (
    check_errors,
    check_foreign,
    check_joined,
    check_leftover,
    check_liveness,
    check_released,
)
from tests.simulation.checks.trust import (
    check_cancelled,
    check_entries,
    check_exclusion,
    check_expiry,
    check_fenced_off,
    check_sticky,
    check_told,
)
from tests.simulation.history import History

CHECKS = (
    check_exclusion,
    check_fenced_off,
    check_expiry,
    check_sticky,
    check_entries,
    check_cancelled,
    check_told,
    check_effects,
    check_ledger,
    check_joined,
    check_foreign,
    check_liveness,
    check_leftover,
    check_released,
    check_errors,
)


def violations_of(history: History) -> list[Violation]:
    """Return all violations of all invariants."""
    reading = Reading(history)
    return [violation for check in CHECKS for violation in check(reading)]


__all__ = ["CHECKS", "Violation", "violations_of"]
