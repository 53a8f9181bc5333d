"""Structured logs on stderr. Only the command line configures them; a host that embeds Sercha has its own.

Every line has ``timestamp``, ``level``, ``event`` and ``role``. What looks like a secret is masked, and
tracebacks never show local variables.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

MASK = "***"

_SECRET_KEY = re.compile(
    r"(^|_)(password|passwd|secret|token|authorization|cookie|credentials?|master_key|api_key|conninfo|"
    r"database_url|redis_url)$",
    re.IGNORECASE,
)
_URL_PASSWORD = re.compile(r"(?<=://)([^\s/:@]*):[^\s/@]+@")
_KEY_ORDER = ("timestamp", "level", "event", "role")


def configure_logs(
    *, role: str, level: str = "info", log_format: str | None = None, stream: TextIO | None = None
) -> None:
    """Send all events from *level* on to *stream* (stderr), and those of libraries from ``warning`` on.

    *log_format* is ``json`` or ``console``; None: console on a terminal, else json. Calling it again
    replaces what was configured.
    """
    out: TextIO = stream if stream is not None else sys.stderr
    log_format = log_format or ("console" if out.isatty() else "json")
    threshold = logging.getLevelNamesMapping()[level.upper()]

    def add_role(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event.setdefault("role", role)
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_role,
        mask_secrets,
    ]
    rendering = _rendering(log_format, has_colors=out.isatty())
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *rendering,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(threshold, logging.WARNING))


def mask_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace the values of keys that name secrets, and passwords inside of addresses."""
    for key, value in event.items():
        if value and _SECRET_KEY.search(key):
            event[key] = MASK
        elif isinstance(value, str) and "://" in value:
            event[key] = _URL_PASSWORD.sub(rf"\1:{MASK}@", value)
    return event


def _rendering(log_format: str, *, has_colors: bool) -> list[Processor]:
    if log_format == "console":
        return [
            structlog.dev.ConsoleRenderer(
                colors=has_colors, exception_formatter=structlog.dev.plain_traceback
            )
        ]
    return [
        structlog.processors.format_exc_info,
        _mask_traceback,
        _order_keys,
        structlog.processors.JSONRenderer(),
    ]


def _mask_traceback(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    if isinstance(event.get("exception"), str):
        event["exception"] = _URL_PASSWORD.sub(rf"\1:{MASK}@", event["exception"])
    return event


def _order_keys(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    first = {key: event[key] for key in _KEY_ORDER if key in event}
    return {**first, **event}
