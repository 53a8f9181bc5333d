"""TLS with a private authority: the certificate and the host name are checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trustme

from sercha.adapters.postgres.pool import open_pool
from sercha.errors import Unavailable
from tests.support.connections import connected, value_of
from tests.support.postgres import PostgresServer, tls_bin_dir

Factory = Callable[..., PostgresServer]


class Secured:
    """A server that takes nothing but TLS, and the authority that signed its certificate."""

    def __init__(self, factory: Factory, folder: Path) -> None:
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost", common_name="localhost")
        self.authority = folder / "authority.pem"
        authority.cert_pem.write_to_path(str(self.authority))
        self.server = factory(
            bin_dir=tls_bin_dir(),
            ssl=True,
            ssl_cert_file="server.crt",
            ssl_key_file="server.key",
            files={
                "server.crt": b"".join(pem.bytes() for pem in certificate.cert_chain_pems),
                "server.key": certificate.private_key_pem.bytes(),
            },
            hba=("local all all trust", "hostssl all all 127.0.0.1/32 scram-sha-256"),
        )

    def conninfo(self, **changes: object) -> str:
        params = {
            "host": "localhost",
            "hostaddr": "127.0.0.1",
            "port": self.server.port,
            "user": "postgres",
            "dbname": "postgres",
            "password": self.server.password,
            "sslmode": "verify-full",
            "sslrootcert": self.authority,
            **changes,
        }
        return " ".join(f"{name}={value}" for name, value in params.items() if value is not None)


@pytest.fixture
def secured(
    postgres_factory: Factory, tmp_path: Path, require: Callable[[str, object, str], None]
) -> Secured:
    require("postgres-tls", tls_bin_dir(), "no PostgreSQL with TLS is installed on this system")
    return Secured(postgres_factory, tmp_path)


async def test_everything_about_tls(secured: Secured, tmp_path: Path) -> None:
    """One server for all of it, since a start takes a second."""
    await right_authority_and_name_connect(secured)
    await queries_are_cancelled_over_tls(secured)
    await large_answers_come_through(secured)
    await wrong_authority_is_refused(secured, tmp_path)
    await wrong_name_is_refused(secured)
    await without_tls_the_server_refuses(secured)
    await broken_idle_connection_is_replaced(secured)


async def right_authority_and_name_connect(secured: Secured) -> None:
    for hostaddr in ("127.0.0.1", None):  # None: the name is looked up, and checked all the same
        async with connected(secured.conninfo(hostaddr=hostaddr)) as connection:
            query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            assert await value_of(connection, query) is True


async def queries_are_cancelled_over_tls(secured: Secured) -> None:
    async with connected(secured.conninfo()) as connection:
        with trio.move_on_after(0.1) as scope:
            await connection.execute("SELECT pg_sleep(30)")
        assert scope.cancelled_caught
        assert not connection.closed
        assert await value_of(connection, "SELECT 7") == 7


async def large_answers_come_through(secured: Secured) -> None:
    async with connected(secured.conninfo()) as connection:
        assert await value_of(connection, "SELECT length(%s)", "x" * 3_000_000) == 3_000_000
        assert await value_of(connection, "SELECT repeat('x', 3000000)") == "x" * 3_000_000


async def wrong_authority_is_refused(secured: Secured, folder: Path) -> None:
    other = folder / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    with pytest.raises(Unavailable, match="certificate verify failed") as caught:
        await use(secured.conninfo(sslrootcert=other))
    assert secured.server.password not in str(caught.value)


async def wrong_name_is_refused(secured: Secured) -> None:
    with pytest.raises(Unavailable, match=r"certificate for .localhost. does not match host name"):
        await use(secured.conninfo(host="db.example.org"))
    await use(secured.conninfo(host="db.example.org", sslmode="verify-ca"))


async def without_tls_the_server_refuses(secured: Secured) -> None:
    with pytest.raises(Unavailable, match="no encryption"):
        await use(secured.conninfo(sslmode="disable", sslrootcert=None))


async def broken_idle_connection_is_replaced(secured: Secured) -> None:
    async with open_pool(secured.conninfo()) as pool:
        async with pool.connection() as connection:
            pid = connection.info.backend_pid
        async with pool.connection() as connection:
            assert connection.info.backend_pid == pid  # nothing unread makes it look broken
        await trio.to_thread.run_sync(
            secured.server.execute, f"SELECT pg_terminate_backend({pid}, 5000)"
        )
        async with pool.connection() as connection:
            assert connection.info.backend_pid != pid


async def use(conninfo: str) -> None:
    async with open_pool(conninfo) as pool, pool.connection() as connection:
        await connection.execute("SELECT 1")
