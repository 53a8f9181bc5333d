"""Identifiers in the order of their making."""

from __future__ import annotations

import secrets
import time
from uuid import UUID


def new_id() -> UUID:
    """Return a UUID version 7 (RFC 9562, section 5.7): milliseconds of the wall clock, then 74 random bits.

    Rows made together stand together in an index on them, and the newest sort last. Nothing else may be read
    from the order: clocks of different machines differ.
    """
    milliseconds = time.time_ns() // 1_000_000
    bits = secrets.randbits(80)
    high = (milliseconds << 16) | 0x7000 | (bits >> 64 & 0x0FFF)
    low = 0x8000_0000_0000_0000 | (bits & 0x3FFF_FFFF_FFFF_FFFF)
    return UUID(int=(high << 64) | low)
