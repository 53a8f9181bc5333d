"""What all ports of one stand-in share."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.vespa.faults import Faults
from tests.vespa.model import Application, Schema
from tests.vespa.record import Requests
from tests.vespa.store import Store

VERSION = "8.763.13"
"""The version the stand-in claims to be."""


@dataclass(slots=True)
class Limits:
    """Sizes and costs that tests may change."""

    body_bytes: int = 100 * 1024 * 1024
    """The largest body of a write."""
    visit_buckets: int | None = 4
    """The most buckets of one page of a visit, or of one mass operation; None: no limit.

    A real server ends a page by count or by time. A small number here gives pages without documents, and mass
    operations that are not finished, with few documents.
    """
    bucket_seconds: float = 0.0
    """The time that the visit of a bucket is said to take: it uses up ``timeout`` and ``timeChunk``."""
    override_days: int = 30
    """How far ahead a validation override may last."""


@dataclass(slots=True)
class State:
    """The active application, its documents, the faults and the record."""

    store: Store = field(default_factory=Store)
    faults: Faults = field(default_factory=Faults)
    requests: Requests = field(default_factory=Requests)
    limits: Limits = field(default_factory=Limits)
    deployed: Application | None = None
    """What was activated last, as the config server knows it."""
    container_ports: list[int] = field(default_factory=list[int])
    crashes: list[Exception] = field(default_factory=list[Exception])
    """Errors of the stand-in itself: the client sees 500, and `open_vespa` raises them at its end."""
    _before: Application | None = None
    _converged_at: float = 0.0

    @property
    def is_converged(self) -> bool:
        """Whether the services run what was activated last."""
        return time.monotonic() >= self._converged_at

    @property
    def application(self) -> Application | None:
        """What the containers run: until they have converged that is the application before."""
        return self.deployed if self.is_converged else self._before

    def activate(self, application: Application | None, *, delay: float = 0.0) -> None:
        """Make an application the active one; the containers follow after *delay* seconds."""
        self._before = self.application
        self.deployed = application
        self._converged_at = time.monotonic() + delay
        self.store.wake()

    def schemas(self) -> Iterable[Schema]:
        """The schemas of the active application."""
        return () if self.application is None else self.application.schemas.values()
