"""What the API's handlers work with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from quart import current_app
from quart_trio import QuartTrio

from sercha.roles.api.client import Network
from sercha.roles.api.traffic import Traffic
from sercha.services.accounts import Accounts
from sercha.services.ai_settings import AISettings
from sercha.services.documents import Documents
from sercha.services.events import Events
from sercha.services.idempotency import Idempotency
from sercha.services.index_care import IndexCare
from sercha.services.leases import Leases
from sercha.services.ports import NodeStore, TaskQueue
from sercha.services.ports.task_admin import TaskAdmin
from sercha.services.ports.vector_search import VectorsState
from sercha.services.ports.vespa_admin import VespaAdmin
from sercha.services.schedules import Schedules
from sercha.services.search import Search
from sercha.services.sources import Sources
from sercha.telemetry.health import Health

_KEY = "sercha"


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """Bounds and settings of the API."""

    body_bytes_max: int = 1024 * 1024
    request_time: float = 30.0
    """Seconds that one request may take from its first byte to the last byte of its answer."""
    idempotency_wait: float = 10.0
    """Seconds that a repeated request waits for its first attempt; less than `request_time`."""
    requests_max: int = 256
    """Requests under way at a time, event streams apart; more are told to come back, or to ask another process."""
    streams_max: int = 1_000
    """Event streams at a time."""
    cors_allowed_origins: tuple[str, ...] = ()
    """Origins like ``https://search.example.org``; ``*`` allows all."""
    trusted_proxies: tuple[Network, ...] = ()
    """Who is believed to name the client in ``X-Forwarded-For``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeServices:
    """What every process tells about itself, a worker too."""

    health: Health
    version: str
    metrics: Callable[[], Awaitable[tuple[bytes, str]]]
    """The metrics page with its content type."""
    options: ApiOptions = field(default_factory=ApiOptions)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiServices(ProbeServices):
    """The services behind the API; made by the wiring, closed by nobody here."""

    accounts: Accounts
    ai: AISettings
    vectors: Callable[[], Awaitable[VectorsState]]
    """Whether the engine can use vectors."""
    vespa: VespaAdmin | None = None
    """None: the engine is another one, or somebody else deploys its application."""
    vespa_endpoints: tuple[str, ...] = ()
    """Where Vespa is; empty: it is not the engine."""
    sources: Sources
    documents: Documents
    search: Search
    index: IndexCare
    queue: TaskQueue
    task_admin: TaskAdmin
    schedules: Schedules
    leases: Leases
    nodes: NodeStore
    idempotency: Idempotency
    events: Events
    """Read for by whoever runs the services."""


@dataclass(frozen=True, slots=True)
class ApiState:
    """What one application is bound to."""

    services: ProbeServices
    """`ApiServices`, except in an application of probes only."""
    traffic: Traffic


def bind_state(app: QuartTrio, state: ApiState) -> None:
    """Bind *app* to its services."""
    app.extensions[_KEY] = state


def current_state() -> ApiState:
    """Return what the application of the running request is bound to."""
    state = current_app.extensions[_KEY]
    assert isinstance(state, ApiState)
    return state
