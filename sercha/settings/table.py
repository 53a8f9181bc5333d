"""The one table of settings: what is not here does not exist, and a test holds the reference page to it."""

from __future__ import annotations

import os
import pwd
import re

from sercha.settings.database_url import FORM, mask_database_url, parse_database_url
from sercha.settings.model import Role
from sercha.settings.parsing import (
    choice,
    duration,
    integer,
    parse_boolean,
    parse_folder,
    parse_folders,
    parse_host,
    parse_http_url,
    parse_http_urls,
    parse_key,
    parse_networks,
    parse_origins,
)
from sercha.settings.redis_url import FORM as REDIS_FORM
from sercha.settings.redis_url import mask_redis_url, parse_redis_url
from sercha.settings.setting import Environ, Setting

JWT_SECRET_BYTES_MIN = 32
TOKEN_CHARS_MIN = 8
DB_CONNS_MIN = 3
"""One listens for notices, and a transaction may need one beside its own."""

_SERVERS = frozenset({Role.API, Role.WORKER, Role.ALL})


def _identity(text: str) -> str:
    return text


def _token(text: str) -> str:
    if len(text) < TOKEN_CHARS_MIN or not text.isprintable() or " " in text:
        raise ValueError(f"at least {TOKEN_CHARS_MIN} printable characters without spaces")
    return text


def _bearer(text: str) -> str:
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("printable ASCII characters without spaces")
    return text


def _cluster(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", text):
        raise ValueError("letters, digits, `_`, `-` and `.`")
    return text


def _default_search_engine(environ: Environ, _: Role) -> str:
    return "vespa" if environ.get("VESPA_CONTAINER_URL", "").strip() else "embedded"


def _default_port(_: Environ, role: Role) -> str | None:
    return None if role is Role.WORKER else "8080"


def _default_host(_: Environ, role: Role) -> str:
    return "127.0.0.1" if role is Role.UP else "0.0.0.0"  # noqa: S104 - containers; documented


def _default_log_level(_: Environ, role: Role) -> str:
    # Under `up` people look at the terminal, for progress and for the address.
    return "warning" if role is Role.UP else "info"


def _default_data_dir(environ: Environ, _: Role) -> str | None:
    data_home = environ.get("XDG_DATA_HOME", "")
    if data_home.startswith("/"):
        return f"{data_home.rstrip('/')}/sercha"
    home = environ.get("HOME", "")
    if not home.startswith("/"):
        try:
            home = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            return None
    return f"{home.rstrip('/')}/.local/share/sercha"


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "RUN_MODE",
        "What `sercha run` runs. `sercha api`, `sercha worker` and `sercha all` do not look at it.",
        "`all`, `api` or `worker`",
        lambda text: Role(choice("all", "api", "worker")(text)),
        default="all",
    ),
    Setting(
        "PORT",
        "TCP port of the API; 0 takes any free port. A worker opens a port for health and metrics "
        "only when this is set.",
        "0 to 65535",
        integer(0, 65535),
        compute_default=_default_port,
        default_note="8080; none for `worker`",
        flag="--port",
    ),
    Setting(
        "HOST",
        "Address to listen on.",
        "an IP address or a host name",
        parse_host,
        compute_default=_default_host,
        default_note="0.0.0.0; 127.0.0.1 under `up`",
        flag="--host",
    ),
    Setting(
        "DATABASE_URL",
        "PostgreSQL. Several hosts may be given "
        "(`postgresql://u:p@h1:5432,h2:5432/sercha?target_session_attrs=read-write`). "
        "Under `sercha up`, when unset, a private server is started in the data folder.",
        FORM,
        parse_database_url,
        required_in=_SERVERS | {Role.MIGRATE},
        is_made_by_up=True,
        is_secret=True,
        mask=mask_database_url,
    ),
    Setting(
        "DB_MAX_OPEN_CONNS",
        "Most connections one process opens, those for listening and leases included. The sum over all "
        "processes must stay below the server's `max_connections`; `sercha doctor` compares.",
        f"{DB_CONNS_MIN} to 1000",
        integer(DB_CONNS_MIN, 1000),
        default="10",
    ),
    Setting(
        "DB_MAX_IDLE_CONNS",
        "Connections kept open while nobody uses them.",
        "0 to `DB_MAX_OPEN_CONNS`",
        integer(0, 1000),
        default="3",
    ),
    Setting(
        "DB_CONN_MAX_LIFETIME_SEC",
        "A connection older than this is replaced when it is next free.",
        "a duration from 1s to 24h",
        duration(1, 86_400),
        default="300",
        field_name="db_conn_max_lifetime",
    ),
    Setting(
        "REDIS_URL",
        "Redis 7 or Valkey, from which workers take tasks sooner. What it holds may be lost at any time; while it is "
        "away they take tasks from PostgreSQL. Sentinels: `redis+sentinel://`. Options for TLS: `ssl_ca_certs`, `ssl_certfile`, "
        "`ssl_keyfile`, `ssl_check_hostname`, `ssl_cert_reqs`. Under `sercha up`, when neither this nor "
        "`DATABASE_URL` is set, a private server is started in the data folder.",
        REDIS_FORM,
        parse_redis_url,
        is_made_by_up=True,
        is_secret=True,
        mask=mask_redis_url,
    ),
    Setting(
        "SEARCH_ENGINE",
        "Which index answers searches: one that each API has for itself, or Vespa.",
        "`embedded` or `vespa`",
        choice("embedded", "vespa"),
        compute_default=_default_search_engine,
        default_note="`vespa` if `VESPA_CONTAINER_URL` is set, else `embedded`",
    ),
    Setting(
        "VESPA_CONTAINER_URL",
        "Vespa's containers, for searches and documents. One that does not answer is left out for some seconds.",
        "a comma-separated list of addresses such as `http://vespa-1:8080`",
        parse_http_urls,
        default_note="none",
    ),
    Setting(
        "VESPA_CONFIG_URL",
        "Vespa's config servers, to which Sercha's part of the application is deployed. Unset: whoever operates Vespa "
        "deploys it, from the output of `sercha vespa package`.",
        "a comma-separated list of addresses such as `http://vespa-config-1:19071`",
        parse_http_urls,
        default_note="none",
    ),
    Setting(
        "VESPA_CLUSTER",
        "The content cluster of Vespa that has Sercha's documents; in an application that is there already, one of its.",
        "letters, digits, `_`, `-` and `.`",
        _cluster,
        default="sercha",
    ),
    Setting(
        "WORKER_CONCURRENCY",
        "Tasks that one worker runs at the same time.",
        "1 to 64",
        integer(1, 64),
        default="2",
    ),
    Setting(
        "WORKER_DEQUEUE_TIMEOUT",
        "How long a worker waits on an empty queue before it looks again by itself; a new task wakes it "
        "earlier.",
        "a duration from 100ms to 5m",
        duration(0.1, 300),
        default="5s",
    ),
    Setting(
        "WORKER_CLAIM_TTL",
        "How long a claim on a task lives without a heartbeat: after that time the tasks of a worker that died "
        "are taken over. The same for all workers.",
        "a duration from 1s to 10m",
        duration(1, 600),
        default="30s",
    ),
    Setting(
        "SCHEDULER_ENABLED",
        "Whether a worker is a candidate to schedule. Of all candidates one does; with none, nothing runs on a schedule.",
        "`true`, `false`, `1` or `0`",
        parse_boolean,
        default="true",
    ),
    Setting(
        "SCHEDULER_LOCK_REQUIRED",
        "The lease of the scheduler is kept in Redis if `REDIS_URL` is set, else in PostgreSQL. `true`: while that server "
        "is away nothing is scheduled, `/health` says so, and what was missed is caught up. `false`: it goes on without "
        "the lease; the key of each slot in PostgreSQL still prevents duplicates.",
        "`true`, `false`, `1` or `0`",
        parse_boolean,
        default="true",
    ),
    Setting(
        "SCHEDULER_LOCK_TTL",
        "How long the lease of a scheduler that died lives before another process takes over.",
        "a duration from 1s to 10m",
        duration(1, 600),
        default="60s",
    ),
    Setting(
        "SCHEDULER_POLL_INTERVAL",
        "How long the scheduler waits at most before it looks again; the next slot and a changed schedule wake it "
        "earlier.",
        "a duration from 100ms to 5m",
        duration(0.1, 300),
        default="30s",
    ),
    Setting(
        "SHUTDOWN_GRACE",
        "How long running requests and tasks may go on after SIGTERM; what is not done then is given back.",
        "a duration from 0s to 1h",
        duration(0, 3600),
        default="30s",
    ),
    Setting(
        "JWT_SECRET",
        "Signs access tokens. The same for all processes; changing it logs everybody out. "
        "Made and kept by `sercha up` when unset.",
        f"at least {JWT_SECRET_BYTES_MIN} bytes (`openssl rand -hex 32`), no well-known default",
        _identity,
        required_in=frozenset({Role.API, Role.ALL}),
        is_made_by_up=True,
        is_secret=True,
    ),
    Setting(
        "MASTER_KEY",
        "Encrypts stored credentials of sources and stored answers of requests. The same for all processes. "
        "Made and kept by `sercha up` when unset.",
        "32 bytes as 64 hexadecimal digits (`openssl rand -hex 32`) or in base64",
        parse_key,
        required_in=_SERVERS,
        is_made_by_up=True,
        is_secret=True,
    ),
    Setting(
        "SETUP_TOKEN",
        "When set, making the first administrator needs this token, so that a fresh public address does not "
        "belong to whoever comes first.",
        f"at least {TOKEN_CHARS_MIN} printable characters without spaces",
        _token,
        is_secret=True,
    ),
    Setting(
        "CORS_ALLOWED_ORIGINS",
        "Web origins whose pages may call the API.",
        "`*`, or a comma-separated list of origins such as `https://app.example.com`",
        parse_origins,
        default_note="none",
    ),
    Setting(
        "TRUSTED_PROXIES",
        "Proxies and balancers that are believed to name the client in `X-Forwarded-For`: the log's `client` is then "
        "the last address there that is none of theirs.",
        "a comma-separated list of IP addresses and networks such as `10.0.0.5, 172.16.0.0/12`",
        parse_networks,
        default_note="none",
    ),
    Setting(
        "LOCALFS_ALLOWED_ROOTS",
        "Folders that a `localfs` source may read. Everything outside is refused, also through links. "
        "`sercha up --index` adds its paths and remembers them. One that does not exist is logged at the start as "
        "`setting.folder_missing`.",
        "absolute paths with `:` between them",
        parse_folders,
        is_path=True,
        default_note="none",
    ),
    Setting(
        "DATA_DIR",
        "Where the copy of the index lives and, under `sercha up`, PostgreSQL and the generated secrets.",
        "an absolute path",
        parse_folder,
        is_path=True,
        compute_default=_default_data_dir,
        default_note="`$XDG_DATA_HOME/sercha`, else `~/.local/share/sercha`",
        required_in=frozenset({Role.API, Role.ALL, Role.UP}),
        flag="--data-dir",
    ),
    Setting(
        "LOG_LEVEL",
        "The least serious events that are logged.",
        "`debug`, `info`, `warning` or `error`",
        choice("debug", "info", "warning", "error"),
        compute_default=_default_log_level,
        default_note="info; warning under `up`",
    ),
    Setting(
        "LOG_FORMAT",
        "How events are written to stderr.",
        "`json` or `console`",
        choice("json", "console"),
        default_note="`console` on a terminal, else `json`",
    ),
    Setting(
        "SERCHA_DEV",
        "Accepts weak and well-known secrets. Never in production.",
        "`true`, `false`, `1` or `0`",
        parse_boolean,
        default="false",
    ),
    Setting(
        "SERCHA_URL",
        "The Sercha that client commands talk to.",
        "an `http` or `https` address without user, query or fragment",
        parse_http_url,
        default_note="the one of the profile",
    ),
    Setting(
        "SERCHA_TOKEN",
        "Access token of client commands.",
        "printable ASCII characters without spaces",
        _bearer,
        default_note="the one of the profile",
        is_secret=True,
    ),
)

BY_NAME: dict[str, Setting] = {setting.name: setting for setting in SETTINGS}

EMPTY_TUPLES = frozenset(
    {
        "CORS_ALLOWED_ORIGINS",
        "LOCALFS_ALLOWED_ROOTS",
        "TRUSTED_PROXIES",
        "VESPA_CONFIG_URL",
        "VESPA_CONTAINER_URL",
    }
)
"""Settings whose value is an empty tuple when nothing is given."""

UNSUPPORTED: tuple[str, ...] = ("BASE_URL",)
"""Refused rather than ignored: whoever sets one expects something that would not happen."""

KNOWN_SECRETS = frozenset(
    {
        "change-me-in-production",
        "changeme",
        "change-me",
        "changeit",
        "change_me",
        "change-this-in-production",
        "change-me-in-production-please-32-bytes",
        "your-secret-key",
        "your-super-secret-key",
        "secret",
        "password",
        "admin",
        "default",
        "development",
        "dev-secret",
        "jwt-secret",
        "jwt_secret",
        "supersecret",
        "0123456789abcdef0123456789abcdef",
        "0123456789abcdef" * 4,
        "0" * 64,
    }
)
