"""A history read once for all checks: who believed what until when, and what the server had promised."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from lockd._terms import Terms
from tests.simulation.history import Event, History, What


class Violation(NamedTuple):
    """One invariant broken at one moment."""

    invariant: str
    at: float
    text: str

    def __str__(self) -> str:
        return f"{self.invariant} at {self.at:.6f}: {self.text}"


@dataclass(slots=True)
class Trust:
    """One deadline, on both clocks, as true times."""

    at: float
    monotonic: float
    boottime: float

    @property
    def until(self) -> float:
        """When it ends: by whichever clock is first."""
        return min(self.monotonic, self.boottime)


@dataclass(slots=True)
class Belief:
    """One lease of one process."""

    process: str
    number: int
    holder: str
    granted_at: float
    opened_at: float = math.inf
    closed_at: float = math.inf
    """When the body ended, or the process."""
    lost_at: float = math.inf
    left_at: float = math.inf
    """When it was on its way out of the states in which it is held."""
    trusts: list[Trust] = field(default_factory=list)

    @property
    def node(self) -> str:
        """The machine."""
        return self.process.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.process}#{self.number} ({self.holder})"


_OF_BELIEFS = frozenset(
    {What.GRANTED, What.TRUST, What.OPENED, What.CLOSED, What.MOVE, What.KILLED, What.STOPPED}
)


class Reading:
    """What the checks ask of a history."""

    def __init__(self, history: History) -> None:
        self.by_kind: dict[What, list[Event]] = {kind: [] for kind in What}
        for event in history:
            self.by_kind[event.what].append(event)
        self.history = history
        self._of_kinds: dict[frozenset[What], list[Event]] = {}
        self.outside: tuple[str, ...] = self.one(What.BEGIN).facts["outside"]
        self.terms = Terms(self.one(What.BEGIN).facts["ttl"], self.one(What.BEGIN).facts["drift"])
        self._beliefs: dict[tuple[str, int], Belief] = {}
        for event in history:
            if event.what in _OF_BELIEFS:
                self._take(event)
        self._entries: dict[str, list[Event]] = {}
        for event in self.by_kind[What.ENTRY]:
            self._entries.setdefault(event.holder, []).append(event)
        self._breaches = [event.at for event in self.by_kind[What.BREACH]] + [
            event.at for event in self.by_kind[What.REMOVED] if event.facts["op"] == "evict"
        ]

    def one(self, kind: What) -> Event:
        """Return the only event of this kind."""
        (event,) = self.by_kind[kind]
        return event

    def all(self, *kinds: What) -> list[Event]:
        """Return the events of these kinds, in order."""
        wanted = frozenset(kinds)
        if wanted not in self._of_kinds:
            self._of_kinds[wanted] = [each for each in self.history if each.what in wanted]
        return self._of_kinds[wanted]

    @property
    def beliefs(self) -> list[Belief]:
        """All leases of all processes."""
        return list(self._beliefs.values())

    def belief(self, event: Event) -> Belief:
        """Return the lease that an event is about."""
        return self._beliefs[event.process, event.lease]

    def last_entry(self, holder: str, at: float) -> Event | None:
        """Return the entry of *holder* that lasts longest, of those that the server made until *at*."""
        before = [event for event in self._entries.get(holder, ()) if event.at <= at]
        return max(before, key=lambda event: event.facts["expires"], default=None)

    def first_entry(self, holder: str) -> Event | None:
        """Return the first entry of *holder*."""
        return next(iter(self._entries.get(holder, ())), None)

    def is_broken(self, since: float, until: float) -> bool:
        """Say whether promises that the server made at the one moment may be broken at the other."""
        return any(since < breach <= until for breach in self._breaches)

    def has_resumed(self, process: str, at: float, within: float) -> bool:
        """Say whether *process* has gone on, after a stop, at most *within* before *at*."""
        return any(
            event.process == process and 0 <= at - event.at <= within
            for event in self.by_kind[What.RESUMED]
        )

    def _take(self, event: Event) -> None:
        key = event.process, event.lease
        match event.what:
            case What.GRANTED:
                self._beliefs[key] = Belief(event.process, event.lease, event.holder, event.at)
            case What.TRUST:
                trust = Trust(event.at, event.facts["monotonic"], event.facts["boottime"])
                self._beliefs[key].trusts.append(trust)
            case What.OPENED:
                self._beliefs[key].opened_at = event.at
            case What.CLOSED:
                self._beliefs[key].closed_at = event.at
            case What.MOVE:
                self._move(self._beliefs[key], event)
            case What.KILLED:
                for belief in self._of(event.process):
                    belief.closed_at = min(belief.closed_at, event.at)
            case What.STOPPED if event.facts["why"] == "suspended":
                for belief in self._of(event.process):
                    for trust in belief.trusts:
                        if trust.monotonic > event.at:
                            trust.monotonic += event.facts["seconds"]

    def _of(self, process: str) -> Iterator[Belief]:
        return (belief for belief in self._beliefs.values() if belief.process == process)

    def _move(self, belief: Belief, event: Event) -> None:
        if event.facts["new"] in ("lost", "releasing"):
            belief.left_at = min(belief.left_at, event.at)
        if event.facts["new"] == "lost":
            belief.lost_at = event.at
