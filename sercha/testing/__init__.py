"""What tests of Sercha, and of programs that embed it, can use: a network that fails on demand, an index in memory."""

from typing import TYPE_CHECKING

from sercha.testing.proxy import FaultProxy, open_proxy
from sercha.testing.proxy_state import Direction, Directions, End, ProxyStatistics

if TYPE_CHECKING:
    from sercha.adapters.memory import MemoryIndex

__all__ = [
    "Direction",
    "Directions",
    "End",
    "FaultProxy",
    "MemoryIndex",
    "ProxyStatistics",
    "open_proxy",
]


def __getattr__(name: str) -> object:
    """Import the index when it is first used: the network goes without Sercha."""
    if name != "MemoryIndex":
        raise AttributeError(name)
    from sercha.adapters.memory import MemoryIndex

    return MemoryIndex
