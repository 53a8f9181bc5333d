"""The reference engine: what the search port means, in plain Python, without files and without a server."""

from sercha.adapters.memory.index import MemoryIndex

__all__ = ["MemoryIndex"]
