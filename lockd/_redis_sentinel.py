"""Where the master is, as Sentinels tell; asked anew for each connection.

A Sentinel can be behind: it names a server that was master, and is a replica or cut off by now. The first is found
out by asking the server itself. The second is not, for as long as nobody can reach it to tell it: see `lockd.Fence`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import trio

from lockd._errors import StoreUnreachable
from lockd._redis_address import RedisAddress
from lockd._redis_link import Command, explain

ASK_SECONDS = 1.0
"""How long one Sentinel may take before the next is asked."""

Ask = Callable[[RedisAddress, Command], Awaitable[object]]
"""Sends one command over a connection of its own."""


async def find_master(address: RedisAddress, ask: Ask) -> RedisAddress:
    """Return the master's own address, as the first Sentinel says that knows one.

    Raises:
        StoreUnreachable: none does; the message is about the last one.
    """
    reason = "no Sentinel answers"
    for host, port in address.sentinels:
        sentinel = replace(
            address,
            host=host,
            port=port,
            database=0,
            username=None,
            password=address.sentinel_password,
            sentinels=(),
        )
        with trio.move_on_after(ASK_SECONDS):
            try:
                reply = await ask(sentinel, ("SENTINEL", "get-master-addr-by-name", address.host))
            except StoreUnreachable as error:
                reason = str(error)
                continue
            match reply:
                case [bytes(master), bytes(digits)] if digits.isdigit():
                    return replace(address, host=master.decode(), port=int(digits), sentinels=())
                case _:
                    reason = f"the Sentinel at {host}:{port} knows no master of this name"
    raise explain(address, reason)


def check_role(address: RedisAddress, reply: Any) -> None:
    """Raise `StoreUnreachable` unless this reply to ROLE is a master's."""
    match reply:
        case [b"master", *_]:
            return
        case _:
            raise explain(address, "it is no master (any more)")
