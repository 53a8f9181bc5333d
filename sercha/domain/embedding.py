"""Embeddings: vectors that stand for what a text means, and the models that make them.

A vector always has length one: then the cosine, the angle and the dot product give the same order in every engine.
"""

from __future__ import annotations

import hashlib
import math
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

DIMENSIONS_MAX = 4_096
FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Vector:
    """A vector of length one."""

    packed: bytes
    """Numbers of 32 bits, little endian."""

    @staticmethod
    def unit(values: Sequence[float]) -> Vector:
        """Return *values* scaled to length one.

        Raises:
            ValueError: they have no direction: all are zero, or one is no finite number.
        """
        length = math.hypot(*values)
        if not math.isfinite(length) or length == 0:
            raise ValueError("the vector is zero, or holds what is no finite number")
        return Vector(_little(array("f", [value / length for value in values])).tobytes())

    @property
    def dimensions(self) -> int:
        """How many numbers it has."""
        return len(self.packed) // FLOAT_BYTES

    def values(self) -> list[float]:
        """Return its numbers."""
        return _little(array("f", self.packed)).tolist()

    def big_endian(self) -> bytes:
        """Return its numbers in the order of bytes that goes over networks."""
        numbers = array("f", self.packed)
        numbers.byteswap()
        return numbers.tobytes()


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """A model at an endpoint; vectors of different ones cannot be compared."""

    base_url: str
    """Of an interface like OpenAI's, up to and without ``/embeddings``."""
    model: str
    dimensions: int

    @property
    def name(self) -> str:
        """Eight hexadecimal digits that stand for it."""
        identity = "\n".join((self.base_url, self.model, str(self.dimensions)))
        return hashlib.sha256(identity.encode()).hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class Refused:
    """What stands in the place of the vector of a text for which there will be none."""

    reason: str


def embedded_text(heading: str, content: str) -> str:
    """Return what of a chunk is made a vector of: the headings above it say what it is about."""
    return f"{heading}\n{content}"


def content_hash(text: str) -> bytes:
    """Return the name under which the vector of *text* is kept: equal texts share one."""
    return hashlib.sha256(text.encode()).digest()


def _little(numbers: array[float]) -> array[float]:
    """Change between this machine's order of bytes and the one that is stored."""
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
