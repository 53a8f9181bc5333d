"""Wake-ups by LISTEN/NOTIFY: prompt while there is a connection, healed when there is none."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from sercha.adapters.postgres import notices as module
from sercha.adapters.postgres.notices import PostgresNotices, open_notices
from sercha.adapters.postgres.pool import ConnectionPool, open_pool
from tests.support.connections import connected, until, value_of
from tests.support.postgres import PostgresServer


@asynccontextmanager
async def listening(
    url: str, *channels: str
) -> AsyncIterator[tuple[ConnectionPool, PostgresNotices]]:
    async with open_pool(url) as pool, open_notices(pool, channels) as notices:
        with notices.subscribe(channels[0]) as subscription, trio.fail_after(10):
            await subscription.wait()  # woken when the connection is there
        assert notices.is_listening
        yield pool, notices


async def notify(pool: ConnectionPool, channel: str) -> None:
    async with pool.connection() as connection:
        await connection.execute("SELECT pg_notify(%s, '')", (channel,))


async def listener_pid(url: str) -> int:
    query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'sercha:notices'"
    async with connected(url) as watcher:
        return int(str(await value_of(watcher, query)))


async def test_a_notice_wakes_all_who_wait_on_its_channel_only(postgres_url: str) -> None:
    woken: list[str] = []

    async with listening(postgres_url, "bell", "door") as (pool, notices):

        async def wait(name: str, channel: str) -> None:
            with notices.subscribe(channel) as subscription:
                await subscription.wait()
                woken.append(name)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, "a", "bell")
            nursery.start_soon(wait, "b", "bell")
            nursery.start_soon(wait, "c", "door")
            await trio.testing.wait_all_tasks_blocked(0.01)
            with trio.fail_after(5):
                await notify(pool, "bell")
                while len(woken) < 2:
                    await trio.testing.wait_all_tasks_blocked(0.01)
            assert sorted(woken) == ["a", "b"]
            nursery.cancel_scope.cancel()


async def test_notices_while_nobody_waited_are_seen_once(postgres_url: str) -> None:
    async with listening(postgres_url, "bell") as (pool, notices):
        with notices.subscribe("bell") as subscription, notices.subscribe("bell") as other:
            for _ in range(3):
                await notify(pool, "bell")
            with trio.fail_after(5):
                await subscription.wait()
                await other.wait()
            await trio.sleep(0.05)
            with trio.move_on_after(1):
                await subscription.wait()  # the second of the three may have come in later
            with trio.move_on_after(0.05) as scope:
                await subscription.wait()
            assert scope.cancelled_caught


async def test_cancelled_wait_forgets_no_notice(postgres_url: str) -> None:
    async with listening(postgres_url, "bell") as (pool, notices):
        with notices.subscribe("bell") as subscription:
            for _ in range(20):
                with trio.move_on_after(0.002):
                    await subscription.wait()
                    raise AssertionError("nothing was sent")
                await notify(pool, "bell")
                with trio.fail_after(5):
                    await subscription.wait()


async def test_unusual_channel_names_are_quoted(postgres_url: str) -> None:
    async with listening(postgres_url, 'Odd "name"') as (pool, notices):
        with notices.subscribe('Odd "name"') as subscription, trio.fail_after(5):
            await notify(pool, 'Odd "name"')
            await subscription.wait()


async def test_lost_connection_is_opened_again_and_everybody_is_woken(postgres_url: str) -> None:
    async with listening(postgres_url, "bell", "door") as (pool, notices):
        with notices.subscribe("door") as subscription, trio.fail_after(10):
            pid = await listener_pid(postgres_url)
            async with connected(postgres_url) as killer:
                await killer.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
            await subscription.wait()

            assert notices.is_listening
            assert await listener_pid(postgres_url) != pid
            assert pool.statistics().dedicated == 1
            await notify(pool, "door")
            await subscription.wait()


async def test_it_heals_after_the_server_was_away(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    async with listening(postgres_url, "bell") as (pool, notices):
        with notices.subscribe("bell") as subscription, trio.fail_after(30):
            await trio.to_thread.run_sync(postgres_server.stop, "immediate")
            await until(lambda: not notices.is_listening)
            await trio.to_thread.run_sync(postgres_server.start)
            await subscription.wait()
            assert notices.is_listening
            await notify(pool, "bell")
            await subscription.wait()


async def test_a_server_that_is_away_at_the_start_is_no_error() -> None:
    async with (
        open_pool("host=127.0.0.1 port=1") as pool,
        open_notices(pool, ["bell"]) as notices,
    ):
        with notices.subscribe("bell") as subscription, trio.move_on_after(0.3) as scope:
            await subscription.wait()
        assert scope.cancelled_caught
        assert not notices.is_listening


async def test_the_block_ends_with_its_own_error_and_gives_the_connection_back(
    postgres_url: str,
) -> None:
    with pytest.raises(LookupError):
        await fail_while_listening(postgres_url)
    async with open_pool(postgres_url) as pool:
        with trio.CancelScope() as scope:
            async with open_notices(pool, ["bell"]):
                await until(lambda: pool.statistics().dedicated)
                scope.cancel()
                await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        assert pool.statistics().open == 0


async def fail_while_listening(url: str) -> None:
    async with listening(url, "bell"):
        raise LookupError


# --- Through a pooler ------------------------------------------------------------------------------------


@asynccontextmanager
async def pooler(server: PostgresServer, *, passes_notices: bool) -> AsyncIterator[int]:
    """Stand in for PgBouncer: gives clients a process id of its own; in transaction mode no notices."""

    async def serve(client: trio.SocketStream) -> None:
        async with (
            client,
            await trio.open_tcp_stream(server.host, server.port) as upstream,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(copy, client, upstream)
            await relay(upstream, client)
            nursery.cancel_scope.cancel()

    async def copy(source: trio.SocketStream, target: trio.SocketStream) -> None:
        async for chunk in source:
            await target.send_all(chunk)

    async def relay(source: trio.SocketStream, target: trio.SocketStream) -> None:
        buffer = bytearray()
        async for chunk in source:
            buffer += chunk
            while len(buffer) >= 5 and len(buffer) > (
                size := struct.unpack_from("!I", buffer, 1)[0]
            ):
                message = bytes(buffer[: size + 1])
                del buffer[: size + 1]
                if message[:1] == b"K":  # BackendKeyData
                    message = message[:5] + struct.pack("!I", 4_000_000) + message[9:]
                if message[:1] != b"A" or passes_notices:  # NotificationResponse
                    await target.send_all(message)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


def through(server: PostgresServer, port: int) -> str:
    return (
        f"host=127.0.0.1 port={port} user=postgres dbname=postgres password={server.password}"
        " sslmode=disable"
    )


async def test_pooler_that_passes_notices_on_is_used(postgres_server: PostgresServer) -> None:
    async with (
        pooler(postgres_server, passes_notices=True) as port,
        listening(through(postgres_server, port), "bell") as (pool, notices),
    ):
        with notices.subscribe("bell") as subscription, trio.fail_after(5):
            await notify(pool, "bell")
            await subscription.wait()


async def test_pooler_that_swallows_notices_is_found_out(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.2)
    async with (
        pooler(postgres_server, passes_notices=False) as port,
        open_pool(through(postgres_server, port)) as pool,
        open_notices(pool, ["bell"]) as notices,
    ):
        await until(lambda: pool.statistics().dedicated)
        await until(lambda: pool.statistics().dedicated == 0)
        assert not notices.is_listening
