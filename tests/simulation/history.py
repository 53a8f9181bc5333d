"""What happened, in order, with the true time: the only thing that the checks look at.

A lease is told apart by its process and a number, not by its holder id: some mutants give one id to many.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Any, NamedTuple


class What(StrEnum):
    """Kinds of events; the facts that go with each are in brackets."""

    # of the run
    BEGIN = "begin"
    """[ttl, drift, margin, tick, outside: nodes whose rate is out of bounds]"""
    FAULT = "fault"
    """A fault that hit. [kind, holder where one request was concerned]"""
    QUIET = "quiet"
    """No more faults. [bound: seconds until there must be a leader, work: seconds for what was undone then]"""
    SERVED = "served"
    """All slots are done that were due when it became quiet."""
    END = "end"
    """All processes had been told to stop. [left: what should not be there any more]"""
    CRASH = "crash"
    """An error left `hold` or `lead` that must not. [error]"""
    # of processes and machines
    STARTED = "started"
    KILLED = "killed"
    STOPPED = "stopped"
    """[why, seconds]"""
    RESUMED = "resumed"
    # of the server of leases
    ENTRY = "entry"
    """The entry was set. [op, was: holder before, expires: true time, ttl: true seconds]"""
    REMOVED = "removed"
    """The entry was taken away. [op, was]"""
    BREACH = "breach"
    """The server may have broken its promise to all holders of the moment. [why]"""
    # of the database; lsn counts commits
    FENCE = "fence"
    """The fence moved. [token, lsn]"""
    EFFECT = "effect"
    """A fenced transaction was committed. [token, slots, lsn]"""
    FAILOVER = "failover"
    """The commits from lsn on are gone. [lsn]"""
    LEDGER = "ledger"
    """At the end. [next_slot, outcomes: slot to number, tasks: slot to number]"""
    # of a lease, as its process sees it
    GRANTED = "granted"
    TRUST = "trust"
    """[monotonic, boottime: true times until which it is trusted, unless the machine sleeps]"""
    MOVE = "move"
    """[old, new, loss]"""
    TOLD = "told"
    """An answer to a renewal was delivered. [answer]"""
    SENT = "sent"
    """[op]"""
    OPENED = "opened"
    """The body began."""
    STEP = "step"
    """The body came out of a wait. [shielded: it was no checkpoint]"""
    CHECKED = "checked"
    """The body asked `check` and was let through."""
    CLOSED = "closed"
    """The body ended."""
    LEFT = "left"
    """`hold` or `lead` was left. [error: its type, or nothing]"""
    NOTED = "noted"
    """lockd told its observer. [kind]"""


class Event(NamedTuple):
    """One event."""

    at: float
    what: What
    process: str
    """Process, node or server."""
    holder: str
    lease: int
    """Number of the lease within the process; 0: none in particular."""
    facts: dict[str, Any]

    def __str__(self) -> str:
        lease = f"#{self.lease}" if self.lease else ""
        facts = " ".join(f"{name}={value}" for name, value in self.facts.items())
        return (
            f"{self.at:12.6f} {self.process + lease:9} {self.what.value:9} {self.holder:6} {facts}"
        )


class History(list[Event]):
    """All events of one run."""

    def digest(self) -> str:
        """Return what two runs of one seed have in common."""
        text = "\n".join(repr(tuple(each)) for each in self)
        return hashlib.sha256(text.encode()).hexdigest()

    def one(self, what: What) -> Event | None:
        """Return the first event of this kind."""
        return next((each for each in self if each.what is what), None)

    def all(self, *kinds: What) -> list[Event]:
        """Return the events of these kinds."""
        return [each for each in self if each.what in kinds]
