"""What `sercha doctor` finds by asking: PostgreSQL, Redis, whoever has the port, the API of the profile."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from datetime import UTC, datetime

import trio

from lockd import StoreUnreachable
from sercha.adapters.postgres.migrate import schema_state
from sercha.adapters.postgres.pool import ConnectionPool, open_pool
from sercha.cli.api import Access, find_access, open_api
from sercha.cli.checks import Finding, Verdict
from sercha.cli.checks_vectors import check_vectors
from sercha.cli.healthcheck import local_url
from sercha.errors import Conflict, SerchaError
from sercha.settings import Role, Settings
from sercha.settings.database_url import mask_database_url
from sercha.settings.redis_url import mask_redis_url

POSTGRES_MIN = 14
DATABASE_TIMEOUT = 10.0
PORT_TIMEOUT = 10.0
"""Seconds for whoever has the port; `/health` of a Sercha gives each of its components less."""
CLOCK_SKEW_WARN = 2.0
"""Seconds between our clock and the database's; leases do not mind, people who read logs do."""
NODE_LIVES = 60
"""Seconds since its last sign of life in which a process counts as alive."""

_FACTS = """
SELECT current_setting('server_version_num')::int / 10000,
       current_setting('max_connections')::int
           - current_setting('superuser_reserved_connections')::int,
       pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool,
       clock_timestamp()"""
_NODES = "SELECT count(*) FROM node WHERE seen_at > clock_timestamp() - make_interval(secs => %s)"


async def check_database(settings: Settings) -> list[Finding]:
    """Check that PostgreSQL is there, new enough, writable, up to date and roomy."""
    if settings.database_url is None:
        return [Finding("database", Verdict.OK, "private, started by `sercha up`")]
    shown = mask_database_url(settings.database_url)
    mend = "check DATABASE_URL and that the server runs"
    try:
        with trio.fail_after(DATABASE_TIMEOUT):
            async with open_pool(
                settings.database_url, max_open=1, application_name="sercha doctor"
            ) as pool:
                findings = [
                    *await _check_server(pool, shown),
                    await _check_schema(pool),
                    await _check_connections(pool, settings),
                ]
                if settings.search_engine == "embedded":
                    findings.append(await check_vectors(pool))
                return findings
    except trio.TooSlowError:
        message = f"{shown}: no answer within {DATABASE_TIMEOUT:g} s"
        return [Finding("database", Verdict.FAIL, message, mend)]
    except SerchaError as error:
        return [Finding("database", Verdict.FAIL, f"{shown}: {error.message}", mend)]


async def check_redis(settings: Settings) -> list[Finding]:
    """Check that Redis is there, if it is to be used, that it is no replica, and that it throws nothing away."""
    if settings.redis_url is None:
        is_private = settings.role is Role.UP and settings.database_url is None
        message = (
            "private, started by `sercha up`" if is_private else "none: PostgreSQL does it all"
        )
        return [Finding("redis", Verdict.OK, message)]
    from lockd.redis import open_redis_client  # brings asyncio along: not for every command

    shown = mask_redis_url(settings.redis_url)
    mend = "check REDIS_URL and that the server runs; until then tasks come from PostgreSQL"
    try:
        async with open_redis_client(settings.redis_url, connections_max=1) as client:
            await client.request(("PING",))
            try:
                [reply] = await client.request(("INFO",))
            except StoreUnreachable as error:
                if error.refusal is None:
                    raise
                return [Finding("redis", Verdict.OK, f"{shown}: there; its user may not ask more")]
    except (StoreUnreachable, ValueError) as error:
        return [Finding("redis", Verdict.FAIL, f"{shown}: {error}", mend)]
    return _judge_redis(shown, _facts(reply))


async def check_port(settings: Settings) -> list[Finding]:
    """Check that the port is free, or that it is Sercha who has it."""
    if not settings.port:
        return []
    url = local_url(settings.host, settings.port)
    try:
        with trio.fail_after(PORT_TIMEOUT):
            async with open_api(Access(url)) as api:
                number, answer = await api.raw("/health")
    except SerchaError as error:
        return [_check_free(settings.host, settings.port, error.message)]
    except trio.TooSlowError:
        reason = f"it did not answer within {PORT_TIMEOUT:g} s"
        return [_check_free(settings.host, settings.port, reason)]
    return [_health("port", url, number, answer)]


async def check_api(environ: Mapping[str, str]) -> list[Finding]:
    """Check the Sercha that client commands talk to."""
    try:
        access = find_access(environ)
    except SerchaError as error:
        return [Finding("profile", Verdict.WARN, error.message)]
    try:
        async with open_api(access) as api:
            number, answer = await api.raw("/health")
            finding = _health("api", access.url, number, answer)
            me = await api.get("/me")
    except SerchaError as error:
        return [Finding("api", Verdict.WARN, error.message)]
    return [finding, Finding("profile", Verdict.OK, f"logged in as {me.get('email')}")]


async def _check_server(pool: ConnectionPool, shown: str) -> list[Finding]:
    async with pool.connection() as connection:
        cursor = await connection.execute(_FACTS)
        row = await cursor.fetchone()
    assert row is not None
    version, _, is_read_only, now = row
    findings = [Finding("database", Verdict.OK, f"{shown}: PostgreSQL {version}")]
    if version < POSTGRES_MIN:
        mend = f"use {POSTGRES_MIN} or newer"
        findings = [Finding("database", Verdict.FAIL, f"PostgreSQL {version} is too old", mend)]
    if is_read_only:
        mend = "add target_session_attrs=read-write and the primary's address to DATABASE_URL"
        findings.append(Finding("database", Verdict.FAIL, "the server is read-only", mend))
    skew = abs((datetime.now(UTC) - now).total_seconds())
    verdict = Verdict.WARN if skew > CLOCK_SKEW_WARN else Verdict.OK
    mend = "synchronise the clocks (NTP)" if verdict is Verdict.WARN else ""
    findings.append(Finding("clock", verdict, f"{skew:.1f} s from the database's", mend))
    return findings


def _facts(info: bytes) -> dict[str, str]:
    """Read the reply to INFO."""
    lines = info.decode(errors="replace").splitlines()
    return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon}


def _judge_redis(shown: str, facts: dict[str, str]) -> list[Finding]:
    version = facts.get("valkey_version")
    name = f"Valkey {version}" if version else f"Redis {facts.get('redis_version', '')}"
    findings = [Finding("redis", Verdict.OK, f"{shown}: {name}")]
    if facts.get("role") == "slave":
        mend = "give the master's address in REDIS_URL, or that of the Sentinels"
        findings = [Finding("redis", Verdict.FAIL, f"{shown}: is a replica", mend)]
    policy = facts.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        message = f"maxmemory-policy is {policy}: what Sercha keeps there may be thrown away"
        mend = "set maxmemory-policy noeviction"
        findings.append(Finding("redis memory", Verdict.WARN, message, mend))
    if facts.get("aof_enabled", "1") == "0":
        message = "appendonly is off: a restart forgets the lease, and scheduling is handed over"
        findings.append(Finding("redis disk", Verdict.WARN, message, "set appendonly yes"))
    return findings


async def _check_schema(pool: ConnectionPool) -> Finding:
    try:
        state = await schema_state(pool)
    except Conflict as error:
        return Finding("schema", Verdict.FAIL, error.message)
    if state.pending:
        message = f"{len(state.pending)} migrations are pending"
        return Finding("schema", Verdict.FAIL, message, "run `sercha migrate`")
    return Finding("schema", Verdict.OK, f"up to date ({len(state.applied)} migrations)")


async def _check_connections(pool: ConnectionPool, settings: Settings) -> Finding:
    async with pool.connection() as connection:
        row = await (await connection.execute(_FACTS)).fetchone()
        assert row is not None
        available = int(row[1])
        row = await (await connection.execute("SELECT to_regclass('node') IS NOT NULL")).fetchone()
        nodes = 0
        if row is not None and row[0]:
            row = await (await connection.execute(_NODES, [NODE_LIVES])).fetchone()
            nodes = int(row[0]) if row is not None else 0
    processes = max(nodes, 1)
    needed = processes * settings.db_max_open_conns
    message = (
        f"{processes} processes with {settings.db_max_open_conns} each need up to {needed} "
        f"of {available} connections"
    )
    if needed > available:
        mend = "lower DB_MAX_OPEN_CONNS or raise the server's max_connections"
        return Finding("connections", Verdict.FAIL, message, mend)
    return Finding("connections", Verdict.OK, message)


def _check_free(host: str, port: int, answer: str) -> Finding:
    """Try to bind the port as the API would."""
    from sercha.roles.api.port_holder import holder_of  # brings the API along: not for every check

    mend = "stop the other program, or choose another port with --port or PORT"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            holder = holder_of(port) or "another program"
            message = f"{port} is taken by {holder} ({answer})"
            return Finding("port", Verdict.FAIL, message, mend)
        return Finding(
            "port", Verdict.FAIL, f"{host}:{port}: {error.strerror}", "set HOST and PORT"
        )
    return Finding("port", Verdict.OK, f"{port} is free")


def _health(name: str, url: str, number: int, answer: object) -> Finding:
    status = str(answer.get("status")) if isinstance(answer, dict) else ""  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    if status not in {"healthy", "degraded", "unhealthy"}:
        mend = "stop the other program, or choose another port with --port or PORT"
        message = f"{url} answers {number}, but not as Sercha does"
        return Finding(name, Verdict.FAIL, message, mend)
    if number != 200:
        return Finding(name, Verdict.FAIL, f"{url} is {status}", "see `sercha status`")
    verdict = Verdict.OK if status == "healthy" else Verdict.WARN
    return Finding(name, verdict, f"{url} is {status}")
