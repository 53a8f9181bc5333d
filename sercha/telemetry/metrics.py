"""All metrics of a process except those of HTTP, which stand beside the API.

Base units, few labels: never a path, a query, an id or a name that users choose. ``docs/reference/metrics.md``
lists each one and a test holds it to that.
"""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import Counter, Gauge, Histogram

from sercha.version import __version__

BUILD_INFO = Gauge("sercha_build_info", "Always 1; the version is a label.", ["version"])
BUILD_INFO.labels(version=__version__).set(1)

TASKS = Gauge(
    "sercha_tasks",
    "Tasks in the ledger that are queued, running or dead, as of the last count.",
    ["state"],
)
ATTEMPTS = Counter(
    "sercha_attempts_total",
    "Attempts of tasks that ended in this process, by how they ended.",
    ["kind", "outcome"],
)
ATTEMPT_DURATION = Histogram(
    "sercha_attempt_duration_seconds",
    "How long attempts took in this process.",
    ["kind"],
    buckets=(0.05, 0.25, 1, 5, 15, 60, 300, 900, 3600),
)
SLOTS = Gauge("sercha_slots", "Slots of this worker: busy and free.", ["state"])

SCHEDULER_LEADING = Gauge(
    "sercha_scheduler_leading", "1 while this process holds the lease of the scheduler, else 0."
)
SCHEDULE_SLOTS = Counter(
    "sercha_schedule_slots_total",
    "Slots of schedules, or stretches of slots, that this process recorded, by what became of them.",
    ["outcome"],
)
SCHEDULER_TICK_DURATION = Histogram(
    "sercha_scheduler_tick_duration_seconds",
    "How long steps of the scheduler took that had something to do.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
SCHEDULER_LATE = Gauge(
    "sercha_scheduler_late_seconds", "How late the oldest slot was in this process's last step."
)
DISPATCH_USED = Gauge(
    "sercha_dispatch_used",
    "1 while this worker gets its tasks through Redis, 0 while it asks PostgreSQL instead.",
)

SYNC_ITEMS = Counter(
    "sercha_sync_items_total",
    "Items of sources that syncs of this process dealt with, by what came of them.",
    ["outcome"],
)

SEARCH_DURATION = Histogram(
    "sercha_search_duration_seconds",
    "How long this process took to answer a search, texts and snippets included.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
INDEX_DOCUMENTS = Gauge("sercha_index_documents", "Documents in this process's copy of the index.")
INDEX_LAG = Gauge(
    "sercha_index_lag_seconds",
    "This process's copy of the index has everything that was committed until so long ago.",
)

PARSERS_KILLED = Counter(
    "sercha_parsers_killed_total",
    "Parser processes that a file took along, by the code of its issue.",
    ["code"],
)
IDEMPOTENT_REQUESTS = Counter(
    "sercha_idempotent_requests_total",
    "Requests with an idempotency key that this process answered, by how; waits count beside.",
    ["outcome"],
)

EVENT_STREAMS = Gauge("sercha_event_streams", "Streams of events that this process serves.")

DB_CONNECTIONS = Gauge(
    "sercha_db_connections", "Connections of this process to PostgreSQL by state.", ["state"]
)
DB_RETRIES = Counter(
    "sercha_db_retries_total",
    "Steps of this process that were tried again after a passing error of PostgreSQL.",
)


def set_states(gauge: Gauge, values: Mapping[str, float]) -> None:
    """Set a gauge with the one label ``state`` for all its states at once."""
    for state, value in values.items():
        gauge.labels(state=state).set(value)


VESPA_WRITES = Counter(
    "sercha_vespa_writes_total",
    "Writes sent to Vespa by this process, by the status of the answer; none: there was no answer.",
    ["status"],
)
VESPA_REFUSED = Counter(
    "sercha_vespa_refused_total", "Documents that Vespa refused for good; the log says why."
)
VESPA_SEARCHES = Counter(
    "sercha_vespa_searches_total",
    "Searches sent to Vespa by this process, by the status of the answer; none: there was no answer.",
    ["status"],
)
SEARCHES_DEGRADED = Counter(
    "sercha_searches_degraded_total", "Searches that were answered from a part of the index."
)

EMBEDDINGS = Counter(
    "sercha_embeddings_total",
    "Texts that this process had vectors made of, by what came of it; failed: calls without an answer.",
    ["outcome"],
)
EMBEDDING_PENDING = Gauge(
    "sercha_embedding_pending",
    "Documents that lack vectors, as of the last look of the worker that makes them.",
)
SEARCHES = Counter(
    "sercha_searches_total",
    "Searches that this process answered, by the mode that answered.",
    ["mode"],
)
