"""Each fault of the proxy does what it says, concerns nothing else, and can be taken back."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from sercha.testing import End
from tests.support.proxied import (
    SILENCE,
    Lab,
    ending,
    is_silent,
    laboratory,
    receive,
    receive_all,
    swallowed,
    vanish,
    works,
)


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with laboratory() as lab:
        yield lab


# --- Black hole and half-open ----------------------------------------------------------------------------


async def test_a_black_hole_swallows_one_direction_and_the_connection_stays(lab: Lab) -> None:
    client, server = await lab.pair()
    lab.proxy.black_hole("up")

    await client.send_all(b"lost")
    await swallowed(lab.proxy, up=4)
    await server.send_all(b"heard")

    assert await receive(client, 5) == b"heard"
    assert await is_silent(client, server)
    found = lab.proxy.statistics()
    assert (found.open, found.bytes_up, found.swallowed_up, found.cut) == (1, 0, 4, 0)


async def test_healing_a_black_hole_resets_the_connections_that_lost_bytes(lab: Lab) -> None:
    robbed, unharmed = await lab.pair(), await lab.pair()
    lab.proxy.black_hole()
    await robbed[1].send_all(b"lost")
    await swallowed(lab.proxy, down=4)

    lab.proxy.heal()

    assert await ending(robbed[0]) == "reset"
    assert await ending(robbed[1]) == "reset"
    assert await works(*unharmed)
    assert await works(*await lab.pair())
    assert lab.proxy.statistics().cut == 1


async def test_a_black_hole_swallows_the_end_of_a_stream(lab: Lab) -> None:
    """The server keeps what a dead client had, its locks for instance, until the network is back."""
    client, server = await lab.pair()
    assert await works(client, server)
    lab.proxy.black_hole()
    await client.send_all(b"last words")
    vanish(client)
    await swallowed(lab.proxy, up=10)

    assert await is_silent(server)
    lab.proxy.heal()
    assert await ending(server) == "reset"


@pytest.mark.parametrize("gone", ["server", "client"])
async def test_half_open_closes_one_end_and_tells_the_other_nothing(lab: Lab, gone: End) -> None:
    client, server = await lab.pair()
    assert await works(client, server)
    told, untold = (server, client) if gone == "server" else (client, server)

    lab.proxy.half_open(gone)

    assert await ending(told) == "end"
    await untold.send_all(b"anybody there?")
    await swallowed(lab.proxy, **{"up" if gone == "server" else "down": 14})
    assert await is_silent(untold)
    assert await works(*await lab.pair())
    found = lab.proxy.statistics()
    assert (found.open, found.cut) == (2, 1)

    lab.proxy.heal()
    assert await ending(untold) == "reset"
    await lab.proxy.wait_until(lambda now: now.open == 1)
    assert lab.proxy.statistics().cut == 1


async def test_a_half_open_connection_is_over_when_the_end_left_closes(lab: Lab) -> None:
    client, server = await lab.pair()
    assert await works(client, server)
    lab.proxy.half_open()
    assert await ending(server) == "end"

    await client.aclose()

    await lab.proxy.wait_until(lambda now: now.open == 0)


@pytest.mark.parametrize("fault", ["cut", "reset", "no server", "no client"])
async def test_a_connection_that_is_being_made_gets_the_faults_too(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """The target may have accepted before the proxy knows of it."""
    connect, may_return = lab.proxy._connect, trio.Event()

    async def connect_slowly() -> trio.SocketStream:
        stream = await connect()
        await may_return.wait()
        return stream

    monkeypatch.setattr(lab.proxy, "_connect", connect_slowly)
    client, server = await lab.pair()

    switches = {
        "cut": lab.proxy.cut,
        "reset": lab.proxy.reset,
        "no server": lambda: lab.proxy.half_open("server"),
        "no client": lambda: lab.proxy.half_open("client"),
    }
    switches[fault]()
    may_return.set()

    if fault == "no server":
        assert (await ending(server), await is_silent(client)) == ("end", True)
    elif fault == "no client":
        assert (await ending(client), await is_silent(server)) == ("end", True)
    else:
        how = {"cut": "end"}.get(fault, fault)
        assert (await ending(client), await ending(server)) == (how, how)


# --- Cut, reset and drop ---------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True])
async def test_cut_after_some_bytes(lab: Lab, reset: bool) -> None:
    """The bytes count from the switch for a connection that there is, from the start for a new one."""
    old = await lab.pair()
    assert await works(*old)
    lab.proxy.cut_after(5, "down", reset=reset)
    new = await lab.pair()

    for client, server in (old, new):
        await server.send_all(b"123")
        assert await receive(client, 3) == b"123"
        await client.send_all(b"as much as I like")
        assert await receive(server, 17) == b"as much as I like"
        await server.send_all(b"4567")
        assert await receive(client, 2) == b"45"
        assert await ending(client) == ("reset" if reset else "end")
        assert await ending(server) == ("reset" if reset else "end")

    assert lab.proxy.statistics().cut == 2
    assert lab.proxy.statistics().bytes_down == 6 + 5 + 5


async def test_cut_after_all_bytes_of_a_message_delivers_it(lab: Lab) -> None:
    client, server = await lab.pair()
    lab.proxy.cut_after(4, "up")

    await client.send_all(b"bye!")

    assert await receive_all(server) == b"bye!"
    assert await ending(client) == "end"


async def test_a_cut_can_be_for_a_number_of_connections(lab: Lab) -> None:
    lab.proxy.cut_after(1, "up", times=2)

    for _ in range(2):
        client, server = await lab.pair()
        await client.send_all(b"xy")
        assert await receive_all(server) == b"x"
    assert await works(*await lab.pair())
    assert lab.proxy.statistics().cut == 2


async def test_the_next_reply_is_lost_and_its_request_arrives(lab: Lab) -> None:
    client, server = await lab.pair()
    assert await works(client, server)

    lab.proxy.lose_next_reply()

    await client.send_all(b"do it")
    assert await receive(server, 5) == b"do it"
    assert await is_silent(client)
    await server.send_all(b"done")
    assert await receive_all(client) == b""
    assert await works(*await lab.pair())


async def test_an_orderly_cut_is_one_although_bytes_were_not_read(lab: Lab) -> None:
    """Linux answers bytes that nobody reads any more by RST: the peer must see the end before it."""
    client, _ = await lab.pair()
    lab.proxy.hold("up")
    with trio.move_on_after(SILENCE):
        await client.send_all(bytes(30_000_000))

    lab.proxy.cut()

    assert await client.receive_some() == b""


async def test_reset_breaks_all_connections_of_now(lab: Lab) -> None:
    pairs = [await lab.pair() for _ in range(3)]
    assert [await works(*pair) for pair in pairs] == [True] * 3

    lab.proxy.reset()

    assert [await ending(stream) for pair in pairs for stream in pair] == ["reset"] * 6
    assert await works(*await lab.pair())
    found = lab.proxy.statistics()
    assert (found.accepted, found.cut, found.open) == (4, 3, 1)


async def dropped_at(seed: int, probability: float) -> list[int]:
    """How many of 20 one-byte requests each of four connections gets through."""
    counts: list[int] = []
    async with laboratory(seed) as lab:
        lab.proxy.drop_randomly(probability, direction="up")
        for _ in range(4):
            client, server = await lab.pair()
            passed = 0
            for _ in range(20):
                await client.send_all(b"x")
                if await receive(server, 1) != b"x":
                    assert await ending(client) == "end"
                    break
                await server.send_all(b"y")
                assert await receive(client, 1) == b"y"
                passed += 1
            counts.append(passed)
        assert lab.proxy.statistics().cut == sum(count < 20 for count in counts)
    return counts


async def test_random_drops_are_the_same_for_the_same_seed(seed: int) -> None:
    counts = await dropped_at(seed, 0.1)

    assert await dropped_at(seed, 0.1) == counts
    assert [await dropped_at(seed + n, 0.1) for n in range(1, 6)] != [counts] * 5
    assert await dropped_at(seed, 0.0) == [20] * 4
    assert await dropped_at(seed, 1.0) == [0] * 4


# --- New connections -------------------------------------------------------------------------------------


async def test_new_connections_can_be_refused(lab: Lab) -> None:
    old = await lab.pair()
    lab.proxy.refuse_new()

    assert await ending(await lab.client()) == "end"

    assert await works(*old)
    found = lab.proxy.statistics()
    assert (found.accepted, found.refused, found.open, found.cut) == (2, 1, 1, 0)
    lab.proxy.heal()
    assert await works(*await lab.pair())


async def test_new_connections_can_be_ignored(lab: Lab) -> None:
    old = await lab.pair()
    lab.proxy.ignore_new()

    client = await lab.client()
    await client.send_all(b"hello?")
    await swallowed(lab.proxy, up=6)

    assert await is_silent(client)
    assert await works(*old)
    found = lab.proxy.statistics()
    assert (found.accepted, found.refused, found.open) == (2, 1, 2)
    lab.proxy.heal()
    assert await ending(client) == "reset"
    assert await works(
        *await lab.pair()
    )  # the server's next connection: the ignored one never came


# --- Healing -------------------------------------------------------------------------------------------


async def test_healing_takes_every_fault_back(lab: Lab) -> None:
    old = await lab.pair()
    lab.proxy.delay(3600, jitter=3600)
    lab.proxy.black_hole()
    lab.proxy.drop_randomly(1.0)
    lab.proxy.cut_after(0, "up")
    lab.proxy.cut_after(0, "down")
    lab.proxy.refuse_new()

    lab.proxy.heal()

    assert await works(*old)
    assert await works(*await lab.pair())
