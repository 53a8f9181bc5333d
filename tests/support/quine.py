"""An archive that holds itself: whoever opens archives within archives never ends.

The way is Russ Cox's, "Zip Files All The Way Down": a program for DEFLATE, of literals and repeats in units of five
bytes, whose output is the whole archive around it. The checksum of the file stands in the file; it is found by solving
for its 32 bits, as a CRC is linear in them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

UNIT = 5
_LENGTHS = ((3, 10, 0), (11, 18, 1), (19, 34, 2), (35, 66, 3), (67, 130, 4))
_END_OF_STREAM = b"\x01\0\0\xff\xff"


def make_quine(name: str) -> bytes:
    """Return an archive whose one part, *name*, is the archive itself."""
    for stamp in range(1, 100):
        size = len(_archive(name, stamp, 0, 0))
        crc = _fixed_point(lambda value: zlib.crc32(_archive(name, stamp, size, value)))  # noqa: B023
        if crc is not None:
            return _archive(name, stamp, size, crc)
    raise AssertionError("no time of a part has a checksum that fits")


def _archive(name: str, stamp: int, size: int, crc: int) -> bytes:
    data_bytes = size - (30 + len(name)) - (46 + len(name)) - 22
    entry = struct.pack(
        "<HHHHHIIIHH", 20, 0, 8, stamp, 0x5A21, crc, max(0, data_bytes), size, len(name), 0
    )
    prefix = b"PK\x03\x04" + entry + name.encode()
    listed = b"PK\x01\x02" + struct.pack("<H", 20) + entry + bytes(14) + name.encode()
    end = struct.pack("<HHHHIIH", 0, 0, 1, 1, len(listed), max(0, size - 22 - len(listed)), 0)
    suffix = _END_OF_STREAM + listed + b"PK\x05\x06" + end
    head, tail = len(prefix) + UNIT, UNIT + len(suffix)
    one, four, none = _literal(UNIT), _literal(4 * UNIT), _literal(0)
    take_head, take_tail = _literal(head), _literal(tail)
    again_head, again_four = _repeat(head, take_head[-1]), _repeat_four()
    again_tail = _repeat(tail, suffix[-1])
    last = none + none + again_four + take_tail
    return b"".join(
        (
            prefix,
            take_head + prefix + take_head,
            again_head,
            one + again_head,
            one + one,
            four + again_head + one + one + four,
            again_four,
            four + again_four + four + again_four + four,
            again_four,
            four + last,
            last,
            again_tail + suffix,
            again_tail + suffix,
        )
    )


def _literal(count: int) -> bytes:
    """Write: the next *count* bytes are output as they are."""
    return struct.pack("<BHH", 0, count, count ^ 0xFFFF)


def _repeat_four() -> bytes:
    """Write: the last four units again, in two halves."""
    return _block(_match(2 * UNIT, 4 * UNIT) * 2)


def _repeat(count: int, last: int) -> bytes:
    """Write: the last *count* bytes again, of which the last one is known."""
    literal = f"{last + 0x30:08b}" if last < 144 else f"{last - 144 + 0x190:09b}"
    return _block(_match(count - 1, count) + literal)


def _match(length: int, distance: int) -> str:
    """Return the bits of a match with the fixed codes, as they are in the stream."""
    code = 257
    for low, high, extra in _LENGTHS:
        if length <= high:
            bits = f"{code + (length - low >> extra) - 256:07b}" + _extra(length - low, extra)
            break
        code += high - low + 1 >> extra
    offset, power = distance - 1, (distance - 1).bit_length() - 2
    place = 2 * power + 2 + (offset >> power & 1)
    return f"{bits}{place:05b}" + _extra(offset, power)


def _extra(value: int, count: int) -> str:
    return "".join(str(value >> at & 1) for at in range(count))


def _block(codes: str) -> bytes:
    """Return a unit: a block with the fixed codes, which ends where a block of literals may begin."""
    bits = "010" + codes + "0000000"
    assert 8 * UNIT - 2 <= len(bits) <= 8 * UNIT, len(bits)
    return int(bits.ljust(8 * UNIT, "0")[::-1], 2).to_bytes(UNIT, "little")


def _fixed_point(function: Callable[[int], int]) -> int | None:
    """Return a value that an affine *function* of 32 bits does not change, if it has one."""
    constant = function(0)
    rows: dict[int, int] = {}
    columns = [function(1 << bit) ^ constant ^ 1 << bit for bit in range(32)]
    for row in range(32):
        value = sum((columns[bit] >> row & 1) << bit for bit in range(32))
        value |= (constant >> row & 1) << 32
        for pivot, known in rows.items():
            if value >> pivot & 1:
                value ^= known
        if not value & 0xFFFFFFFF:
            if value:
                return None
            continue
        pivot = (value & 0xFFFFFFFF).bit_length() - 1
        rows = {at: known ^ value if known >> pivot & 1 else known for at, known in rows.items()}
        rows[pivot] = value
    return sum((known >> 32 & 1) << pivot for pivot, known in rows.items())
