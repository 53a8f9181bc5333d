"""Counters of the API, on the process's registry."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

REQUESTS = Counter(
    "sercha_http_requests",
    "Requests that were answered, by route pattern (never by address).",
    ["method", "route", "status"],
)
DURATION = Histogram(
    "sercha_http_request_duration_seconds",
    "From a request's head to the end of its answer.",
    ["method", "route"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


def record(method: str, route: str, status: int, seconds: float) -> None:
    """Count one request; methods that do not exist count as one."""
    method = method if method in _METHODS else "OTHER"
    REQUESTS.labels(method, route, str(status)).inc()
    DURATION.labels(method, route).observe(seconds)
