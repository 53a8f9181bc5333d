"""What is compared in `benchmarks.queues`, with which settings, and how to see that a queue is empty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

DRAIN, ENQUEUE, IDLE = "drain", "enqueue", "idle"
ALL = (DRAIN, ENQUEUE, IDLE)


@dataclass(frozen=True, slots=True)
class Contender:
    """One queue with one set of settings."""

    name: str
    module: str
    variant: str
    ledger: str
    """Where accepted tasks are: `redis` (in memory) or `postgres` (flushed)."""
    settings: str
    drain_count: int
    """Tasks to drain: about three seconds' work."""
    unsettled: Sequence[str] = ()
    """Questions whose answers add up to the tasks that are waiting or in progress: statements of SQL, or
    Redis commands, of which those that answer with a list say it in the first element."""
    environment: str | None = None
    """The peer's virtual environment; None: it runs in our own."""
    has_batches: bool = False
    """It has a call that enqueues many at once."""
    callers: bool = True
    measures: Sequence[str] = ALL
    redis_database: int = 0

    @property
    def is_ours(self) -> bool:
        return self.name.startswith("sercha")

    @property
    def is_floor(self) -> bool:
        return self.name.startswith("floor")

    @property
    def is_peer(self) -> bool:
        return self.environment is not None


_SERCHA_UNSETTLED = ["SELECT count(*) FROM task WHERE state IN ('queued', 'running')"]

CONTENDERS = (
    Contender(
        "sercha-redis",
        "benchmarks.peers.queue_sercha",
        "redis",
        "postgres",
        "WORKER_CONCURRENCY 10, dispatch by Redis, the rest as it comes; rows kept when completed",
        40_000,
        _SERCHA_UNSETTLED,
        has_batches=True,
    ),
    Contender(
        "sercha-postgres",
        "benchmarks.peers.queue_sercha",
        "postgres",
        "postgres",
        "WORKER_CONCURRENCY 10, no Redis, the rest as it comes; rows kept when completed",
        40_000,
        _SERCHA_UNSETTLED,
        has_batches=True,
    ),
    Contender(
        "dramatiq-tuned",
        "benchmarks.peers.queue_dramatiq",
        "tuned",
        "redis",
        "1 process, 2 threads, Retries the only middleware, prefetch 500, worker_timeout 20 ms",
        15_000,
        ["HLEN dramatiq:default.msgs"],
        "dramatiq",
    ),
    Contender(
        "dramatiq",
        "benchmarks.peers.queue_dramatiq",
        "default",
        "redis",
        "1 process, 8 threads, middleware, prefetch and worker_timeout as they come",
        6_000,
        ["HLEN dramatiq:default.msgs"],
        "dramatiq",
    ),
    Contender(
        "taskiq-stream",
        "benchmarks.peers.queue_taskiq",
        "stream",
        "redis",
        "RedisStreamBroker, 100 async tasks, max_prefetch 100, no validation of parameters, acknowledged when saved",
        9_000,
        ["XPENDING taskiq taskiq"],
        "taskiq",
    ),
    Contender(
        "saq-redis",
        "benchmarks.peers.queue_saq",
        "redis",
        "redis",
        "concurrency 10 (its default), ttl -1: nothing kept",
        6_000,
        ["ZCARD saq:default:incomplete"],
        "saq",
    ),
    Contender(
        "arq",
        "benchmarks.peers.queue_arq",
        "redis",
        "redis",
        "max_jobs 100, poll_delay 10 ms, keep_result 0, no log of results",
        6_000,
        ["ZCARD arq:queue"],
        "arq",
    ),
    Contender(
        "celery",
        "benchmarks.peers.queue_celery",
        "solo",
        "redis",
        "pool solo, task_acks_late, results ignored, prefetch multiplier 100, no events, gossip, mingle or heartbeat",
        2_500,
        ["LLEN celery", "HLEN unacked"],
        "celery",
    ),
    Contender(
        "rq",
        "benchmarks.peers.queue_rq",
        "simple",
        "redis",
        "SimpleWorker (no fork per job), result_ttl 0",
        800,
        ["LLEN rq:queue:default", "ZCARD rq:wip:default"],
        "rq",
        has_batches=True,
    ),
    Contender(
        "procrastinate",
        "benchmarks.peers.queue_procrastinate",
        "psycopg",
        "postgres",
        "concurrency 10, pool of 10, listen_notify, jobs kept",
        2_000,
        [
            "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')",
        ],
        "procrastinate",
        has_batches=True,
    ),
    Contender(
        "saq-postgres",
        "benchmarks.peers.queue_saq",
        "postgres",
        "postgres",
        "concurrency 10 (its default), pool as it comes, ttl -1: nothing kept",
        1_500,
        ["SELECT count(*) FROM saq_jobs WHERE status IN ('new', 'queued', 'active')"],
        "saq",
    ),
    Contender(
        "floor-redis",
        "benchmarks.peers.queue_floor",
        "redis",
        "postgres",
        "INSERT and XADD; blocked XREADGROUP, claim by ids and settlement by up to 100, a thread settles",
        60_000,
        ["SELECT count(*) FROM task WHERE state <> 'completed'"],
        has_batches=True,
        callers=False,
    ),
    Contender(
        "floor-postgres",
        "benchmarks.peers.queue_floor",
        "postgres",
        "postgres",
        "INSERT with NOTIFY; blocked LISTEN, claim by SKIP LOCKED and settlement by up to 100, a thread settles",
        60_000,
        ["SELECT count(*) FROM task WHERE state <> 'completed'"],
        has_batches=True,
        callers=False,
    ),
    Contender(
        "floor-commit",
        "benchmarks.peers.queue_floor",
        "commit",
        "postgres",
        "one row in one INSERT; 100 rows by unnest",
        0,
        has_batches=True,
        callers=False,
        measures=[ENQUEUE],
    ),
    Contender(
        "floor-copy",
        "benchmarks.peers.queue_floor",
        "copy",
        "postgres",
        "one row in one INSERT; 100 rows by COPY",
        0,
        has_batches=True,
        callers=False,
        measures=[ENQUEUE],
    ),
)
BY_NAME = {contender.name: contender for contender in CONTENDERS}
