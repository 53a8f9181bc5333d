"""What a seed stands for: machines, servers, network and faults of one run, all drawn beforehand.

Each run has some of the faults only (a swarm): what happens all the time hides what happens after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Fault(StrEnum):
    """Kinds of faults that are counted when they hit."""

    # of single messages
    REQUEST_LOST = "request lost"
    REPLY_LOST = "reply lost"
    REQUEST_LATE = "request late"
    REPLY_LATE = "reply late"
    DUPLICATED = "request duplicated"
    # of a link, one way each, for a while
    CUT_OUT = "link cut towards the server"
    CUT_IN = "link cut towards the node"
    # of the server of leases
    DOWN = "lease server down"
    RESTART = "lease server restarted without data"
    STALE = "lease server failed over to a stale replica"
    FLUSH = "leases flushed"
    CLOCK_AHEAD = "lease server's clock set forward"
    CLOCK_BACK = "lease server's clock set back"
    EVICTED = "lease evicted by hand"
    # of the database
    COMMIT_UNKNOWN = "database killed in commit"
    COMMITS_LOST = "failover that lost commits"
    IDLE_LIMIT = "idle transaction ended by the server"
    LOCK_WAIT = "statement waited for a lock"
    STATEMENT_LIMIT = "statement ran into its limit"
    # of machines and processes
    PAUSE = "process stopped"
    PAUSE_AT_STEP = "process stopped between two instructions"
    PAUSE_IN_TRANSACTION = "process stopped inside a transaction"
    SUSPEND = "machine suspended"
    COMPUTE = "event loop blocked"
    KILL = "process killed"
    CANCEL = "cancelled from outside"
    CANCEL_AT_STEP = "cancelled from outside at a chosen step"
    OVERRUN = "body overran"
    WALL_JUMP = "wall clock set"
    RATE_OUTSIDE = "clock rate out of bounds"


MESSAGE_FAULTS = (
    Fault.REQUEST_LOST,
    Fault.REPLY_LOST,
    Fault.REQUEST_LATE,
    Fault.REPLY_LATE,
    Fault.DUPLICATED,
)
# Drawn in proportion to these weights, so that each kind hits about equally often.
_WEIGHTS = {
    Fault.CUT_OUT: 2.0,
    Fault.CUT_IN: 2.0,
    Fault.CLOCK_AHEAD: 1.5,
    Fault.CLOCK_BACK: 1.5,
    Fault.EVICTED: 1.5,
    Fault.COMMIT_UNKNOWN: 1.5,
    Fault.COMMITS_LOST: 2.0,
    Fault.PAUSE: 2.0,
    Fault.PAUSE_AT_STEP: 2.5,
    Fault.PAUSE_IN_TRANSACTION: 5.0,
    Fault.SUSPEND: 1.5,
    Fault.COMPUTE: 2.0,
    Fault.KILL: 1.5,
    Fault.CANCEL: 1.5,
    Fault.CANCEL_AT_STEP: 2.5,
    Fault.WALL_JUMP: 1.5,
}
_SPLIT_WEIGHTS = {Fault.DOWN: 4.0, Fault.RESTART: 4.0, Fault.STALE: 5.0, Fault.FLUSH: 4.0}


@dataclass(frozen=True, slots=True)
class Act:
    """One fault that is to be."""

    at: float
    fault: Fault
    node: int
    seconds: float
    luck: float
    """In [0, 1): what else is to be chosen."""


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One machine."""

    offset: float
    rate: float
    is_outside: bool
    host: str
    exits_on_overrun: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """One run."""

    seed: int
    store: str
    """``split``: leases in the lease server, fence in the database; ``row``: both in the database."""
    ttl: float
    drift: float
    nodes: tuple[NodePlan, ...]
    lease_rate: float
    database_rate: float
    latency: float
    odds: dict[Fault, float]
    acts: tuple[Act, ...]
    quiet_at: float
    slot_seconds: float


def make_plan(seed: int) -> Plan:
    """Draw the run of *seed*."""
    random = Random(f"plan {seed}")
    store = "split" if random.random() < 0.5 else "row"
    ttls = (1.5, 2.0, 3.0, 4.0) if store == "split" else (1.2, 1.5, 2.0, 3.0)
    ttl = random.choice(ttls) * random.uniform(0.9, 1.1)
    drift = random.choice((0.01, 0.01, 0.03, 0.1))
    quiet_at = max(24.0, 9 * ttl) * random.uniform(0.9, 1.3)
    nodes = tuple(_node(random, drift, number) for number in range(random.choice((2, 3, 3, 4))))
    return Plan(
        seed=seed,
        store=store,
        ttl=ttl,
        drift=drift,
        nodes=nodes,
        lease_rate=_rate(random, drift),
        database_rate=_rate(random, drift),
        latency=ttl * random.choice((0.0005, 0.002, 0.006)),
        odds=_odds(random),
        acts=_acts(random, store, ttl, quiet_at, len(nodes)),
        quiet_at=quiet_at,
        slot_seconds=quiet_at / random.uniform(10, 25),
    )


def _rate(random: Random, drift: float) -> float:
    """Draw a rate so that the ratio of any two is inside the bound, with its ends as likely as its middle."""
    reach = drift / 2 * 0.97
    return 1 + reach * random.choice((-1, 1, random.uniform(-1, 1)))


def _node(random: Random, drift: float, number: int) -> NodePlan:
    is_outside = random.random() < 0.12
    rate = _rate(random, drift)
    if is_outside:
        rate *= 1 + random.choice((-1, 1)) * random.uniform(2 * drift, 0.4)
    return NodePlan(
        offset=random.uniform(0, 1e5),
        rate=rate,
        is_outside=is_outside,
        host=f"host{number // 2}",
        exits_on_overrun=random.random() < 0.3,
    )


def _odds(random: Random) -> dict[Fault, float]:
    """Draw how often messages suffer; now and then most of them do."""
    storm = random.choice((1, 1, 1, 1, 1, 1, 1, 12))
    return {
        fault: random.uniform(0.001, 0.015) * storm
        for fault in MESSAGE_FAULTS
        if random.random() < 0.6
    }


def _acts(
    random: Random, store: str, ttl: float, quiet_at: float, node_count: int
) -> tuple[Act, ...]:
    weights = dict(_WEIGHTS)
    if store == "split":
        weights |= _SPLIT_WEIGHTS
    kinds = [fault for fault in weights if random.random() < 0.6] or [Fault.PAUSE]
    acts = []
    for _ in range(random.choice((3, 6, 9, 12, 15))):
        fault = random.choices(kinds, [weights[kind] for kind in kinds])[0]
        seconds = ttl * random.choice((random.uniform(0.05, 0.6), random.uniform(0.6, 2.2)))
        acts.append(
            Act(
                at=random.uniform(0.3 * ttl, quiet_at - ttl),
                fault=fault,
                node=random.randrange(node_count),
                seconds=seconds,
                luck=random.random(),
            )
        )
    return tuple(sorted(acts, key=lambda act: act.at))
