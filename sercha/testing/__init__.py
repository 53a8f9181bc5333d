"""What tests of Sercha, and of programs that embed it, can use: a network that fails on demand."""

from sercha.testing.proxy import FaultProxy, open_proxy
from sercha.testing.proxy_state import Direction, Directions, End, ProxyStatistics

__all__ = ["Direction", "Directions", "End", "FaultProxy", "ProxyStatistics", "open_proxy"]
