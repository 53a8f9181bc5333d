"""What settings are once they have been read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from types import MappingProxyType


class Role(StrEnum):
    """What the settings are read for; decides which of them are required and some defaults."""

    API = "api"
    WORKER = "worker"
    ALL = "all"
    UP = "up"
    """All roles with what is missing made and kept in the data folder."""
    MIGRATE = "migrate"
    CLIENT = "client"
    """Commands that need no server of their own: nothing is required."""

    @property
    def runs_api(self) -> bool:
        """Whether a process with this role answers HTTP."""
        return self in {Role.API, Role.ALL, Role.UP}

    @property
    def runs_worker(self) -> bool:
        """Whether a process with this role runs tasks."""
        return self in {Role.WORKER, Role.ALL, Role.UP}


class ValueSource(StrEnum):
    """Where a setting's value came from; the first of these that has one wins."""

    FLAG = "flag"
    ENVIRONMENT = "environment"
    FILE = "file"
    """The file named by ``NAME_FILE``."""
    GENERATED = "generated"
    """Not given; ``sercha up`` makes it and keeps it in the data folder."""
    DEFAULT = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting of one process. Durations are seconds. Secrets are left out of ``repr``."""

    role: Role
    run_mode: Role
    """What ``sercha run`` runs: api, worker or all."""
    host: str
    port: int | None
    """0: any free port; None: no port is opened (a worker without ``PORT``)."""
    database_url: str | None = field(repr=False)
    """URL or ``key=value`` string; None only where it is not required."""
    db_max_open_conns: int
    db_max_idle_conns: int
    db_conn_max_lifetime: float
    redis_url: str | None = field(repr=False)
    """None: tasks are taken from PostgreSQL only."""
    search_engine: str
    """``embedded`` or ``vespa``."""
    vespa_container_url: tuple[str, ...]
    """Empty only with the embedded engine."""
    vespa_config_url: tuple[str, ...]
    vespa_cluster: str
    worker_concurrency: int
    worker_dequeue_timeout: float
    worker_claim_ttl: float
    scheduler_enabled: bool
    scheduler_lock_required: bool
    """False: go on without the lease while its store is away."""
    scheduler_lock_ttl: float
    scheduler_poll_interval: float
    shutdown_grace: float
    jwt_secret: str | None = field(repr=False)
    master_key: bytes | None = field(repr=False)
    """32 bytes."""
    setup_token: str | None = field(repr=False)
    cors_allowed_origins: tuple[str, ...]
    """``https://host[:port]`` each, or only ``*``."""
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...]
    localfs_allowed_roots: tuple[Path, ...]
    data_dir: Path | None
    """Absolute; None only where no role needs it and no home folder is known."""
    log_level: str
    log_format: str | None
    """``json`` or ``console``; None: json unless stderr is a terminal."""
    sercha_dev: bool
    sercha_url: str | None
    sercha_token: str | None = field(repr=False)
    sources: Mapping[str, ValueSource] = field(
        default_factory=lambda: MappingProxyType({}), repr=False
    )
    """Where each value came from, by variable."""
