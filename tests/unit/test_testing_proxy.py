"""The fault proxy without faults, under delays, and when its block ends."""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from sercha.testing import End, FaultProxy, ProxyStatistics, open_proxy
from sercha.testing import proxy as proxy_module
from sercha.testing.proxy_connection import CHUNK_BYTES, CHUNKS_MAX
from tests.support.proxied import (
    SILENCE,
    Lab,
    ending,
    is_silent,
    laboratory,
    port_of,
    receive,
    receive_all,
    vanish,
    works,
)

BUFFER_BYTES = CHUNK_BYTES * (CHUNKS_MAX + 2)  # one more with the reader, one with the writer


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with laboratory() as lab:
        yield lab


async def settled() -> None:
    """Let everything happen that can happen without time going on."""
    await trio.testing.wait_all_tasks_blocked(0.01)


# --- Without faults --------------------------------------------------------------------------------------


async def test_bytes_and_the_end_of_each_direction_pass(lab: Lab) -> None:
    client, server = await lab.pair()

    assert await works(client, server)
    await client.send_eof()
    assert await server.receive_some() == b""
    await server.send_all(b"more")
    await server.send_eof()
    assert await receive_all(client) == b"more"
    await lab.proxy.wait_until(lambda now: now.open == 0)
    assert lab.proxy.statistics() == ProxyStatistics(accepted=1, bytes_up=3, bytes_down=10)


async def test_much_at_once_in_both_directions_arrives_as_it_was_sent(lab: Lab) -> None:
    client, server = await lab.pair()
    up, down = random.Random(1).randbytes(3_000_000), random.Random(2).randbytes(3_000_000)

    async def exchange(stream: trio.SocketStream, outgoing: bytes, incoming: bytes) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, outgoing)
            assert await receive(stream, len(incoming)) == incoming

    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange, client, up, down)
        nursery.start_soon(exchange, server, down, up)

    found = lab.proxy.statistics()
    assert (found.bytes_up, found.bytes_down) == (3_000_000, 3_000_000)
    assert (found.held_up, found.held_down) == (0, 0)


@pytest.mark.parametrize("who", ["client", "server"])
async def test_a_reset_by_one_end_reaches_the_other(lab: Lab, who: End) -> None:
    client, server = await lab.pair()
    assert await works(client, server)
    gone, left = (client, server) if who == "client" else (server, client)

    vanish(gone)

    assert await ending(left) == "reset"
    await lab.proxy.wait_until(lambda now: now.open == 0)
    assert lab.proxy.statistics().cut == 0


async def test_a_client_that_is_gone_is_noticed_by_what_the_server_sends(lab: Lab) -> None:
    """Closed after an orderly end: only an attempt to write finds out."""
    client, server = await lab.pair()
    await client.send_eof()
    assert await server.receive_some() == b""
    client.socket.close()

    with pytest.raises(trio.BrokenResourceError):
        while True:
            await server.send_all(b"x")
            await trio.sleep(0.001)
    await lab.proxy.wait_until(lambda now: now.open == 0)


async def test_a_unix_socket_can_be_the_target(tmp_path: Path) -> None:
    path = tmp_path / "server"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        sock.setblocking(False)
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
        async with open_proxy(target_path=path, seed=3) as proxy:
            client = await trio.open_tcp_stream(proxy.host, proxy.port)
            server = await listener.accept()
            async with client, server:
                assert await works(client, server)
                proxy.reset()
                assert await ending(client) == "reset"
                assert await ending(server) == "end"
            assert repr(proxy) == f"<FaultProxy 127.0.0.1:{proxy.port} -> {path}, seed=3>"


async def test_a_target_that_is_not_there_resets_the_client() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        async with open_proxy("127.0.0.1", port, seed=12) as proxy:
            assert (
                repr(proxy) == f"<FaultProxy 127.0.0.1:{proxy.port} -> 127.0.0.1:{port}, seed=12>"
            )
            async with await trio.open_tcp_stream(proxy.host, proxy.port) as client:
                assert await ending(client) == "reset"
            assert proxy.statistics() == ProxyStatistics(accepted=1, unreachable=1)


async def test_arguments_that_mean_nothing_are_refused() -> None:
    wrong: list[Callable[[FaultProxy], None]] = [
        lambda proxy: proxy.delay(-1),
        lambda proxy: proxy.delay(1, jitter=-0.1),
        lambda proxy: proxy.cut_after(-1, "up"),
        lambda proxy: proxy.cut_after(1, "up", times=0),
        lambda proxy: proxy.drop_randomly(1.1),
    ]
    async with open_proxy(target_port=1) as proxy:
        for call in wrong:
            with pytest.raises(ValueError):
                call(proxy)
    for neither_or_both in ({}, {"target_port": 1, "target_path": "x"}):
        with pytest.raises(ValueError, match="either target_port or target_path"):
            async with open_proxy(**neither_or_both):  # type: ignore[arg-type]
                pass


# --- Delay and hold --------------------------------------------------------------------------------------


async def test_a_delay_is_one_of_time_and_not_of_rate(lab: Lab, mock_clock: MockClock) -> None:
    client, server = await lab.pair()
    lab.proxy.delay(1, direction="up")

    for _ in range(5):
        await client.send_all(b"x")
        await settled()
    mock_clock.jump(0.99)
    await settled()
    assert (lab.proxy.statistics().held_up, lab.proxy.statistics().bytes_up) == (5, 0)
    mock_clock.jump(0.02)
    await settled()
    assert (lab.proxy.statistics().held_up, lab.proxy.statistics().bytes_up) == (0, 5)

    await server.send_all(b"y")
    await settled()
    assert lab.proxy.statistics().bytes_down == 1


async def test_jitter_keeps_the_order(lab: Lab) -> None:
    client, server = await lab.pair()
    lab.proxy.delay(0, jitter=0.02)
    sent = random.Random(3).randbytes(20 * CHUNK_BYTES)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, sent)
        assert await receive(server, len(sent)) == sent


async def steps_until_delivered(seed: int, clock: MockClock) -> list[int]:
    """Send four times on each of two connections; count the steps of 10 ms that each delivery takes."""
    found: list[int] = []
    async with laboratory(seed) as lab:
        lab.proxy.delay(0, jitter=0.08, direction="up")
        for client in [await lab.client(), await lab.client()]:
            for _ in range(4):
                await client.send_all(b"x")
                await settled()
                steps = 0
                while lab.proxy.statistics().held_up:
                    clock.jump(0.01)
                    steps += 1
                    await settled()
                found.append(steps)
    return found


async def test_jitter_is_drawn_from_the_seed(seed: int, mock_clock: MockClock) -> None:
    steps = await steps_until_delivered(seed, mock_clock)

    assert await steps_until_delivered(seed, mock_clock) == steps
    assert await steps_until_delivered(seed + 1, mock_clock) != steps
    assert 0 < max(steps) <= 9
    assert steps[:4] != steps[4:]


async def test_what_is_held_arrives_after_healing_with_the_end_of_the_stream(lab: Lab) -> None:
    client, server = await lab.pair()
    lab.proxy.hold("up")
    await client.send_all(b"late")
    await client.send_eof()
    await lab.proxy.wait_until(lambda now: now.held_up == 4)

    assert await is_silent(server)
    await server.send_all(b"in time")
    assert await receive(client, 7) == b"in time"
    lab.proxy.heal()
    assert await receive_all(server) == b"late"
    assert lab.proxy.statistics().held_up == 0


async def test_a_shorter_delay_concerns_what_is_under_way(lab: Lab) -> None:
    client, server = await lab.pair()
    lab.proxy.delay(3600)
    await client.send_all(b"late")
    await lab.proxy.wait_until(lambda now: now.held_up == 4)

    lab.proxy.delay(0)

    assert await receive(server, 4) == b"late"


async def test_the_buffer_is_bounded_and_the_sender_waits(lab: Lab) -> None:
    client, server = await lab.pair()
    sent = random.Random(4).randbytes(30_000_000)
    is_sent = trio.Event()

    async def send() -> None:
        await client.send_all(sent)
        is_sent.set()

    lab.proxy.hold()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await lab.proxy.wait_until(lambda now: now.held_up > BUFFER_BYTES // 2)
        await trio.testing.wait_all_tasks_blocked(SILENCE)
        assert lab.proxy.statistics().held_up <= BUFFER_BYTES
        assert not is_sent.is_set()

        lab.proxy.heal()
        assert await receive(server, len(sent)) == sent


# --- Waiting and leaving --------------------------------------------------------------------------------


async def test_waiting_for_bytes_counts_from_the_call_or_from_earlier_statistics(lab: Lab) -> None:
    client, server = await lab.pair()
    before = lab.proxy.statistics()
    assert await works(client, server)
    seen: list[str] = []

    async def note(name: str, goal: int, since: ProxyStatistics | None) -> None:
        await lab.proxy.wait_bytes("up", goal, since=since)
        seen.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(note, "since", 3, before)
        nursery.start_soon(note, "call", 3, None)
        nursery.start_soon(note, "never", 4, None)
        await trio.testing.wait_all_tasks_blocked()
        assert seen == ["since"]
        await client.send_all(b"abc")
        await receive(server, 3)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert seen == ["since", "call"]
        nursery.cancel_scope.cancel()


async def test_waiting_for_connections(lab: Lab) -> None:
    await lab.pair()
    before = lab.proxy.statistics()
    lab.proxy.refuse_new()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lab.proxy.wait_connections, 2)
        await trio.testing.wait_all_tasks_blocked()
        for number in (1, 2):
            assert len(nursery.child_tasks) == 1
            await lab.client()
            await lab.proxy.wait_connections(number, since=before)
    assert lab.proxy.statistics().accepted == 3


async def test_more_connections_than_the_limit_wait_for_one_to_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(proxy_module, "CONNECTIONS_MAX", 2)
    async with laboratory() as lab:
        kept, ended = await lab.pair(), await lab.pair()
        assert (await works(*kept), await works(*ended)) == (True, True)
        waiting = await lab.client()
        await settled()
        assert lab.proxy.statistics().accepted == 2

        for stream in ended:
            await stream.aclose()
        assert await works(waiting, await lab.server())
        for stop in (lab.proxy.cut, lab.proxy.reset, lab.proxy.half_open):
            stop()
            lab.proxy.heal()
            assert await works(*await lab.pair())
        lab.proxy.refuse_new()
        for _ in range(3):
            assert await ending(await lab.client()) == "end"


@pytest.mark.parametrize("how", ["normally", "by an error", "cancelled"])
async def test_nothing_remains_when_the_block_ends(how: str) -> None:
    listener, *_ = await trio.open_tcp_listeners(0, host="127.0.0.1")
    proxies: list[FaultProxy] = []
    streams: list[trio.SocketStream] = []

    async def use(scope: trio.CancelScope) -> None:
        async with open_proxy(target_port=port_of(listener)) as proxy:
            proxies.append(proxy)
            lab = Lab(proxy, listener, closing)
            streams.extend(await lab.pair())
            assert await works(*streams)
            proxy.half_open("client")
            streams.extend(await lab.pair())
            proxy.hold()
            streams.extend(await lab.pair())
            await streams[-1].send_all(b"held")
            await proxy.wait_until(lambda now: now.held_down == 4)
            if how == "by an error":
                raise LookupError("the block's own, in no group")
            if how == "cancelled":
                scope.cancel()
            await trio.lowlevel.checkpoint()

    with trio.fail_after(10), ExitStack() as closing:
        with trio.CancelScope() as scope:
            async with listener:
                if how == "by an error":
                    with pytest.raises(LookupError):
                        await use(scope)
                else:
                    await use(scope)

        assert scope.cancelled_caught == (how == "cancelled")
        assert [await ending(stream) for stream in streams] == ["end"] * 6
        found = proxies[0].statistics()
        assert (found.open, found.held_up, found.held_down) == (0, 0, 0)
        with pytest.raises(OSError):
            await trio.open_tcp_stream(proxies[0].host, proxies[0].port)
