"""What is compared in `benchmarks.failover`, and with which settings."""

from __future__ import annotations

from dataclasses import dataclass

TTL_SECONDS = 2
"""Of every lease and lock; python-redis-lock takes whole seconds only."""


@dataclass(frozen=True, slots=True)
class System:
    """One kind of contender."""

    name: str
    module: str
    settings: str
    floor: str | None = None
    """The system that does the least of the same; None for that one itself."""
    is_peer: bool = False
    """It runs in the peers' environment."""


SYSTEMS = (
    System(
        "lockd-redis",
        "benchmarks.peers.failover_lockd",
        f"lockd.hold(ttl={TTL_SECONDS}), key in Redis, fence in PostgreSQL; acts inside of lease.fenced",
        floor="floor-redis",
    ),
    System(
        "lockd-postgres",
        "benchmarks.peers.failover_lockd",
        f"lockd.hold(ttl={TTL_SECONDS}), lease and fence in PostgreSQL; acts inside of lease.fenced",
        floor="floor-postgres",
    ),
    System(
        "redis-py",
        "benchmarks.peers.failover_contender",
        f"Lock(timeout={TTL_SECONDS}, sleep=0.1: its default); a thread calls reacquire() every "
        f"{TTL_SECONDS / 3:.2f} s; acts while that succeeds and owned() says so",
        floor="floor-redis",
        is_peer=True,
    ),
    System(
        "python-redis-lock",
        "benchmarks.peers.failover_contender",
        f"Lock(expire={TTL_SECONDS}, auto_renewal=True), so renewed every {TTL_SECONDS * 2 / 3:.2f} s; acts "
        "while its thread runs and get_owner_id() is its own id",
        floor="floor-redis",
        is_peer=True,
    ),
    System(
        "redbeat",
        "benchmarks.peers.failover_redbeat",
        f"celery beat with RedBeatScheduler; redbeat_lock_timeout={TTL_SECONDS}, beat_max_loop_interval="
        f"{TTL_SECONDS / 5:g} (its own ratio of 5; also its pause between attempts); acts by an entry due at "
        "each tick",
        floor="floor-redis",
        is_peer=True,
    ),
    System(
        "floor-redis",
        "benchmarks.peers.failover_floor",
        "DEL + PUBLISH; blocked SUBSCRIBE, SET NX PX, one compare-and-set in PostgreSQL; no lease",
    ),
    System(
        "floor-postgres",
        "benchmarks.peers.failover_floor",
        "NOTIFY; blocked LISTEN, one compare-and-set in PostgreSQL; no lease",
    ),
)
BY_NAME = {system.name: system for system in SYSTEMS}
