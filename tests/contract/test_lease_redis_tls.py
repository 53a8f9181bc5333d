"""Redis over TLS with a private authority: the certificate and the host name are checked."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
import trio
import trustme

import lockd._redis_client as module
from lockd import EventKind, Granted, StoreUnreachable, hold
from lockd.redis import open_redis_store
from tests.support.connections import until
from tests.support.leases import Diary
from tests.support.postgres import free_port
from tests.support.redis import RedisServer, tls_binary

Factory = Callable[..., RedisServer]


class Secured:
    """A server with a port for TLS, and the authority that signed its certificate."""

    def __init__(self, factory: Factory, folder: Path) -> None:
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost", common_name="localhost")
        self.authority = folder / "authority.pem"
        authority.cert_pem.write_to_path(str(self.authority))
        self.tls_port = free_port()
        self.server = factory(
            binary=tls_binary(),
            tls_port=self.tls_port,
            tls_cert_file="server.crt",
            tls_key_file="server.key",
            tls_auth_clients="no",
            requirepass="hush",
            files={
                "server.crt": b"".join(pem.bytes() for pem in certificate.cert_chain_pems),
                "server.key": certificate.private_key_pem.bytes(),
            },
        )

    def url(self, *, host: str = "localhost", authority: Path | None = None) -> str:
        file = authority or self.authority
        return f"rediss://:hush@{host}:{self.tls_port}/0?ssl_ca_certs={file}"


@pytest.fixture
def secured(
    redis_factory: Factory, tmp_path: Path, require: Callable[[str, object, str], None]
) -> Secured:
    require("redis-tls", tls_binary(), "no redis-server with TLS is installed on this system")
    return Secured(redis_factory, tmp_path)


async def test_everything_about_tls(
    secured: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await right_authority_and_name_hold_and_hand_over(secured)
    await context_may_be_given(secured)
    await wrong_authority_is_refused(secured, tmp_path)
    await wrong_name_is_refused(secured)
    await cancelled_requests_leave_nothing(secured)
    monkeypatch.setattr(module, "REQUEST_SECONDS", 0.5)
    await plain_text_is_refused(secured)


async def right_authority_and_name_hold_and_hand_over(secured: Secured) -> None:
    diary = Diary()

    async def come_next() -> None:
        async with hold(other, "x", ttl=5, observe=diary):
            pass

    async with (
        open_redis_store(secured.url()) as store,
        open_redis_store(secured.url()) as other,
        trio.open_nursery() as nursery,
    ):
        async with hold(store, "x", ttl=5, observe=diary):
            nursery.start_soon(come_next)
            await diary.wait_for(EventKind.WAITING)
            await diary.wait_for(EventKind.RENEWED, times=2)
        with trio.fail_after(2):
            await diary.wait_for(EventKind.ACQUIRED, times=2)
    await until(lambda: secured.server.clients() == [])


async def context_may_be_given(secured: Secured) -> None:
    context = ssl.create_default_context(cafile=secured.authority)
    url = f"rediss://:hush@localhost:{secured.tls_port}"
    async with open_redis_store(url, ssl_context=context) as store:
        assert await store.acquire("given", uuid4(), 5, 0) == Granted(None)


async def wrong_authority_is_refused(secured: Secured, folder: Path) -> None:
    other = folder / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    assert "certificate verify failed" in await refusal(secured.url(authority=other))
    assert "certificate verify failed" in await refusal(secured.url().partition("?")[0])


async def wrong_name_is_refused(secured: Secured) -> None:
    assert "certificate verify failed" in await refusal(secured.url(host="127.0.0.1"))
    url = f"{secured.url(host='127.0.0.1')}&ssl_check_hostname=no"
    async with open_redis_store(url) as store:
        await store.seen("x")


async def plain_text_is_refused(secured: Secured) -> None:
    await refusal(f"redis://:hush@localhost:{secured.tls_port}")
    await refusal(secured.url().replace(str(secured.tls_port), str(secured.server.port)))


async def cancelled_requests_leave_nothing(secured: Secured) -> None:
    async with open_redis_store(secured.url()) as store:
        for number in range(60):
            with trio.move_on_after(number / 10_000):  # a handshake takes some milliseconds
                async with store.notices("x"):
                    await store.seen("x")
        assert (await store.inspect("x")).holder is None
    await until(lambda: secured.server.clients() == [])


async def refusal(url: str) -> str:
    with trio.fail_after(10):
        async with open_redis_store(url) as store:
            with pytest.raises(StoreUnreachable) as caught:
                await store.seen("x")
    message = str(caught.value)
    assert "\n" not in message
    assert "hush" not in message
    return message
