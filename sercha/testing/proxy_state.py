"""What the connections of one proxy share: the faults that hold at present, and the numbers.

Faults are looked up for each chunk at the moment it would be sent on, so a switch concerns all bytes that
are not delivered yet. Randomness is not shared: each direction of each connection draws from a source of
its own, so that connections cannot disturb each other's draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

import trio

Direction = Literal["up", "down"]
"""``up`` is from the client to the server, ``down`` from the server to the client."""

Directions = Literal["up", "down", "both"]

End = Literal["client", "server"]

BOTH: tuple[Direction, Direction] = ("up", "down")


@dataclass(frozen=True, slots=True)
class ProxyStatistics:
    """A moment of the proxy. All but ``open`` and ``held_*`` only grow."""

    accepted: int = 0
    """Connections of clients, those refused or ignored included."""
    open: int = 0
    """Connections with at least one end that is not closed yet."""
    refused: int = 0
    unreachable: int = 0
    """Connections that ended because the target could not be reached."""
    cut: int = 0
    """Connections that a fault ended or robbed of one end; those refused do not count."""
    bytes_up: int = 0
    """Bytes handed to the receiver's kernel."""
    bytes_down: int = 0
    held_up: int = 0
    """Bytes taken from the sender and not yet delivered, swallowed or cut off."""
    held_down: int = 0
    swallowed_up: int = 0
    """Bytes taken from the sender that came to nothing while the connection stayed open."""
    swallowed_down: int = 0


class Ledger:
    """Counts, and wakes those who wait for a count."""

    def __init__(self) -> None:
        self.now = ProxyStatistics()
        self._counted = trio.lowlevel.ParkingLot()

    def count(self, **more: int) -> None:
        """Add to the fields named."""
        sums: dict[str, int] = {name: getattr(self.now, name) + n for name, n in more.items()}
        self.now = replace(self.now, **sums)
        self._counted.unpark_all()

    async def wait_until(self, condition: Callable[[ProxyStatistics], bool]) -> None:
        """Return once *condition* holds; cancellation changes nothing."""
        await trio.lowlevel.checkpoint()
        while not condition(self.now):
            await self._counted.park()


@dataclass(slots=True, eq=False)
class Cut:
    """A limit of bytes in one direction, for each connection anew; compared by identity."""

    after: int
    is_reset: bool
    connections_left: int | None
    """How many connections it may still cut; None for all."""

    def take(self) -> bool:
        """Claim one of the connections left to cut; whether there was one."""
        if self.connections_left is None:
            return True
        self.connections_left -= 1
        return self.connections_left >= 0


@dataclass(frozen=True, slots=True)
class Faults:
    """What is wrong in one direction."""

    delay: float = 0.0
    jitter: float = 0.0
    is_black_hole: bool = False
    drop_probability: float = 0.0
    cut: Cut | None = None


class Conditions:
    """The present faults of both directions, with the seed and the ledger of the proxy."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.ledger = Ledger()
        self._faults: dict[Direction, Faults] = {"up": Faults(), "down": Faults()}
        self._changed = trio.lowlevel.ParkingLot()

    def faults(self, direction: Direction) -> Faults:
        """Return what holds now."""
        return self._faults[direction]

    def change(self, directions: Directions, edit: Callable[[Faults], Faults]) -> None:
        """Replace the faults of one direction or both, and have held bytes look again."""
        for direction in BOTH if directions == "both" else (directions,):
            self._faults[direction] = edit(self._faults[direction])
        self._changed.unpark_all()

    async def wait_changed(self) -> None:
        """Return at the next `change`; cancellation changes nothing."""
        await self._changed.park()

    def random(self, number: int, direction: Direction) -> Random:
        """Return the source of randomness for one direction of connection *number*."""
        return Random(f"{self.seed}/{number}/{direction}")
